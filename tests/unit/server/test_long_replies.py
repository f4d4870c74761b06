"""A long answer that is encoded in pieces is the answer."""

from __future__ import annotations

import json

import pytest

from dstack.server.routes.reply import PIECE, reply_at_length


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
async def test_a_list_that_is_encoded_in_pieces_is_whole(count: int):
    fleets = [{"name": "a", "instances": [{"n": n} for n in range(count)]}, {"name": "b", "instances": []}]
    answer = await reply_at_length(fleets, "instances")
    assert json.loads(bytes(answer.body)) == fleets
