"""Memory, durations and ranges: what is understood, and what is said when it is not."""

import pytest

from dstack.values.duration import format_duration, parse_duration, parse_idle_duration, parse_off_duration
from dstack.values.grammar import Invalid
from dstack.values.memory import format_memory, parse_memory
from dstack.values.ranges import Bounds, format_range, parse_int, parse_range


@pytest.mark.parametrize(
    ("text", "gigabytes"),
    [
        ("80GB", 80),
        ("80G", 80),
        ("80gb", 80),
        (" 80 GB ", 80),
        ("80", 80),
        (80, 80),
        (0.5, 0.5),
        ("512MB", 0.5),
        ("512m", 0.5),
        ("1TB", 1024),
        ("1.5TB", 1536),
        ("0", 0),
        (".5GB", 0.5),
    ],
)
def test_memory_is_read_in_gigabytes(text, gigabytes):
    assert parse_memory(text) == gigabytes


@pytest.mark.parametrize(
    "text",
    ["", "GB", "-1GB", "80KB", "80GiB", "1e9GB", "8 0 X", "80GB..", True, None, [], float("nan"), float("inf"), -1],
)
def test_other_memory_is_refused_with_an_example(text):
    with pytest.raises(Invalid, match="expected a size such as `512MB`, `80GB` or `1TB`"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("gigabytes", "text"),
    [(8.0, "8GB"), (0.5, "512MB"), (1.5, "1.5GB"), (1024.0, "1024GB"), (0.3, "0.3GB"), (0, "0GB")],
)
def test_memory_is_shown_in_its_shortest_form(gigabytes, text):
    assert format_memory(gigabytes) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("1w2d3h4m5s", 788645),
        ("0s", 0),
        ("0", 0),
        ("90 s", 90),
        ("5M", 300),
        (5.0, 5),
    ],
)
def test_durations_are_read_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5x", "m", "30m1h", "1.5h", "h1", "off", True, None, [], 1.5, "5m5", "1h1h"])
def test_other_durations_are_refused_with_an_example(text):
    with pytest.raises(Invalid, match="expected a duration such as `90s`, `5m`, `1h30m` or `2d`"):
        parse_duration(text)


@pytest.mark.parametrize("text", [-1, "-1", "-5s"])
def test_a_negative_duration_is_named_as_such(text):
    with pytest.raises(Invalid, match="is negative"):
        parse_duration(text)


def test_a_duration_of_centuries_is_refused():
    with pytest.raises(Invalid, match="longer than 100 years"):
        parse_duration("99999999999w")


@pytest.mark.parametrize(
    ("value", "meaning"), [("off", "off"), ("OFF", "off"), (False, "off"), (True, None), (None, None), ("1h", 3600)]
)
def test_a_duration_that_can_be_off_knows_off_and_the_default(value, meaning):
    assert parse_off_duration(value) == meaning


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("off", -1), (False, -1), (-1, -1), ("-1", -1), (-7, -1), (True, None), (None, None), ("0s", 0), ("3d", 259200)],
)
def test_an_idle_duration_below_zero_means_never(value, meaning):
    assert parse_idle_duration(value) == meaning


def test_the_message_of_a_duration_that_can_be_off_says_so():
    with pytest.raises(Invalid, match=r"or `off`$"):
        parse_off_duration("never")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (90, "1m30s"), (300, "5m"), (5400, "1h30m"), (259200, "3d"), (-1, "off")]
)
def test_durations_are_shown_with_their_largest_units_first(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "bounds"),
    [("1..3", (1, 3)), ("1..", (1, None)), ("..3", (None, 3)), (" 1 .. 3 ", (1, 3)), ("2", (2, 2)), (2, (2, 2))],
)
def test_ranges_are_read_with_open_ends(text, bounds):
    assert parse_range(text, parse_int) == bounds


def test_a_single_value_can_mean_at_least():
    assert parse_range("4", parse_int, single="at-least") == Bounds(4, None)


def test_a_range_without_ends_is_refused_where_it_would_say_nothing():
    with pytest.raises(Invalid, match=r"`\.\.` is an empty range"):
        parse_range("..", parse_int)
    assert parse_range("..", parse_int, empty=True) == Bounds(None, None)


@pytest.mark.parametrize("text", ["3..1", "80..24"])
def test_a_range_the_wrong_way_round_is_refused(text):
    with pytest.raises(Invalid, match="wrong way round, expected the lower bound first"):
        parse_range(text, parse_int)


@pytest.mark.parametrize("text", ["a..b", "1...3", "1..2..3", "-1", "1.5", True, None, [], 10**30])
def test_what_is_no_range_of_whole_numbers_is_refused(text):
    with pytest.raises(Invalid):
        parse_range(text, parse_int)


def test_a_range_is_shown_as_it_would_be_written():
    assert [format_range(*ends) for ends in [(1, 3), (1, None), (None, 3), (2, 2)]] == ["1..3", "1..", "..3", "2"]
