"""Ports, environment, mounts, files, repos, users, cron."""

from datetime import UTC, datetime

import pytest

from dstack.values.cron import next_instant, parse_cron
from dstack.values.env import parse_env
from dstack.values.grammar import Invalid
from dstack.values.mounts import parse_mount
from dstack.values.paths import parse_file, parse_repo
from dstack.values.ports import format_port, parse_port
from dstack.values.user import UnixUser, format_user, parse_user


@pytest.mark.parametrize(
    ("value", "local", "container"),
    [
        (8501, 8501, 8501),
        ("8501", 8501, 8501),
        ("80:8080", 80, 8080),
        ("*:8080", None, 8080),
        (" 80 : 8080 ", 80, 8080),
    ],
)
def test_ports_name_the_local_and_the_container_side(value, local, container):
    assert parse_port(value) == (local, container)


@pytest.mark.parametrize(
    "value", [0, 65536, "0", "a", "a:1", "1:a", "1:2:3", "", ":", "8080:*", None, True, 1.5, -1, []]
)
def test_other_ports_are_refused(value):
    with pytest.raises(Invalid, match="is not a port, expected"):
        parse_port(value)


def test_ports_are_shown_in_their_shortest_form():
    assert [format_port(parse_port(text)) for text in ("80:80", "80:81", "*:1")] == ["80", "80:81", "*:1"]


def test_an_environment_is_read_from_a_list_and_from_a_mapping():
    expected = {"A": "1=2", "B": "", "C": None}
    assert parse_env(["A=1=2", "B=", "C"]) == expected
    assert parse_env({"A": "1=2", "B": "", "C": {"key": "C"}}) == expected
    assert parse_env({"PORT": 8080}) == {"PORT": "8080"}
    assert parse_env(None) == {}


@pytest.mark.parametrize(
    ("value", "words", "at"),
    [
        (["A=1", "A=2"], "`A` is given twice", (1,)),
        (["A", "1B=2"], "has no legal name before its value", (1,)),
        (["=x"], "has no legal name", (0,)),
        ([{"A": "1"}], "write `NAME=value`, or take away the dashes", (0,)),
        ([1], "is a number, expected `NAME=value`", (0,)),
        ({"A": None}, "in the list form `- A` takes it from your environment", ("A",)),
        ({"A": True}, "`A` is a boolean in YAML, expected text: put the value in quotes", ("A",)),
        ({"A": ["x"]}, "`A` is a list, expected text", ("A",)),
        ({"a b": "x"}, "`a b` is not a name of an environment variable", ("a b",)),
        ({"A": "x\0y"}, "NUL", ("A",)),
        ("A=1", "is text, expected a list", ()),
        (5, "is a number, expected a list", ()),
    ],
)
def test_other_environments_are_refused_at_the_wrong_variable(value, words, at):
    with pytest.raises(Invalid, match=words) as refused:
        parse_env(value)
    assert refused.value.at == at


def test_a_value_without_its_name_is_never_shown():
    with pytest.raises(Invalid) as refused:
        parse_env(["hf_verysecrettoken-1"])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "mount"),
    [("vol:/data", ("vol", "/data", False)), ("/host:/data/", ("/host", "/data", True)), ("a/b:/c", None)],
)
def test_a_mount_with_a_slash_in_its_source_is_a_directory_of_the_host(text, mount):
    if mount is None:
        with pytest.raises(Invalid, match="`a/b` is not an absolute path"):
            parse_mount(text)
    else:
        assert parse_mount(text) == mount


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:/b:ro", "is not a mount"),
        ("a", "is not a mount"),
        ("a:", "is not a mount"),
        (5, "is not a mount"),
        ("a:data", "`data` is not an absolute path"),
        ("a:/x/../y", "has `..` in it"),
        ("a:/", "is the root"),
    ],
)
def test_other_mounts_are_refused_with_the_reason(text, words):
    with pytest.raises(Invalid, match=words):
        parse_mount(text)


