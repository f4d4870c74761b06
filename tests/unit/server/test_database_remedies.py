"""What a person is told to do about a database that cannot be opened."""

from dstack.server.store.trouble import remedy

FILE = "sqlite:////srv/dstack/sqlite.db"


def test_only_a_damaged_file_is_said_to_want_a_backup():
    assert "restore a backup" in remedy(FILE, "The database cannot be used: the file is damaged")
    assert "restore a backup" not in remedy(FILE, "The database cannot be used: its disk is full")


def test_a_full_disk_is_looked_at_with_the_doctor():
    assert "/srv/dstack/sqlite.db; `dstack server doctor`" in remedy(
        FILE, "The database cannot be used: its disk is full"
    )
