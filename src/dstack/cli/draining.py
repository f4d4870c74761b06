"""Waiting until what runs on instances that take no new jobs has ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from dstack.api.client import Client
from dstack.cli.terminal import StatusLine

Json = dict[str, Any]
POLL_S = 1.0


def runs_on(fleet: Json, nums: Sequence[int]) -> list[str]:
    """Names of the runs with a job on these instances; no numbers are all."""
    return sorted({run for one in _chosen(fleet, nums) for run in one.get("x_runs") or ()})


def wait_until_empty(client: Client, fleet: Json, nums: Sequence[int]) -> Json:
    """The fleet once nothing runs on these instances any more. Ctrl-C leaves them as they are, taking no new jobs."""
    status = StatusLine()
    try:
        while runs := runs_on(fleet, nums):
            status.tell(f"Waiting for {', '.join(runs)}; `dstack fleet drain --stop` does not wait")
            time.sleep(POLL_S)
            fleet = client.fleets.get(id=fleet["id"])
        return fleet
    finally:
        status.clear()


def _chosen(fleet: Json, nums: Sequence[int]) -> list[Json]:
    return [one for one in fleet["instances"] if not nums or one["instance_num"] in nums]
