"""`profiles.yml`: what it may say, and which profile of it holds."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.profiles import choose_profile, read_profiles
from dstack.model.profile import Profile

NEAR = (Profile(name="cheap", max_price=1), Profile(name="usual", default=True))
FAR = (Profile(name="cheap", max_price=2), Profile(name="mine", default=True))


def chosen(*, files=(NEAR, FAR), name=None, none=False, **environ):
    profile = choose_profile(files, name=name, none=none, environ=environ)
    return profile and (profile.name, profile.max_price)


def refusal(text):
    with pytest.raises(ConfigurationError) as refused:
        read_profiles(text, "p.yml")
    return refused.value


def test_profiles_are_read_in_order_with_all_parameters_of_a_run():
    text = "profiles:\n- {name: a, max_duration: 1h, schedule: {cron: 0 0 * * *}}\n- {name: b, default: true}\n"
    profiles = read_profiles(text, "p.yml").profiles
    assert [(profile.name, profile.default, profile.max_duration) for profile in profiles] == [
        ("a", False, 3600), ("b", True, None),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "profiles:\n", "profiles: []\n"])
def test_a_file_without_profiles_is_legal(text):
    assert read_profiles(text, "p.yml").profiles == ()


def test_an_old_form_in_a_profile_is_told_at_its_line():
    reading = read_profiles("profiles:\n- name: a\n  pool_name: p\n", "p.yml")
    assert reading.profiles[0].fleets[0].name == "p"
    assert reading.notices == ("p.yml:3:3: `pool_name` is an old form, write `fleets: [p]`",)


def test_all_problems_of_all_profiles_are_said_at_once():
    error = refusal("profiles:\n- {name: a, max_pricee: 1}\n- {spot_policy: x}\n- x\n- {name: b, retry_policy: {a: 1}}")
    assert error.message.splitlines() == [
        "p.yml:2:13: profiles[0].max_pricee: unknown key",
        "p.yml:3:3: profiles[1].name: is missing, expected a name",
        "p.yml:3:17: profiles[1].spot_policy: `x` is not legal, expected one of `spot`, `on-demand`, `auto`",
        "p.yml:4:3: profiles[2]: is text, expected a mapping with a `name`",
        "p.yml:5:31: profiles[3].retry_policy.a: unknown key, expected `retry` instead of `retry_policy`",
    ]
    assert "profiles[0].max_pricee: did you mean `max_price`?" in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "p.yml:1:1: profiles: is a list at the top, expected `profiles:` and a list"),
        ("profile: []\n", "p.yml:1:1: profile: unknown key, expected `profiles`"),
        ("profiles: {a: 1}\n", "p.yml:1:11: profiles: is a mapping, expected a list: write `- ` before each profile"),
        ("profiles: [{name: a}, {name: a}]", "p.yml:1:30: profiles[1].name: `a` is used twice"),
        (
            "profiles: [{name: a, default: true}, {name: b, default: true}]",
            "p.yml:1:57: profiles[1].default: is a second default profile",
        ),
    ],
)
def test_a_wrong_file_is_refused_at_its_place(text, message):
    assert refusal(text).message.startswith(message)


def test_the_default_profile_of_the_nearer_file_holds_where_none_is_named():
    assert chosen() == ("usual", None)
    assert chosen(files=((), FAR)) == ("mine", None)
    assert chosen(files=()) is None


def test_a_named_profile_of_the_nearer_file_holds():
    assert chosen(name="cheap") == ("cheap", 1)
    assert chosen(name="mine") == ("mine", None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"none": True, "name": "cheap"}, None),
        ({"name": "cheap", "DSTACK_NO_PROFILE": "1", "DSTACK_PROFILE": "mine"}, ("cheap", 1)),
        ({"DSTACK_NO_PROFILE": "1", "DSTACK_PROFILE": "cheap"}, None),
        ({"DSTACK_PROFILE": "cheap"}, ("cheap", 1)),
        ({"DSTACK_NO_PROFILE": "", "DSTACK_PROFILE": ""}, ("usual", None)),
    ],
)
def test_flags_beat_the_environment_and_none_beats_a_name_at_each_level(given, expected):
    assert chosen(**given) == expected


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(ConfigurationError) as refused:
        chosen(DSTACK_PROFILE="chep")
    assert (refused.value.message, refused.value.hint) == (
        "No such profile: chep", "known profiles: cheap, usual, mine",
    )  # fmt: skip
