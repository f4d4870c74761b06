"""Waiting for the hosts of an SSH fleet, a line for each as soon as it is known how it went."""

from __future__ import annotations

import time
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


def hosts_of(fleet: Json) -> int:
    """How many hosts the fleet names; 0: it is no SSH fleet."""
    return len((fleet["spec"]["configuration"].get("ssh_config") or {}).get("hosts") or ())


def wait_for_hosts(client: Client, fleet: Json) -> Json:
    """The fleet once every host is in use or cannot be; a line is said for each."""
    status, started = StatusLine(), time.monotonic()
    told = {i["id"] for i in fleet["instances"] if is_fit(i)}  # in use before
    try:
        while True:
            waited = time.monotonic() - started
            for instance in _news(fleet, told):
                status.clear()
                say(ready(instance, waited) if is_fit(instance) else unfit(instance))
            open_ = hosts_of(fleet) - sum(1 for i in _of_hosts(fleet) if is_settled(i))
            if open_ <= 0 or fleet["status"] != "active" or waited > LIMIT_S:
                return fleet
            status.tell(f"Provisioning... {open_} of {hosts_of(fleet)} hosts")
            time.sleep(POLL_S if waited < 15 else SLOW_POLL_S)
            fleet = client.fleets.get(id=fleet["id"])
    finally:
        status.clear()


def show_hosts(fleet: Json, options: Options) -> int:
    """The table at the end, and the exit code: 1 when a host cannot be used."""
    bad = [i for i in _of_hosts(fleet) if not is_fit(i)]
    missing = hosts_of(fleet) - len(_of_hosts(fleet))
    problem = fleet.get("status_message")
    put_json(fleet) if options.json else put(fleets_table([fleet], time.time(), width=width()))
    if problem:
        error(problem)
    if bad:
        hosts = ", ".join(str(i["x_host"]) for i in bad)
        error(
            f"{len(bad)} of {hosts_of(fleet)} hosts cannot be used: {hosts}",
            "mend them; for 10 minutes the server looks again by itself, later `dstack apply` does",
        )
    elif missing > 0:
        error(f"{missing} hosts are not set up yet", f"`dstack why {fleet['name']}` tells more")
    return 1 if bad or missing > 0 or problem else 0


def _news(fleet: Json, told: set[str]) -> list[Json]:
    news = [i for i in _of_hosts(fleet) if is_settled(i) and i["id"] not in told]
    told |= {i["id"] for i in news}
    return news


def _of_hosts(fleet: Json) -> list[Json]:
    """The instances that stay; those on their way out are of hosts that were removed."""
    return [i for i in fleet["instances"] if i["status"] != "terminating"]
