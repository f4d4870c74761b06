"""Repositories: what clients register, each person's credentials, uploaded differences."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from dstack.server.store.tables import repo_creds
from support.http_api import Api
from support.wire_json import spec

CANARY = "ghp_canary4711"
REMOTE = {"repo_type": "remote", "repo_name": "lab"}
CREDS = {"clone_url": "https://example.org/lab.git", "oauth_token": CANARY}


async def init(api: Api, creds: dict | None = None, repo_id: str = "lab", info: dict = REMOTE, status: int = 200):
    return await api.call("repos/init", {"repo_id": repo_id, "repo_info": info, "repo_creds": creds}, status=status)


async def test_credentials_are_shown_to_whom_they_belong_when_asked_for(api: Api) -> None:
    ann = await api.user("ann", "user")
    await init(api, CREDS)
    found = await api.call("repos/get", {"repo_id": "lab", "include_creds": True})
    assert found["repo_creds"] == CREDS | {"private_key": None}
    assert (await api.call("repos/get", {"repo_id": "lab", "include_creds": False}))["repo_creds"] is None
    assert (await ann.call("repos/get", {"repo_id": "lab", "include_creds": True}))["repo_creds"] is None


async def test_credentials_are_sealed_and_of_one_person_each(api: Api) -> None:
    ann = await api.user("ann", "user")
    await init(api, CREDS)
    await init(ann, {"clone_url": "ssh://git@example.org/lab", "private_key": "anns"})
    async with api.parts.database.read() as connection:
        sealed = (await connection.execute(select(repo_creds.c.value))).scalars().all()
    assert len(sealed) == 2
    assert not any(CANARY.encode() in one for one in sealed)
    assert (await api.call("repos/get", {"repo_id": "lab", "include_creds": True}))["repo_creds"] == CREDS | {
        "private_key": None
    }


async def test_registering_again_without_credentials_forgets_them(api: Api) -> None:
    await init(api, CREDS)
    await init(api)
    assert (await api.call("repos/get", {"repo_id": "lab", "include_creds": True}))["repo_creds"] is None


async def test_repositories_are_listed_and_deleted_with_their_credentials(api: Api) -> None:
    await init(api, CREDS)
    await init(api, repo_id="none", info={"repo_type": "virtual"})
    assert [one["repo_id"] for one in await api.call("repos/list")] == ["lab", "none"]
    assert await api.call("repos/delete", {"repos_ids": ["lab", "unknown"]}) is None
    assert [one["repo_id"] for one in await api.call("repos/list")] == ["none"]
    answer = await api.call("repos/get", {"repo_id": "lab", "include_creds": True}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


async def test_information_that_is_not_whole_is_a_422(api: Api) -> None:
    await init(api, info={"repo_type": "remote"}, status=422)
    await init(api, info={"repo_type": "cvs"}, status=422)


async def test_a_difference_is_kept_under_its_hash(api: Api) -> None:
    await init(api)
    data = b"a difference"
    name = hashlib.sha256(data).hexdigest()
    for _ in range(2):
        answer = await api.raw("repos/upload_code", params={"repo_id": "lab"}, files={"file": (name, data)})
        assert (answer.status_code, answer.json()) == (200, None)
    assert api.parts.blobs.path(name).read_bytes() == data


async def test_a_difference_of_an_unknown_repository_or_another_hash_is_refused(api: Api) -> None:
    await init(api)
    for repo_id, name in (("unknown", hashlib.sha256(b"x").hexdigest()), ("lab", "0" * 64)):
        answer = await api.raw("repos/upload_code", params={"repo_id": repo_id}, files={"file": (name, b"x")})
        assert answer.status_code == 400
        assert not api.parts.blobs.has(name)


async def test_a_run_takes_local_changes_of_its_own_repository_alone(api: Api) -> None:
    await init(api)
    await init(api, repo_id="other")
    data = b"changes of another repository"
    name = hashlib.sha256(data).hexdigest()
    brought = spec("r") | {"repo_id": "lab", "repo_data": REMOTE, "repo_code_hash": name}
    for repo_id, status in (("other", 400), ("lab", 200)):
        await api.call("repos/upload_code", params={"repo_id": repo_id}, files={"file": (name, data)})
        answer = await api.call("runs/apply", {"plan": {"run_spec": brought}, "force": False}, status=status)
        assert status == 200 or "local changes of repo lab" in answer["detail"][0]["msg"]
