"""Links that open a dev environment in an IDE of this machine."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from dstack.cli.way_in import Way

Json = dict[str, Any]

# What each is called, and the address under which it takes over from a terminal or browser.
IDES = {
    "vscode": ("VS Code", "vscode://vscode-remote/ssh-remote+{alias}{folder}"),
    "cursor": ("Cursor", "cursor://vscode-remote/ssh-remote+{alias}{folder}"),
    "windsurf": ("Windsurf", "windsurf://vscode-remote/ssh-remote+{alias}{folder}"),
    "zed": ("Zed", "zed://ssh/{alias}{folder}"),
}


def links(run: Json, way: Way) -> list[str]:
    """The lines that show the link of a dev environment; none for anything else."""
    configuration = run["run_spec"]["configuration"]
    if configuration.get("type") != "dev-environment" or configuration.get("ide") not in IDES:
        return []
    name, address = IDES[configuration["ide"]]
    link = address.format(alias=way.alias, folder=quote(way.folder if way.folder.startswith("/") else "/"))
    return [f"To open in {name}, use this link:", "", f"  {link}", ""]
