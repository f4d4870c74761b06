"""Who may call what: every cell of docs/reference/permissions.md, on one server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.backends.local.backend import LocalBackend
from support.http_api import TOKEN, Api, FirstStart, client_of, standing_still
from support.product import ROOT

DOCUMENT = ROOT / "docs" / "reference" / "permissions.md"
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in DOCUMENT.read_text().splitlines() if "|" in line]
ROLES = ROWS[0][1:-1]
CELLS = [(row[0], role, cell) for row in ROWS[2:] for role, cell in zip(ROLES, row[1:-1], strict=True)]
# Turned off here, so only an admin of the server finds the path; tests/http/test_rules.py turns it on.
OFF = "GET `/metrics`"


class Door:
    """One server with a person of each role; a call answers the status."""

    def __init__(self, folder: Path, first_started: FirstStart, machine: LocalBackend):
        self._runner = asyncio.Runner()
        self._still = standing_still(folder, first_started, machine)
        self._people: dict[str, Api] = {}
        self._runner.run(self._open())

    async def _open(self) -> None:
        parts = await self._still.__aenter__()
        self._client = client_of(parts)
        admin = Api(await self._client.__aenter__(), parts, TOKEN)
        self._people = {
            "global admin": await admin.user("root", global_role="admin"),
            "project admin": await admin.user("pia", "admin"),
            "manager": await admin.user("mia", "manager"),
            "user": await admin.user("ulf", "user"),
            "non-member": await admin.user("nora"),
            "global user": await admin.user("gus"),
            "anonymous": admin.having(None),
            "revoked": await admin.user("rex", "admin"),
        }
        await self._people["non-member"].call("/api/projects/create", {"project_name": "elsewhere"})
        await admin.call("/api/users/refresh_token", {"username": "rex"})

    def knock(self, call: str, role: str) -> int:
        method, path = call.replace("`", "").split()
        path = path.format(project_name="main", run_name="none", backend_name="none", path="none")
        body = None if method == "GET" else {}
        return self._runner.run(self._people[role].raw(path, body, method=method)).status_code

    def close(self) -> None:
        self._runner.run(self._client.__aexit__(None, None, None))
        self._runner.run(self._still.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture(scope="module")
def door(
    tmp_path_factory: pytest.TempPathFactory, first_started: FirstStart, this_machine: LocalBackend
) -> Iterator[Door]:
    one = Door(tmp_path_factory.mktemp("roles") / "server", first_started, this_machine)
    yield one
    one.close()


@pytest.mark.parametrize(("call", "role", "cell"), CELLS, ids=[f"{role}: {call}" for call, role, _ in CELLS])
def test_role(door: Door, call: str, role: str, cell: str) -> None:
    status = door.knock(call, role)
    assert status != 500
    if call == OFF:
        assert status == (200 if role == "global admin" else 404)
    elif cell == "yes":
        # Let in: the body is empty, so what follows may well be a complaint about that.
        assert status not in (401, 403)
    else:
        assert status == int(cell)


def test_the_table_and_the_document_of_the_api_are_up_to_date() -> None:
    script = ROOT / "scripts" / "reference-http"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"run {script.relative_to(ROOT)}: {done.stdout}{done.stderr}"
