"""The public client against a server that fails in every way: retries, deadlines, one connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dstack.api import Client, DstackError, InvalidCredentials, ResourceNotFound, ServerUnreachable
from dstack.errors import UsageError
from support import wire_json as wire
from support.wire_server import Hang, Lines, Raw, Status, WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    """How long the client would have waited."""
    return []


@pytest.fixture
def client(server: WireServer, pauses: list[float]) -> Iterator[Client]:
    with Client(server.url, "tok", "main", sleep=pauses.append) as client:
        yield client


def test_a_lost_connection_is_tried_again_three_times(client: Client, server: WireServer, pauses: list[float]):
    server.on("runs/get", Raw(), Raw(), Raw(), wire.run("done"))
    assert client.runs.get("t1")["status"] == "done"
    assert len(pauses) == 3


def test_a_server_that_stays_away_is_told_after_the_retries(client: Client, server: WireServer, pauses: list[float]):
    server.on("runs/get", Raw())
    with pytest.raises(ServerUnreachable, match="closed the connection"):
        client.runs.get("t1")
    assert len(server.requests) == 4


def test_a_submission_that_was_perhaps_received_is_not_sent_again(client: Client, server: WireServer):
    server.on("runs/apply", Raw())
    with pytest.raises(ServerUnreachable):
        client.runs.apply(wire.spec())
    assert len(server.requests) == 1


def test_several_calls_use_one_connection_without_a_pause(client: Client, server: WireServer, pauses: list[float]):
    server.on("runs/get", wire.run("done"))
    for _ in range(3):
        client.runs.get("t1")
    assert (len(server.requests), server.connections) == (3, 1)
    assert pauses == []


def test_a_silent_server_is_told_at_the_deadline_and_not_asked_again(server: WireServer):
    server.on("runs/get", Hang())
    with Client(server.url, "tok", timeout_s=0.2) as client, pytest.raises(ServerUnreachable, match="in time"):
        client.runs.get("t1")
    assert len(server.requests) == 1


def test_the_codes_of_the_api_are_errors_of_their_own(client: Client, server: WireServer):
    server.on("runs/get", Status(400, {"detail": [{"msg": "Run t1 not found", "code": "resource_not_exists"}]}))
    with pytest.raises(ResourceNotFound, match="Run t1 not found"):
        client.runs.get("t1")


def test_the_hint_of_the_server_comes_along(client: Client, server: WireServer):
    server.on("runs/get", Status(400, {"detail": [{"msg": "no", "code": "error"}], "hint": "try yes"}))
    with pytest.raises(DstackError) as refused:
        client.runs.get("t1")
    assert refused.value.hint == "try yes"


def test_a_followed_log_goes_on_after_a_cut_with_each_byte_once(client: Client, server: WireServer):
    server.on(
        "logs/follow",
        Lines([wire.log(0, b"abc")], "cut"),
        Raw(),
        Lines([{}, wire.log(3, b"def"), wire.log_end(6, lost=2)]),
    )
    pieces = list(client.logs.follow(wire.an_id(7), sleep=lambda _: None))
    assert b"".join(piece.data for piece in pieces) == b"abcdef"
    assert pieces[-1].lost == 2
    assert [body["offset"] for body in server.bodies("logs/follow")] == [0, 3, 3]


def test_a_log_of_a_server_that_stays_away_ends_after_the_patience(client: Client, server: WireServer):
    server.on("logs/follow", Raw())
    waited: list[float] = []
    with pytest.raises(ServerUnreachable):
        list(client.logs.follow(wire.an_id(7), patience_s=20, sleep=waited.append))
    assert 20 <= sum(waited) < 40


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:99999", "::::"])
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(UsageError, match="not the address of a server"):
        Client(url, "t")


def test_a_project_name_cannot_leave_its_place_in_the_path():
    with pytest.raises(UsageError, match="not a project name"):
        Client("http://h", "t", "../users")


def test_a_token_cannot_smuggle_headers():
    with pytest.raises(InvalidCredentials):
        Client("http://h", "a\r\nX-Evil: 1")
