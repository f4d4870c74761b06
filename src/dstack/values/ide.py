"""IDEs that open a run: what each is called, the link under which it takes over, and how a version of it is written."""

from __future__ import annotations

import re
from typing import NamedTuple

_IDES = {
    "vscode": ("VS Code", "vscode://vscode-remote/ssh-remote+"),
    "cursor": ("Cursor", "cursor://vscode-remote/ssh-remote+"),
    "windsurf": ("Windsurf", "windsurf://vscode-remote/ssh-remote+"),
    "zed": ("Zed", "zed://ssh/"),
}
_NUMBER = r"(?P<number>[0-9][\w.+-]*)"
_COMMIT = r"(?P<commit>[0-9a-f]{40})"
_BOTH = f"{_NUMBER}@(?P<commit>[0-9a-f]{{7,64}})"
# By what each vendor's downloads are found. A number alone may look like a commit: commits are tried first.
_FORMS = {
    "vscode": (_COMMIT, _BOTH, _NUMBER),
    "cursor": (_COMMIT, _BOTH),
    "windsurf": (_BOTH,),
    "zed": (_NUMBER,),
}
_EXPECTED = {
    "vscode": "1.95.3, COMMIT or 1.95.3@COMMIT",
    "cursor": "COMMIT or VERSION@COMMIT, which `cursor --version` prints",
    "windsurf": "VERSION@COMMIT",
    "zed": "a version such as 0.181.6",
}


class ServerVersion(NamedTuple):
    """Which server an IDE asks for; one of the two may be "", where the other one finds it."""

    number: str
    commit: str

    @property
    def shown(self) -> str:
        return self.number or self.commit[:10]


def ide_name(ide: str) -> str:
    """What people call it. Raises KeyError."""
    return _IDES[ide][0]


def ide_link(ide: str, alias: str, folder: str) -> str:
    """`alias` is the name under which SSH knows the run, `folder` an absolute path in it. Raises KeyError."""
    return f"{_IDES[ide][1]}{alias}{folder}"


def server_version(ide: str, written: str) -> ServerVersion | None:
    """The server that `version: WRITTEN` names; None when the IDE's servers are not found by that. Raises KeyError."""
    for form in _FORMS[ide]:
        if match := re.fullmatch(form, written, re.ASCII):
            found = match.groupdict()
            return ServerVersion(found.get("number", ""), found.get("commit", ""))
    return None


def expected_version(ide: str) -> str:
    """In words, how `version` is written so that a server is found by it. Raises KeyError."""
    return _EXPECTED[ide]
