"""Encryption keys: where they come from, which one seals, and what a newer one does to what is stored."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from dstack.errors import DstackError, UsageError
from dstack.model.configurations.server_config import read_server_config
from dstack.server.auth.cipher import KEY_FILE, Cipher, load_keys
from dstack.server.auth.sealing import open_cipher
from dstack.server.services.configured import with_file
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.tables import metadata, user

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32


async def started(folder: Path, *keys: bytes) -> tuple[Database, Cipher]:
    url = f"sqlite:///{folder / 'db'}"
    await upgrade(url)
    database = Database(url)
    return database, await open_cipher(database, folder / "encryption.key", keys)


async def store(database: Database, cipher: Cipher) -> None:
    row = {"id": "u", "username": "ann", "global_role": "user", "token_hash": "t", "active": True, "created_at": 1.0}
    async with database.write() as connection:
        await connection.execute(insert(user).values(**row, ssh_private_key=cipher.encrypt(b"key of ann")))


SEALED = [(table, column) for table in metadata.sorted_tables for column in table.columns if column.info.get("sealed")]


async def store_everywhere(database: Database, cipher: Cipher) -> None:
    """One row of every table that holds something sealed, and of those that it refers to."""
    wanted = {table for table, _ in SEALED}
    for table in reversed(metadata.sorted_tables):
        wanted |= {key.column.table for key in table.foreign_keys} if table in wanted else set()
    values = {str: "x", float: 1.0, bool: True, bytes: cipher.encrypt(b"hush")}
    async with database.write() as connection:
        for table in (one for one in metadata.sorted_tables if one in wanted):
            columns = [c for c in table.columns if not c.nullable or c.info.get("sealed")]
            await connection.execute(insert(table).values({c.name: values[c.type.python_type] for c in columns}))


async def stored(database: Database) -> bytes:
    async with database.read() as connection:
        return (await connection.execute(select(user.c.ssh_private_key))).scalar_one()


async def test_a_newer_key_takes_over_so_that_the_older_one_can_go(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path, OLD)
    await store(database, cipher)
    await database.close()
    database, _ = await started(tmp_path, NEW, OLD)
    assert Cipher(NEW).decrypt(await stored(database)) == b"key of ann"
    await database.close()
    database, cipher = await started(tmp_path, NEW)
    assert cipher.decrypt(await stored(database)) == b"key of ann"
    await database.close()


async def test_a_newer_key_seals_what_any_table_holds(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path, OLD)
    await store_everywhere(database, cipher)
    await database.close()
    database, _ = await started(tmp_path, NEW, OLD)
    async with database.read() as connection:
        found = [(table.name, (await connection.execute(select(column))).scalar_one()) for table, column in SEALED]
    await database.close()
    assert {"user", "secret", "backend"} <= {name for name, _ in found}
    assert [name for name, sealed in found if Cipher(NEW).decrypt(sealed) != b"hush"] == []


async def test_keys_of_the_settings_take_over_from_the_key_file(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path)
    await store(database, cipher)
    await database.close()
    database, _ = await started(tmp_path, NEW)
    assert Cipher(NEW).decrypt(await stored(database)) == b"key of ann"
    await database.close()


async def test_a_wrong_key_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path, OLD)
    await store(database, cipher)
    before = await stored(database)
    await database.close()
    with pytest.raises(DstackError, match="cannot be decrypted"):
        await started(tmp_path, OTHER)
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    assert await stored(database) == before
    await database.close()


def test_a_key_file_has_its_newest_key_first(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    path.write_text(f"{NEW.hex()}\n{OLD.hex()}\n")
    assert load_keys(path, [OTHER], may_create=False) == [OTHER, NEW, OLD]


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31, f"{'ab' * 32}\nabcd"])
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "encryption.key"
    path.write_text(text)
    with pytest.raises(DstackError, match="is damaged"):
        load_keys(path, [], may_create=True)


def test_a_key_that_is_gone_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(DstackError, match="is missing"):
        load_keys(tmp_path / "encryption.key", [], may_create=False)


def test_a_made_key_file_is_for_the_server_alone(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    assert len(load_keys(path, [], may_create=True)[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_keys_of_the_environment_are_read_in_base64_and_hexadecimal() -> None:
    env = {"DSTACK_SERVER_ENCRYPTION_KEYS": f"{base64.b64encode(NEW).decode()}, {OLD.hex()}", "HOME": "/nowhere"}
    settings = Settings.from_env(env)
    assert settings.encryption_keys == (NEW, OLD)
    assert "nnnn" not in repr(settings)


def test_a_wrong_key_of_the_environment_is_named_by_its_number_only() -> None:
    with pytest.raises(UsageError) as caught:
        Settings.from_env({"DSTACK_SERVER_ENCRYPTION_KEYS": f"{OLD.hex()},c2VjcmV0", "HOME": "/nowhere"})
    assert "key 2 " in caught.value.message
    assert "c2VjcmV0" not in caught.value.message


def test_the_servers_file_gives_keys_and_permissions(tmp_path: Path) -> None:
    text = f"""
encryption:
  keys:
  - {{type: aes, name: new, secret: {base64.b64encode(NEW).decode()}}}
  - {{type: identity}}
default_permissions: {{allow_non_admins_create_projects: false}}
"""
    settings = with_file(Settings(tmp_path, encryption_keys=(OTHER,)), read_server_config(text, "config.yml"))
    assert settings.encryption_keys == (OTHER, NEW, KEY_FILE)
    assert (settings.rules.non_admins_create_projects, settings.rules.managers_manage_secrets) == (False, True)


async def test_an_identity_key_before_the_others_gives_the_sealing_back_to_the_key_file(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path, OLD)
    await store(database, cipher)
    await database.close()
    database, _ = await started(tmp_path, KEY_FILE, OLD)
    await database.close()
    database, cipher = await started(tmp_path)
    assert cipher.decrypt(await stored(database)) == b"key of ann"
    await database.close()


async def test_an_identity_key_behind_the_others_opens_what_the_key_file_sealed(tmp_path: Path) -> None:
    database, cipher = await started(tmp_path, KEY_FILE)
    await store(database, cipher)
    await database.close()
    database, _ = await started(tmp_path, NEW, KEY_FILE)
    assert Cipher(NEW).decrypt(await stored(database)) == b"key of ann"
    await database.close()


async def test_a_key_file_that_nobody_needs_is_not_made(tmp_path: Path) -> None:
    database, _ = await started(tmp_path, NEW, KEY_FILE)
    await database.close()
    assert not (tmp_path / "encryption.key").exists()


@pytest.mark.parametrize("text", ["{}", "default_permissions: {}"])
def test_managers_manage_secrets_where_the_file_does_not_say_it(tmp_path: Path, text: str) -> None:
    assert with_file(Settings(tmp_path), read_server_config(text, "c.yml")).rules.managers_manage_secrets


def test_managers_lose_secrets_where_the_file_says_so(tmp_path: Path) -> None:
    text = "default_permissions: {allow_managers_manage_secrets: false}"
    assert not with_file(Settings(tmp_path), read_server_config(text, "c.yml")).rules.managers_manage_secrets


def test_every_column_of_bytes_is_sealed_with_the_cipher() -> None:
    plain = {f"{t.name}.{c.name}" for t in metadata.sorted_tables for c in t.columns if _bytes(c) and not c.info}
    assert plain == {"meta.value"}  # the proof of the key itself, which is sealed anew with the rest


def _bytes(column) -> bool:
    return re.search("BLOB|BINARY", str(column.type).upper()) is not None
