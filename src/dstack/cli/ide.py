"""Links that open a dev environment in an IDE of this machine."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from dstack.cli.way_in import Way
from dstack.values.ide import ide_link, ide_name

Json = dict[str, Any]


def links(run: Json, way: Way) -> list[str]:
    """The lines that show the link of a dev environment; none for anything else."""
    configuration = run["run_spec"]["configuration"]
    ide = configuration.get("ide")
    if configuration.get("type") != "dev-environment" or not ide:
        return []
    folder = quote(way.folder if way.folder.startswith("/") else "/")
    return [f"To open in {ide_name(ide)}, use this link:", "", f"  {ide_link(ide, way.alias, folder)}", ""]
