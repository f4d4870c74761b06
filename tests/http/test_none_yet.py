"""Nouns of the public API that this release has none of answer as clients expect."""

from __future__ import annotations

import pytest

from support.http_api import Api

VOLUME = {"type": "volume", "name": "data", "backend": "aws", "region": "us-east-1", "size": "10GB"}
GATEWAY = {"type": "gateway", "name": "gate", "backend": "aws", "region": "us-east-1", "domain": "example.org"}


@pytest.mark.parametrize("path", ["/api/volumes/list", "volumes/list", "gateways/list", "templates/list"])
async def test_there_are_none(api: Api, path: str) -> None:
    assert await api.call(path, {}) == []


@pytest.mark.parametrize(
    "path", ["volumes/get", "gateways/get", "gateways/set_default", "gateways/set_wildcard_domain"]
)
async def test_a_name_is_not_found(api: Api, path: str) -> None:
    answer = await api.call(path, {"name": "x", "wildcard_domain": "*.example.org"}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


@pytest.mark.parametrize("path", ["volumes/delete", "gateways/delete"])
async def test_deleting_unknown_ones_is_no_error(api: Api, path: str) -> None:
    assert await api.call(path, {"names": ["x"]}) is None


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("volumes/create", {"configuration": VOLUME}, "volume"),
        ("gateways/create", {"configuration": GATEWAY}, "gateway"),
        ("gateways/get_plan", {"spec": {"configuration": GATEWAY}}, "gateway"),
        ("gateways/apply", {"plan": {"spec": {"configuration": GATEWAY}}, "force": False}, "gateway"),
    ],
)
async def test_making_one_is_refused_by_name(api: Api, path: str, body: dict, kind: str) -> None:
    answer = await api.call(path, body, status=400)
    assert answer["detail"][0]["code"] == "error"
    assert f"type: {kind} is not supported yet" in answer["detail"][0]["msg"]


async def test_a_wrong_volume_is_told_what_is_wrong_first(api: Api) -> None:
    answer = await api.call("volumes/create", {"configuration": VOLUME | {"sizee": 1}}, status=400)
    assert "sizee" in answer["detail"][0]["msg"]


@pytest.mark.parametrize("act", ["exports/create", "exports/update", "exports/delete", "exports/list", "imports/list"])
async def test_exports_are_not_supported(api: Api, act: str) -> None:
    answer = await api.call(act, {}, status=400)
    assert answer["detail"] == [{"msg": "This dstack server does not support exports", "code": "error"}]


async def test_there_is_no_sign_on_to_go_on_from(api: Api) -> None:
    answer = await api.having(None).call("/api/auth/get_next_redirect", {"code": "c", "state": "s"})
    assert answer == {"redirect_url": None}


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/"), ("PUT", "/a/b?c=d")])
async def test_a_service_that_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    answer = await api.having(None).call(f"/proxy/services/main/x{path}", method=method, status=404)
    assert answer == {"detail": "Service main/x not found"}


async def test_a_project_has_no_models_yet(api: Api) -> None:
    assert (await api.call("/proxy/models/main/models", method="GET"))["data"] == []
    body = {"model": "m", "messages": []}
    answer = await api.call("/proxy/models/main/chat/completions", body, status=404)
    assert answer["detail"] == "Model m not found"


async def test_numbers_for_prometheus_are_off_unless_turned_on(api: Api) -> None:
    assert (await api.having(None).raw("/metrics", method="GET")).status_code == 404
