"""What differs between two specifications, in words."""

from __future__ import annotations

from dstack.cli.changes import differences
from support import wire_json as wire


def test_equal_specifications_have_no_differences():
    assert differences(wire.spec(), wire.spec()) == []


def test_absent_null_and_empty_are_the_same():
    assert differences(wire.spec(image=None, ports=[]), wire.spec()) == []


def test_changed_properties_are_named():
    assert differences(wire.spec(priority=1), wire.spec(priority=2, image="x")) == [
        "- Configuration properties:",
        "  - image",
        "  - priority",
    ]


def test_the_same_files_uploaded_again_are_no_change():
    old = wire.spec() | {"file_archives": [{"id": wire.an_id(1), "path": ".", "hash": "h"}]}
    new = wire.spec() | {"file_archives": [{"id": wire.an_id(2), "path": ".", "hash": "h"}]}
    assert differences(old, new) == []
    new["file_archives"][0]["hash"] = "other"
    assert differences(old, new) == ["- Files"]


def test_a_profile_that_changes_is_named_by_its_properties():
    old = wire.spec() | {"profile": {"name": "default", "max_price": 1.0}}
    new = wire.spec() | {"profile": {"name": "other", "max_price": 2.0}}
    assert differences(old, new) == ["- Profile properties:", "  - max_price"]
