"""Uploads of archives, and repositories."""

from __future__ import annotations

import hashlib

from support.http_api import Api, task

DATA = b"some archive" * 100
HASH = hashlib.sha256(DATA).hexdigest()


async def upload(api: Api, data: bytes = DATA, name: str = HASH, status: int = 200):
    return await api.call("/api/files/upload_archive", files={"file": (name, data)}, status=status)


async def test_an_archive_is_kept_by_its_hash(api: Api) -> None:
    made = await upload(api)
    assert made["hash"] == HASH
    assert api.parts.blobs.path(HASH).read_bytes() == DATA
    assert await api.call("/api/files/get_archive_by_hash", {"hash": HASH}) == made


async def test_the_same_archive_is_the_same_upload(api: Api) -> None:
    assert await upload(api) == await upload(api)


async def test_an_archive_with_another_hash_is_refused_and_not_kept(api: Api) -> None:
    await upload(api, b"other", status=400)
    assert not api.parts.blobs.has(HASH)
    answer = await api.call("/api/files/get_archive_by_hash", {"hash": HASH}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


async def test_a_name_that_is_no_hash_is_refused(api: Api) -> None:
    answer = await upload(api, name="../../etc/passwd", status=400)
    assert answer["detail"][0]["msg"] == "The archive's hash is not a SHA-256 in lower-case hex"


async def test_an_archive_above_the_limit_is_refused(api: Api) -> None:
    data = bytes(api.parts.settings.code_upload_limit + 1)
    answer = await upload(api, data, hashlib.sha256(data).hexdigest(), status=400)
    assert "larger than the limit" in answer["detail"][0]["msg"]


async def test_a_run_brings_the_archives_that_it_names(api: Api) -> None:
    made = await upload(api)
    spec = task("true", name="t") | {"file_archives": [{"id": made["id"], "path": "/workspace"}]}
    run = await api.call("runs/apply", {"plan": {"run_spec": spec}})
    assert run["run_spec"]["file_archives"] == [{"id": made["id"], "path": "/workspace"}]


async def test_archives_of_others_cannot_be_named(api: Api) -> None:
    made = await upload(api)
    other = await api.user("other", "user")
    spec = task("true") | {"file_archives": [{"id": made["id"], "path": "."}]}
    answer = await other.call("runs/apply", {"plan": {"run_spec": spec}}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"
    await other.call("/api/files/get_archive_by_hash", {"hash": HASH}, status=400)


async def test_a_virtual_repo_is_registered(api: Api) -> None:
    body = {"repo_id": "none", "repo_info": {"repo_type": "virtual"}, "repo_creds": None}
    assert await api.call("repos/init", body) is None
    assert await api.call("repos/init", body) is None
    assert await api.call("repos/list") == [{"repo_id": "none", "repo_info": {"repo_type": "virtual"}}]
    assert (await api.call("repos/get", {"repo_id": "none", "include_creds": True}))["repo_creds"] is None
    assert await api.call("repos/delete", {"repos_ids": ["none"]}) is None
    answer = await api.call("repos/get", {"repo_id": "none", "include_creds": False}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


async def test_nouns_that_a_project_has_none_of_are_empty(api: Api) -> None:
    assert await api.call("volumes/list") == []
    assert await api.call("gateways/list", {"include_imported": True}) == []
    answer = await api.call("volumes/get", {"name": "v"}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"
    answer = await api.call("exports/list", status=400)
    assert "does not support exports" in answer["detail"][0]["msg"]


async def test_a_request_that_announces_or_sends_too_much_is_refused_before_it_is_kept(api: Api) -> None:
    async def endless():
        for _ in range(20):
            yield b" " * 1024 * 1024

    nobody = api.having(None)
    for content in (b" " * 9 * 1024 * 1024, endless()):
        response = await nobody.raw("runs/get", content=content)
        assert response.status_code == 400
        assert response.json()["detail"][0]["msg"].startswith("The request is larger than the limit")
