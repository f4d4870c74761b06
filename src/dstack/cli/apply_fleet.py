"""Applying a fleet configuration: plan, question, creation, and waiting for its instances."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from dstack.api.client import Client
from dstack.cli import profiles
from dstack.cli.apply_hosts import show_hosts, wait_for_hosts
from dstack.cli.applying import Options, Prepared, agree, body, stop_if_refused, tell_notices
from dstack.cli.changes import differences
from dstack.cli.failures import INTERRUPTED, Quit
from dstack.cli.host_keys import with_keys
from dstack.cli.prompts import confirm
from dstack.cli.render.fleets import failed_instances, fleets_table, instance_status, missing_instances, settled
from dstack.cli.render.funnel import no_offers
from dstack.cli.render.hosts import host_changes
from dstack.cli.render.plan import fleet_plan
from dstack.cli.terminal import StatusLine, accent, error, put, put_json, say, width
from dstack.errors import DstackError, ResourceNotFound, UsageError
from dstack.model.configurations.fleet import FleetConfiguration

Json = dict[str, Any]

POLL_S = 0.25
SLOW_POLL_S = 1.0
DELETE_LIMIT_S = 600.0
CREATION_LIMIT_S = 15.0  # until the server has made the rows of the instances, or said why not


def plan_fleet(client: Client, prepared: Prepared, options: Options) -> Json:
    """Ask for the plan; the profile that holds gives what the file does not say."""
    configuration = prepared.configuration
    if isinstance(configuration, FleetConfiguration):
        configuration = with_keys(configuration, prepared.folder, prepared.at)
    spec = {
        "configuration": body(configuration),
        "configuration_path": prepared.path,
        "profile": profiles.chosen(options.profile, options.no_profile, os.environ) or {"name": "default"},
    }
    return client.fleets.plan(spec)


def show_fleet_plan(plan: Json, options: Options) -> None:
    """The plan as text."""
    put(fleet_plan(plan, max_offers=options.max_offers, width=width()))
    put()
    if not plan.get("offers") and not plan["spec"]["configuration"].get("ssh_config"):
        put("\n".join(no_offers(plan.get("x_report"))))
        put()
    tell_notices(plan)


def apply_fleet(client: Client, prepared: Prepared, options: Options) -> int:
    """The exit code of the command."""
    if options.json and not options.yes:
        raise UsageError("--json asks no questions", hint="add -y; `dstack plan --json` shows the plan")
    plan = plan_fleet(client, prepared, options)
    if options.json:
        tell_notices(plan)
    else:
        show_fleet_plan(plan, options)
    stop_if_refused(plan)
    fleet = _submitted(client, plan, options)
    if hosts := plan.get("x_hosts"):
        return _hosts(client, fleet, {host["host"] for host in hosts if host["state"] != "removed"}, options)
    if options.detach:
        put_json(fleet) if options.json else put("Fleet configuration submitted. Exiting...")
        return 0
    try:
        fleet = _wait(client, fleet)
    except KeyboardInterrupt:
        return _interrupted(client, fleet, options)
    return _shown(fleet, options)


def _hosts(client: Client, fleet: Json, wanted: set[str], options: Options) -> int:
    if options.detach:
        put_json(fleet) if options.json else put("Fleet configuration submitted. Exiting...")
        return 0
    try:
        return show_hosts(wait_for_hosts(client, fleet, wanted), wanted, options)
    except KeyboardInterrupt:
        return _interrupted(client, fleet, options)


def _submitted(client: Client, plan: Json, options: Options) -> Json:
    spec, current = plan["spec"], plan.get("current_resource")
    name = accent(str(spec["configuration"].get("name") or ""))
    if current is None:
        if name:
            say(f"Fleet {name} does not exist yet.")
        agree("Create the fleet?", options)
        return client.fleets.apply(spec, force=options.force)
    changes = differences(current["spec"], plan.get("effective_spec") or spec)
    if hosts := host_changes(plan.get("x_hosts") or []):
        only_hosts = ["- Configuration properties:", "  - ssh_config"]
        changes = hosts if changes == only_hosts else changes + hosts
    if changes and plan.get("action") == "update":
        say(f"Found fleet {name}. Configuration changes detected:")
        for change in changes:
            say(change)
        agree("Update the fleet in-place?", options)
        return client.fleets.apply(spec, current_resource=current, force=options.force)
    if not changes and options.yes and not options.force:
        say(f"Found fleet {name}.")
        say("No configuration changes detected. Use --force to apply anyway.")
        if options.json:
            put_json(current)
        raise Quit(0)
    say(
        f"Found fleet {name}. "
        + ("Configuration changes detected." if changes else "No configuration changes detected.")
    )
    for change in changes:
        say(change)
    agree("Re-create the fleet?", options)
    delete_and_wait(client, current["name"])
    return client.fleets.apply(spec, force=options.force)


def delete_and_wait(client: Client, name: str, instances: Sequence[int] = (), *, abandon: bool = False) -> None:
    """Delete a fleet, or some of its instances, and wait until that is gone. `abandon`: not for silent hosts."""
    status = StatusLine()
    if instances:
        client.fleets.delete_instances(name, instances, abandon=abandon)
    else:
        client.fleets.delete([name], abandon=abandon)
    what = f"instances {', '.join(map(str, instances))} of the fleet {name}" if instances else f"the fleet {name}"
    deadline = time.monotonic() + DELETE_LIMIT_S
    try:
        while time.monotonic() < deadline:
            try:
                fleet = client.fleets.get(name)
            except ResourceNotFound:
                return
            going = [i for i in fleet["instances"] if not instances or i["instance_num"] in instances]
            there = any(i["status"] != "terminated" for i in going)
            if fleet["status"] in ("terminated", "failed") or (instances and not there):
                return
            silent = [i["x_host"] for i in going if i.get("x_host") and i.get("unreachable")]
            more = f" {', '.join(silent)} does not answer; --abandon does not wait for it" if silent else ""
            status.tell(f"Deleting {what}...{more}")
            time.sleep(POLL_S)
    finally:
        status.clear()
    limit = f"{DELETE_LIMIT_S / 60:g} minutes"
    raise DstackError(f"Not gone after {limit}: {what}", hint=f"`dstack why {name}` tells what it waits for")


def _wait(client: Client, fleet: Json) -> Json:
    """The fleet once it has what it is to start with and no instance is on its way, or it says why that cannot be."""
    status, started = StatusLine(), time.monotonic()
    try:
        while not _is_ready(fleet, time.monotonic() - started):
            states = [instance_status(instance) for instance in fleet["instances"]] or ["to be created"]
            counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
            status.tell(f"Provisioning... {counts}")
            time.sleep(POLL_S if time.monotonic() - started < 10 else SLOW_POLL_S)
            fleet = client.fleets.get(id=fleet["id"])
    finally:
        status.clear()
    return fleet


def _is_ready(fleet: Json, waited_s: float) -> bool:
    if not settled(fleet):
        return False
    told = fleet.get("status_message") or failed_instances(fleet) or fleet["status"] != "active"
    return not missing_instances(fleet) or bool(told) or waited_s > CREATION_LIMIT_S


def _shown(fleet: Json, options: Options) -> int:
    failed, missing = failed_instances(fleet), missing_instances(fleet)
    if options.json:
        put_json(fleet)
    else:
        put(fleets_table([fleet], time.time(), verbose=bool(failed or missing), width=width()))
    if failed:
        say("Some instances failed. Check the table above for errors.")
    elif missing:
        error(
            fleet.get("status_message") or "Some instances were not created", f"`dstack why {fleet['name']}` tells more"
        )
        say("Provisioning will be retried in the background.")
    return 1 if failed or missing else 0


def _interrupted(client: Client, fleet: Json, options: Options) -> int:
    say()
    try:
        if not options.yes and confirm("Delete the fleet before exiting?", hint="no answer: the fleet stays"):
            client.fleets.delete([fleet["name"]])
            say(f"Fleet {fleet['name']} is being deleted")
            return INTERRUPTED
    except KeyboardInterrupt:
        pass  # a second Ctrl-C answers the question with no
    say("Exiting... Fleet provisioning will continue in the background.")
    return INTERRUPTED
