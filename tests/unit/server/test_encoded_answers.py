"""An answer that is put together of JSON that was there is the answer, and leaves in blocks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dstack.server.routes.reply import reply_encoded
from dstack.server.services.wire.encoding import BLOCK, Encoded, encoded, encoded_list, encoded_object


async def sent(data: Encoded) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The headers and the parts of the body, as the other side gets them."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("an answer asks nothing")

    await reply_encoded(data)({"type": "http"}, receive, send)
    assert [one.get("more_body", False) for one in messages[1:]] == [True] * (len(messages) - 2) + [False]
    return dict(messages[0]["headers"]), [one["body"] for one in messages[1:]]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_list_of_encoded_members_is_the_list(count: int):
    members = [{"n": n} for n in range(count)]
    assert b"".join(encoded_list(encoded(one) for one in members).pieces) == encoded(members)


@pytest.mark.parametrize("fields", [{}, {"a": 1}, {"a": "ü", "b": [1, None], "c": {"d": 1.5}}])
def test_an_object_of_plain_values_is_the_object(fields: dict[str, Any]):
    assert b"".join(encoded_object(fields).pieces) == encoded(fields)


def test_an_object_holds_what_was_encoded_before_it():
    inner = encoded_object({"instances": encoded_list([b'{"n":1}', b'{"n":2}']), "name": "a"})
    plain = {"before": 1, "fleet": {"instances": [{"n": 1}, {"n": 2}], "name": "a"}, "after": []}
    assert b"".join(encoded_object(plain | {"fleet": inner}).pieces) == encoded(plain)


async def test_a_long_answer_leaves_in_blocks_and_says_before_how_long_it_is():
    members = [{"n": n, "text": "x" * 1000} for n in range(1000)]
    headers, bodies = await sent(encoded_list(encoded(one) for one in members))
    whole = b"".join(bodies)
    assert json.loads(whole) == members
    assert int(headers[b"content-length"]) == len(whole)
    assert headers[b"content-type"] == b"application/json"
    assert len(bodies) > 3 and max(map(len, bodies)) < BLOCK + 2000


async def test_text_that_is_no_legal_unicode_is_encoded_all_the_same():
    _, bodies = await sent(encoded_object({"message": "half \ud83d"}))
    assert json.loads(b"".join(bodies)) == {"message": "half ?"}
