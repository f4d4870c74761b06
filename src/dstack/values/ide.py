"""IDEs that open a run: what each is called, and the link under which it takes over from a terminal or browser."""

from __future__ import annotations

_IDES = {
    "vscode": ("VS Code", "vscode://vscode-remote/ssh-remote+"),
    "cursor": ("Cursor", "cursor://vscode-remote/ssh-remote+"),
    "windsurf": ("Windsurf", "windsurf://vscode-remote/ssh-remote+"),
    "zed": ("Zed", "zed://ssh/"),
}


def ide_name(ide: str) -> str:
    """What people call it. Raises KeyError."""
    return _IDES[ide][0]


def ide_link(ide: str, alias: str, folder: str) -> str:
    """`alias` is the name under which SSH knows the run, `folder` an absolute path in it. Raises KeyError."""
    return f"{_IDES[ide][1]}{alias}{folder}"
