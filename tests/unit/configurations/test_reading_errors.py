"""What is said of documents that are not legal: file, line, column, field, and the nearest known key."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse, parse_profile, read, validate
from dstack.model.profile import ProfileRetry

TYPES = "`dev-environment`, `task`, `service`, `fleet`, `volume`, `gateway`"


def refusal(text):
    with pytest.raises(ConfigurationError) as refused:
        read(text, "t.yml")
    return refused.value


def test_all_problems_are_said_at_once_in_the_order_of_the_document():
    error = refusal("type: task\nmax_pricee: 3\nresources:\n  cpus: 2\n  gpu: 'A:'\ncommands: x\n")
    assert [line.split(" ")[:2] for line in error.message.splitlines()] == [
        ["t.yml:2:1:", "max_pricee:"],
        ["t.yml:4:3:", "resources.cpus:"],
        ["t.yml:5:8:", "resources.gpu:"],
        ["t.yml:6:11:", "commands:"],
    ]
    assert error.hint == "max_pricee: did you mean `max_price`?\nresources.cpus: did you mean `cpu`?"


def test_an_unknown_key_is_answered_with_the_nearest_known_one():
    error = refusal("type: task\ncommands: [a]\nmax-prise: 1\n")
    assert error.message == "t.yml:3:1: max-prise: unknown key"
    assert error.hint == "did you mean `max_price`?"


def test_an_unknown_key_of_a_small_section_lists_the_known_ones():
    error = refusal("type: task\ncommands: [a]\nresources: {xyz: 1}\n")
    assert error.message.endswith("unknown key, expected one of `cpu`, `memory`, `shm_size`, `gpu`, `disk`")


def test_a_key_in_the_wrong_place_is_answered_with_its_place():
    assert refusal("type: task\ncommands: [a]\ngpu: 24GB\n").hint == "`gpu` belongs under `resources`"
    assert refusal("type: fleet\nnodes: 1\nhosts: [a]\n").hint == "`hosts` belongs under `ssh_config`"


def test_a_wrong_word_is_answered_with_the_nearest_legal_one():
    error = refusal("type: task\ncommands: [a]\nspot_policy: sopt\n")
    assert error.message == "t.yml:3:14: spot_policy: `sopt` is not legal, expected one of `spot`, `on-demand`, `auto`"
    assert error.hint == "did you mean `spot`?"


def test_an_error_inside_a_list_is_at_its_item():
    assert refusal("type: task\ncommands:\n  - a\nenv:\n  - A=1\n  - A=2\n").message.startswith(
        "t.yml:6:5: env[1]: `A`"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.yml:1:1: configuration: is empty, expected at least `type: task` or `type: fleet`"),
        ("# nothing\n", "t.yml:1:1: configuration: is empty, expected at least `type: task` or `type: fleet`"),
        ("- a\n", "t.yml:1:1: configuration: is a list at the top, expected a mapping of keys to values"),
        ("echo", "t.yml:1:1: configuration: is text at the top, expected a mapping of keys to values"),
        ("name: a\n", f"t.yml:1:1: type: is missing, expected one of {TYPES}"),
        ("type: tsk\n", f"t.yml:1:7: type: `tsk` is not a type of configuration, expected one of {TYPES}"),
        ("type: [a]\n", f"t.yml:1:7: type: `[...]` is not a type of configuration, expected one of {TYPES}"),
        (
            "a: b: c",
            "t.yml:1:5: a `:` where none can be; check the indentation, and put text that holds `: ` in quotes",
        ),
        ("type: task\n\tname: x", "t.yml:2:1: a tab is used for indentation, expected spaces"),
        ("type: task\nname: a\nname: b\n", "t.yml:3:1: `name` is given twice, in lines 2 and 3"),
        ("a: [1\nb: 2", "t.yml:2:2: the `[` of line 1 is not closed, expected `,` or `]`"),
        ("a: {b: 1\nc: 2", "t.yml:2:2: the { of line 1 is not closed, expected `,` or `}`"),
        ("a:\n  'x\nb: c", "t.yml:3:5: the quoted text that starts in line 2 is not closed"),
        ("a: 1\n---\nb: 1", "t.yml:2:1: a second document starts here, expected one to a file"),
        ("a: *b", "t.yml:1:4: an alias whose anchor (`&name`) is not there"),
        ("a: @b", "t.yml:1:4: a value cannot start with this character; put it in quotes"),
        ("a: !!python/name:os.system x", "t.yml:1:4: the YAML tag `python/name:os.system` is not understood"),
        ("a: !!set {b}", "t.yml:1:4: the YAML tag `set` is not understood"),
        ("? [a]\n: b", "t.yml:1:3: a list or mapping is used as a key, expected text before the `:`"),
        ("%YAML 3.0\n---\na: 1", "t.yml:1:1: a YAML version that is not supported, expected 1.1 or 1.2"),
        ("a: 1\nb: \x00", "t.yml:2:4: character U+0000 is not text"),
        (b"\xff\xfe\x00\x01", "t.yml:1:1: is not UTF-8 text"),
        (b"type: task\nname: caf\xe9\n", "t.yml:2:10: is not UTF-8 text"),
        ("type: task\nname x\ncommands: [a]\n", "t.yml:2:1: a key without its `:`"),
        ('a: "\\UFFFFFFFF"', "t.yml:1:7: broken escape in text"),
        ("a: " + "[" * 3000, "t.yml:1:43: nested more than 40 levels deep"),
        ("x" * 300_000, "t.yml:1:1: is longer than 256 KiB, which no configuration needs"),
        ("a: &a [*a]", "t.yml:1:4: too large once its anchors and aliases are expanded"),
        ("a: &a {<<: *a}", "t.yml:1:4: too large once its anchors and aliases are expanded"),
        ("<<: 5", "t.yml:1:5: `<<` merges something else than a mapping"),
    ],
)
def test_a_broken_file_is_explained_in_plain_words(text, message):
    assert refusal(text).message == message


def test_aliases_that_grow_without_bound_are_refused():
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    error = refusal("\n".join(["l0: &l0 [x, x]", *levels]))
    assert "too large once its anchors and aliases are expanded" in error.message


def test_merges_that_grow_without_bound_are_refused():
    levels = [f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    error = refusal("\n".join(["l0: &l0 {x: y}", *levels]))
    assert "too large once its anchors and aliases are expanded" in error.message


def test_anchors_and_merges_work():
    text = "type: task\nresources: &r\n  cpu: 4\ngroups:\n- commands: [a]\n  resources: {<<: *r, memory: 4GB}\n"
    group = read(text, "t.yml").configuration.groups[0]
    assert group.resources.pretty() == "cpu=4.. mem=4GB.. disk=100GB.. gpu=0.."


def test_a_file_may_start_with_a_byte_order_mark_and_have_windows_line_ends():
    assert read(b"\xef\xbb\xbftype: task\r\ncommands:\r\n  - a\r\n", "t.yml").configuration.commands == ("a",)


def test_a_missing_type_is_guessed():
    assert refusal("nodes: 1\n").hint == "add a line `type: fleet`"
    assert refusal("commands: [a]\n").hint == "add a line `type: task`"


def test_data_from_elsewhere_has_the_same_messages_without_lines():
    with pytest.raises(ConfigurationError) as refused:
        parse({"type": "task", "commands": ["a"], "max_pricee": 3}, "run_spec.configuration")
    assert refused.value.message == "run_spec.configuration: max_pricee: unknown key"
    assert refused.value.hint == "did you mean `max_price`?"


@pytest.mark.parametrize("data", [None, [], "x", 5, {}, {"type": None}, {"type": {}}, {5: 6, "type": "task"}])
def test_data_that_is_no_configuration_at_all_is_refused(data):
    with pytest.raises(ConfigurationError):
        parse(data, "body")


def test_data_nested_too_deep_is_refused():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="nested too deep"):
        parse({"type": "task", "commands": deep}, "body")


def test_a_profile_is_as_strict_as_a_configuration():
    assert parse_profile({"name": "p", "pool_name": "x"}, "profile").fleets[0].name == "x"
    with pytest.raises(ConfigurationError) as refused:
        parse_profile({"name": "p", "max_pricee": 3}, "profile")
    assert refused.value.message == "profile: max_pricee: unknown key"


def test_data_of_other_models_is_refused_in_the_same_words():
    assert validate(ProfileRetry, {"duration": "1h"}, "retry").duration == 3600
    with pytest.raises(ConfigurationError) as refused:
        validate(ProfileRetry, {"duration": "1h", "on_event": []}, "retry")
    assert (refused.value.message, refused.value.hint) == (
        "retry: on_event: unknown key, expected one of `on_events`, `duration`",
        "did you mean `on_events`?",
    )


def test_a_key_that_is_no_text_is_shown_as_it_is():
    with pytest.raises(ConfigurationError, match="`null` is not a name of an environment variable"):
        parse({"type": "task", "commands": ["a"], "env": {None: 1}}, "body")
