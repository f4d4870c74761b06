"""`dstack server doctor` as it is typed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from dstack.server.auth.sealing import open_cipher
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from support.cli_process import Cli


async def make(settings: Settings) -> None:
    settings.sqlite_path.parent.mkdir(parents=True)
    await upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    await open_cipher(database, settings.data_dir / "encryption.key", ())
    await database.close()


def test_a_server_that_is_well_gets_a_line_for_each_check(bare: Cli, tmp_path: Path):
    folder = tmp_path / "server"
    asyncio.run(make(Settings(data_dir=folder)))
    result = bare.run("server", "doctor", env={"DSTACK_SERVER_DIR": str(folder), "DSTACK_SERVER_PORT": "1"})
    lines = [line.split()[:2] for line in result.out.splitlines() if line[:4] in ("ok  ", "FAIL")]
    assert ["ok", "schema"] in lines and ["ok", "encryption"] in lines
    assert result.code == (1 if ["FAIL", "disk"] in lines else 0)


def test_what_is_wrong_makes_the_exit_code_one(bare: Cli, tmp_path: Path):
    folder = tmp_path / "server"
    asyncio.run(make(Settings(data_dir=folder)))
    (folder / "encryption.key").unlink()
    result = bare.run("server", "doctor", "--json", env={"DSTACK_SERVER_DIR": str(folder), "DSTACK_SERVER_PORT": "1"})
    assert result.code == 1
    checks = {one["name"]: one for one in json.loads(result.out)["checks"]}
    assert checks["encryption"]["ok"] is False
    assert "is missing" in checks["encryption"]["message"]


def test_a_folder_without_a_server_is_told(bare: Cli, tmp_path: Path):
    result = bare.run("server", "doctor", env={"DSTACK_SERVER_DIR": str(tmp_path / "nowhere")})
    assert result.code == 1
    assert "There is no server database" in result.err