@pytest.mark.parametrize(
    ("text", "local", "path"),
    [("data", "data", "data"), ("./a:/b", "./a", "/b"), ("~/a:b", "~/a", "b"), (r"C:\a:/b", r"C:\a", "/b")],
)
def test_files_go_to_the_same_path_unless_told(text, local, path):
    assert parse_file(text) == (local, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a file"),
        ("a:b:c", "is not a file"),
        (":b", "is not a file"),
        (None, "is not a file"),
        (r"C:\a", "is not a path in the container"),
        ("~joe/a", "another user's home"),
    ],
)
def test_other_files_are_refused_with_the_reason(text, words):
    with pytest.raises(Invalid, match=words):
        parse_file(text)


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        (".", (".", None, None)),
        ("../code:/code", ("../code", None, "/code")),
        ("https://github.com/a/b.git", (None, "https://github.com/a/b.git", None)),
        ("https://github.com/a/b.git:/code", (None, "https://github.com/a/b.git", "/code")),
        ("https://host:8443/a/b", (None, "https://host:8443/a/b", None)),
        ("git@github.com:a/b.git", (None, "git@github.com:a/b.git", None)),
        ("git@github.com:a/b.git:~/b", (None, "git@github.com:a/b.git", "~/b")),
        ("ssh://git@host:22/a", (None, "ssh://git@host:22/a", None)),
    ],
)
def test_repos_are_local_directories_or_addresses(text, repo):
    assert parse_repo(text) == repo


@pytest.mark.parametrize("text", ["", "a:b:c", None, 5, "~joe/x", ":x"])
def test_other_repos_are_refused(text):
    with pytest.raises(Invalid, match="expected"):
        parse_repo(text)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("ubuntu", UnixUser(username="ubuntu")),
        ("1000", UnixUser(uid=1000)),
        (1000, UnixUser(uid=1000)),
        ("1000:100", UnixUser(uid=1000, gid=100)),
        ("ubuntu:wheel", UnixUser(username="ubuntu", groupname="wheel")),
    ],
)
def test_users_are_names_or_ids_with_an_optional_group(text, user):
    assert parse_user(text) == user
    assert parse_user(format_user(user)) == user


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a user"),
        (":x", "empty user"),
        ("a:", "empty group"),
        ("a:b:c", "too many parts"),
        ("-1", "out of range"),
        ("--5", "leading `-`"),
        ("a b", "blanks"),
        (None, "is not a user"),
        ("99999999999", "out of range"),
    ],
)
def test_other_users_are_refused_with_the_reason(text, words):
    with pytest.raises(Invalid, match=words):
        parse_user(text)


@pytest.mark.parametrize(
    "text", ["* * * * *", "0  8 * * mon-fri", "*/15 0-6,8 1 jan,jul 0", ["0 0 * * *", "0 1 * * *"]]
)
def test_cron_expressions_have_five_fields(text):
    assert parse_cron(text) == (tuple(text) if isinstance(text, list) else " ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "has 1 field,"),
        ("60 * * * *", "is not a minute"),
        ("* * * 13 *", "is not a month"),
        ("* 5-3 * * *", "is not a hour"),
        ("*/0 * * * *", "is not a minute"),
        ("mon * * * *", "is not a minute, expected 0 to 59, "),
        ("0 8 * * mon-fry", "`mon-fry` is not a day of week, expected 0 to 6, mon to sun, "),
        ("0 8 * june *", "`june` is not a month, expected 1 to 12, jan to dec, "),
        ("0 0 30 feb *", "never comes"),
        ([], "is empty"),
        (5, "not a cron expression"),
    ],
)
def test_other_cron_expressions_are_refused_with_the_wrong_field(text, words):
    with pytest.raises(Invalid, match=words):
        parse_cron(text)


@pytest.mark.parametrize(
    ("written", "then"),
    [
        ("0 8 * * *", "2026-11-22T08:00"),
        ("*/15 * * * *", "2026-11-21T12:45"),
        ("0 8 * * 0", "2026-11-23T08:00"),  # Monday is 0
        ("0 8 * * 6", "2026-11-22T08:00"),  # Sunday is 6
        ("0 8 * * mon-fri", "2026-11-23T08:00"),
        ("0 8 * * sat,sun", "2026-11-22T08:00"),
        ("0 8 * * */3", "2026-11-22T08:00"),  # Monday, Thursday, Sunday
        ("0 8 * * tue/2", "2026-11-24T08:00"),
        ("0 0 29 feb *", "2028-02-29T00:00"),
        ("0 0 25 * mon", "2026-11-23T00:00"),  # either day
        (("0 8 * * *", "40 12 * * *"), "2026-11-21T12:40"),
    ],
)
def test_the_next_instant_of_a_schedule_is_the_first_that_any_line_names_in_utc(written, then):
    now = datetime(2026, 11, 21, 12, 30, 0, 500, tzinfo=UTC)  # a Saturday
    assert datetime.fromtimestamp(next_instant(written, now.timestamp()), UTC).isoformat()[:16] == then


def test_the_instant_itself_is_not_the_next_one():
    assert next_instant("0 * * * *", 3600.0) == 7200.0
