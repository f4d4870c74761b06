"""Names, references, tags, suggestions and references in text."""

import itertools

import pytest

from dstack.values.grammar import Invalid, show
from dstack.values.interpolate import interpolate, references
from dstack.values.names import format_reference, parse_name, parse_reference, parse_tags, random_name
from dstack.values.suggest import did_you_mean, nearest


@pytest.mark.parametrize("name", ["a", "lazy-mouse-1", "a" * 41])
def test_names_have_one_to_41_characters(name):
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a_b", "a" * 42, "a\n", "ä", None, 5])
def test_other_names_are_refused(name):
    with pytest.raises(Invalid, match="expected 1 to 41 characters"):
        parse_name(name)


def test_a_random_name_is_legal_and_takes_the_first_free_number():
    name = random_name(lambda n: n - 1)
    assert parse_name(name).endswith("-1")
    taken = {name, name[:-1] + "2"}
    assert random_name(lambda n: n - 1, taken) == name[:-1] + "3"


def test_every_random_name_is_legal():
    for step in range(200):
        numbers = itertools.cycle([step % 90, step])
        parse_name(random_name(lambda n, numbers=numbers: next(numbers) % n))


def test_references_may_name_a_project():
    assert parse_reference("fleet") == ("fleet", None)
    assert parse_reference("team/fleet") == ("fleet", "team")
    assert format_reference(parse_reference("team/fleet")) == "team/fleet"


@pytest.mark.parametrize("text", ["", "a/", "/a", "a/b/c", None, "x y/z"])
def test_other_references_are_refused(text):
    with pytest.raises(Invalid, match="expected `name` or `project/name`"):
        parse_reference(text)


def test_tags_are_checked_key_by_key():
    assert parse_tags({"team": "a b", "n": 5}) == {"team": "a b", "n": "5"}
    with pytest.raises(Invalid, match="`a b` is not a tag key"):
        parse_tags({"a b": "x"})
    with pytest.raises(Invalid, match="is not a tag value") as refused:
        parse_tags({"a": "x\ny"})
    assert refused.value.at == ("a",)


def test_the_nearest_key_ignores_case_and_dashes():
    known = ["max_price", "max_duration", "spot_policy"]
    assert nearest("max_pricee", known) == "max_price"
    assert nearest("Spot-Policy", known) == "spot_policy"
    assert did_you_mean("zzz", known) is None


def test_values_are_shown_on_one_short_line():
    assert show("a\nb\x07") == "`a\\nb?`"
    assert show("x" * 100) == f"`{'x' * 57}...`"
    assert show(10**5000).startswith("`a number of 5")


def test_references_in_text_are_replaced():
    values = {"run.args": "--fast", "env.A": "1"}
    assert interpolate("go ${{ run.args }} ${{env.A}}!", values.get) == "go --fast 1!"
    assert references("${{ a.b }} ${{ c.d }} ${{ a.b }}") == ["a.b", "c.d"]


def test_a_doubled_dollar_escapes_a_reference_and_is_else_left_to_the_shell():
    assert interpolate("$${{ a.b }} $$ $${HOME}", {}.get) == "${{ a.b }} $$ $${HOME}"
    assert references("$${{ a.b }}") == []


def test_references_of_a_later_pass_stay_as_written():
    kept = interpolate(
        "${{ env.A }} ${{ secrets.S }} $${{ x }}", {"env.A": "1"}.get, keep=lambda n: n.startswith("secrets.")
    )
    assert kept == "1 ${{ secrets.S }} $${{ x }}"


def test_a_value_that_looks_like_a_reference_is_not_read_again():
    assert interpolate("${{ a.b }}", {"a.b": "${{ c.d }}"}.get) == "${{ c.d }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${{ run.x }} ${{ run.y }}", "Failed to interpolate due to missing vars: ['run.x', 'run.y']"),
        ("a ${{ run.args", "No pattern closing: ${{ run.args"),
        ("${{ args }}", "Illegal reference name: args"),
        ("${{ a.b.c }}", "Illegal reference name: a.b.c"),
        ("${{ }}", "Illegal reference name: "),
    ],
)
def test_wrong_references_are_refused_in_the_documented_words(text, message):
    with pytest.raises(Invalid) as refused:
        interpolate(text, {}.get)
    assert str(refused.value) == message
