"""Waiting for the hosts of an SSH fleet, a line for each as soon as it is known how it went."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from dstack.api.client import Client
from dstack.cli.applying import Options
from dstack.cli.render.fleets import fleets_table
from dstack.cli.render.hosts import is_fit, is_settled, ready, unfit
from dstack.cli.terminal import StatusLine, error, put, put_json, say, width

Json = dict[str, Any]

POLL_S = 0.2
SLOW_POLL_S = 1.0
LIMIT_S = 660.0  # the server gives a host ten minutes


def wait_for_hosts(client: Client, fleet: Json, wanted: Collection[str]) -> Json:
    """The fleet once each of the hosts `wanted` is in use or cannot be; a line is said for each."""
    status, started = StatusLine(), time.monotonic()
    over = {i["id"] for i in fleet["instances"] if i["status"] == "terminated"}  # new ones follow
    told = over | {i["id"] for i in fleet["instances"] if is_fit(i)}  # in use before
    try:
        while True:
            waited = time.monotonic() - started
            hosts = [i for i in _of_hosts(fleet, wanted) if i["id"] not in over]
            for instance in _news(hosts, told):
                status.clear()
                say(ready(instance, waited) if is_fit(instance) else unfit(instance))
            open_ = len(wanted) - sum(1 for i in hosts if is_settled(i))
            if open_ <= 0 or fleet["status"] != "active" or waited > LIMIT_S:
                return fleet
            status.tell(f"Provisioning... {open_} of {len(wanted)} hosts")
            time.sleep(POLL_S if waited < 15 else SLOW_POLL_S)
            fleet = client.fleets.get(id=fleet["id"])
    finally:
        status.clear()


def show_hosts(fleet: Json, wanted: Collection[str], options: Options) -> int:
    """The table at the end, and the exit code: 1 when a host cannot be used."""
    hosts = _of_hosts(fleet, wanted)
    bad = [i for i in hosts if not is_fit(i)]
    missing = len(wanted) - len(hosts)
    problem = fleet.get("status_message")
    put_json(fleet) if options.json else put(fleets_table([fleet], time.time(), width=width()))
    if problem:
        error(problem)
    if bad:
        error(
            f"{len(bad)} of {len(wanted)} hosts cannot be used: {', '.join(str(i['x_host']) for i in bad)}",
            "mend them; for 10 minutes the server looks again by itself, later `dstack apply` does",
        )
    elif missing > 0:
        error(f"{missing} hosts are not set up yet", f"`dstack why {fleet['name']}` tells more")
    return 1 if bad or missing > 0 or problem else 0


def _news(hosts: Sequence[Json], told: set[str]) -> list[Json]:
    news = [i for i in hosts if is_settled(i) and i["id"] not in told]
    told |= {i["id"] for i in news}
    return news


def _of_hosts(fleet: Json, wanted: Collection[str]) -> list[Json]:
    """The instances of these hosts, without those on their way out."""
    return [i for i in fleet["instances"] if i["x_host"] in wanted and i["status"] != "terminating"]
