"""SSH keys that people bring."""

from __future__ import annotations

import pytest

from dstack.server.auth.keys import new_key_pair
from support.http_api import Api

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPu6cCVE0WVyVG/qqfGFK/cSJEiZ1vp9zqfBSkSn7bq"


async def add(api: Api, key: str, name: str | None = None, status: int = 200):
    return await api.call("/api/users/public_keys/add", {"key": key, "name": name}, status=status)


async def test_an_added_key_is_listed_with_its_type_and_fingerprint(api: Api) -> None:
    made = await add(api, f"{KEY} ann@laptop\n")
    assert (made["name"], made["type"]) == ("ann@laptop", "ssh-ed25519")
    assert len(made["fingerprint"]) == len("SHA256:") + 43
    assert await api.call("/api/users/public_keys/list") == [made]


async def test_a_key_is_added_once_whatever_its_comment(api: Api) -> None:
    await add(api, f"{KEY} one", "first")
    answer = await add(api, f"{KEY} two", status=400)
    assert answer["detail"][0]["code"] == "resource_exists"


async def test_people_see_and_delete_their_own_keys_only(api: Api) -> None:
    ann = await api.user("ann")
    made = await add(api, KEY)
    assert await ann.call("/api/users/public_keys/list") == []
    await ann.call("/api/users/public_keys/delete", {"ids": [made["id"]]})
    assert len(await api.call("/api/users/public_keys/list")) == 1
    assert await api.call("/api/users/public_keys/delete", {"ids": [made["id"]]}) is None
    assert await api.call("/api/users/public_keys/list") == []


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "ssh-rsa AAAA", KEY.replace("ed25519 ", "rsa "), f"{KEY}\n{KEY}", KEY[:-8], f'command="sh" {KEY}'],
)
async def test_what_is_no_public_key_is_refused(api: Api, text: str) -> None:
    assert (await add(api, text, status=400))["detail"][0]["code"] == "error"


async def test_a_private_key_is_refused_and_not_repeated(api: Api) -> None:
    private = new_key_pair("x").private
    answer = await add(api, private, status=400)
    assert answer["detail"][0]["msg"] == "That is a private key"
    assert private.splitlines()[1] not in str(answer)
