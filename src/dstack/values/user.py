"""The user of a container: `user[:group]`, names or ids."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show

EXPECTED = "`user` or `user:group`, names or ids"
MAX_ID = 2**32 - 2


class UnixUser(NamedTuple):
    """Who a process runs as; ids and names exclude each other, all None is the image's user."""

    uid: int | None = None
    username: str | None = None
    gid: int | None = None
    groupname: str | None = None


def parse_user(value: Any) -> UnixUser:
    """Both parts of the text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{show(value)} is not a user, expected {EXPECTED}")
    parts = [part.strip() for part in value.split(":")]
    if len(parts) > 2:
        raise Invalid(f"{show(value)} has too many parts, expected {EXPECTED}")
    uid, username = _part(parts[0], "user", value)
    gid, groupname = _part(parts[1], "group", value) if len(parts) == 2 else (None, None)
    return UnixUser(uid, username, gid, groupname)


def format_user(user: UnixUser) -> str:
    """The canonical text."""
    owner = user.username if user.uid is None else str(user.uid)
    group = user.groupname if user.gid is None else str(user.gid)
    return f"{owner}:{group}" if group is not None else str(owner)


def _part(text: str, what: str, value: str) -> tuple[int | None, str | None]:
    if not text:
        raise Invalid(f"{show(value)} has an empty {what}, expected {EXPECTED}")
    if re.fullmatch(r"-?\d+", text, re.ASCII):
        number = int(text) if len(text) <= 11 else -1
        if not 0 <= number <= MAX_ID:
            raise Invalid(f"{show(value)} has a {what} id out of range, expected 0 to {MAX_ID}")
        return number, None
    if text.startswith("-") or any(char.isspace() or not char.isprintable() for char in text):
        raise Invalid(f"{show(value)} has a {what} name with blanks or a leading `-`, expected {EXPECTED}")
    return None, text
