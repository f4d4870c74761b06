"""Tables on narrow screens."""

from dstack.cli.render.table import table

HEADERS = ("NAME", "RESOURCES", "STATUS", "PROBES", "ERROR")
ROW = ("dev", "cpu=2 mem=24GB disk=12GB", "running (inactive for 1s)", "", "")


def test_where_the_screen_is_narrow_empty_columns_go_before_a_cell_is_wrapped():
    assert table(HEADERS, [ROW], 64).splitlines() == [
        " NAME  RESOURCES                 STATUS",
        " dev   cpu=2 mem=24GB disk=12GB  running (inactive for 1s)",
    ]


def test_where_there_is_room_all_columns_are_shown():
    assert table(HEADERS, [ROW], 100).splitlines()[0].endswith("PROBES  ERROR")
