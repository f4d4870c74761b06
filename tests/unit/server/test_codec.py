"""Rows in columns."""

from __future__ import annotations

import json

from dstack.model.job import DropReason, Job, PlacementReport
from dstack.server.store.codec import decode, encode
from support.builders import job


def test_what_a_newer_server_wrote_is_read_without_what_this_one_does_not_know():
    placement = PlacementReport(at=1.0, drops=(DropReason(stage="create", reason="no capacity", nearest="a"),))
    row = job().replace(placement=placement)
    columns = encode(row)
    written = json.loads(columns["placement"])
    columns["placement"] = json.dumps({**written, "weather": "fair", "drops": [{**written["drops"][0], "since": 3}]})
    assert decode(Job, columns) == row
