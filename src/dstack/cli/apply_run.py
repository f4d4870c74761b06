"""Applying a run configuration: plan, question, submission, and what follows."""

from __future__ import annotations

import os
import time
from typing import Any

from dstack.api.client import Client
from dstack.cli import profiles
from dstack.cli.applying import Options, Prepared, agree, body, has_fleets, stop_if_refused, tell_notices
from dstack.cli.attach_home import public_key_of
from dstack.cli.attached import Attached
from dstack.cli.changes import differences
from dstack.cli.entrance import Entrance, Wish
from dstack.cli.failures import INTERRUPTED, Quit
from dstack.cli.forwards import check_free
from dstack.cli.packing import DEFAULT_LIMIT_BYTES
from dstack.cli.render import runs as words
from dstack.cli.render.funnel import MAKE_A_FLEET, NO_FLEETS, hosts, no_offers
from dstack.cli.render.plan import run_plan
from dstack.cli.terminal import StatusLine, accent, put, put_json, say, style, width
from dstack.cli.uploading import upload_files
from dstack.errors import ConfigurationError, DstackError, UsageError
from dstack.model.configurations import FleetConfiguration
from dstack.values.ports import Port

Json = dict[str, Any]

WATCH_S = 30.0


def plan_run(client: Client, prepared: Prepared, options: Options) -> Json:
    """Upload what the run brings along and ask for the plan."""
    from dstack.cli.editor_version import completed

    configuration = completed(prepared.configuration)
    assert not isinstance(configuration, FleetConfiguration)
    profile = profiles.chosen(options.profile, options.no_profile, os.environ)
    spec = {
        "run_name": configuration.name,
        **_repository(client, prepared, options),
        "file_archives": upload_files(client, prepared, _upload_limit()),
        "working_dir": None,
        "configuration_path": prepared.path,
        "configuration": body(configuration),
        "profile": profile,
        "ssh_key_pub": None if options.ssh_identity is None else public_key_of(options.ssh_identity),
    }
    return client.runs.plan(
        spec, max_offers=options.max_offers, full_offers=options.full_offers, unallocated=options.unallocated
    )


def show_run_plan(client: Client, plan: Json, options: Options) -> None:
    """The plan as text; when nothing fits, why."""
    put(run_plan(plan, verbose=options.verbose, width=width()))
    put()
    if not plan["job_plans"][0].get("offers"):
        if has_fleets(client):
            put("\n".join(no_offers(plan.get("x_report"), unfold=None if options.verbose else "-v")))
        else:
            put(f"{style(NO_FLEETS, 'red')}\n\n{MAKE_A_FLEET}")
        put()
    elif others := hosts(plan.get("x_report")):
        put("\n".join([*others, ""]) if options.verbose else f" {_folded(plan['x_report'])}\n")
    tell_notices(plan)


def apply_run(client: Client, prepared: Prepared, options: Options) -> int:
    """The exit code of the command."""
    if options.json and not options.yes:
        raise UsageError("--json asks no questions", hint="add -y; `dstack plan --json` shows the plan")
    plan = plan_run(client, prepared, options)
    if options.json:
        tell_notices(plan)
    else:
        show_run_plan(client, plan, options)
    stop_if_refused(plan)
    if not options.detach:
        _check_ports(prepared, options)
    run, verb = _submitted(client, plan, options)
    if options.detach:
        if options.json:
            put_json(run)
        else:
            put(f"Run {words.name(run)} {verb}, detaching...")
        return 0
    say(f"Run {accent(words.name(run))} {verb}")
    attached = Attached(client, run, assume_yes=options.yes, show_log=not options.json)
    wish = Wish(host=options.host, identity=options.ssh_identity, aside=True, log_shown=not options.json)
    attached.entrance = Entrance(client.fork(), wish, attached.events)
    code = attached.follow()
    if options.json:
        put_json(attached.run)
    return code


def _folded(report: Json) -> str:
    count = len(report["hosts"]) + report["more_hosts"]
    return f"{count} other host{' does' if count == 1 else 's do'} not fit now; -v tells why"


def _check_ports(prepared: Prepared, options: Options) -> None:
    """Raises DstackError when one is taken: better told before the machine is there than after."""
    for port in getattr(prepared.configuration, "ports", ()):
        if port.local_port is not None:
            try:
                check_free(Port(port.local_port, port.container_port), options.host)
            except DstackError as e:
                raise DstackError(f"Failed to submit: {e.message}", hint=e.hint) from None


def _upload_limit() -> int:
    limit = os.environ.get("DSTACK_SERVER_CODE_UPLOAD_LIMIT", "")
    return int(limit) if limit.isdigit() and int(limit) else DEFAULT_LIMIT_BYTES


def _repository(client: Client, prepared: Prepared, options: Options) -> Json:
    """What the specification says of the repository, which is on its way then."""
    from dstack.cli.repos import bring

    written = next(iter(getattr(prepared.configuration, "repos", ())), None)
    try:
        return bring(client, written, prepared.folder, options.repo, _upload_limit()).fields()
    except ConfigurationError as error:
        where = prepared.at("repos", 0)
        if error.message.startswith("repos: ") or not where:
            raise
        raise ConfigurationError(where + error.message, hint=error.hint) from None


def _submitted(client: Client, plan: Json, options: Options) -> tuple[Json, str]:
    """The run and what happened to it: submitted or updated."""
    spec, current = plan["run_spec"], plan.get("current_resource")
    if current is None or words.finished(current):
        name = spec.get("run_name")
        agree(f"Submit the run {accent(name)}?" if name else "Submit a new run?", options)
        return _sent(client, spec, current, options), "submitted"
    if _updates(plan, current, options):
        return _sent(client, spec, current, options), "updated"
    current = _stopped(client, current)
    return _sent(client, spec, current, options), "submitted"


def _sent(client: Client, spec: Json, current: Json | None, options: Options) -> Json:
    """The run that the server made of it. Who presses Ctrl-C now cannot know whether it did."""
    try:
        return client.runs.apply(spec, current_resource=current, force=options.force)
    except KeyboardInterrupt:
        say("Cancelled by user\nhint: the run may have been submitted; `dstack ps` shows it")
        raise Quit(INTERRUPTED) from None


def _updates(plan: Json, current: Json, options: Options) -> bool:
    """Ask about a run that is active: whether it is updated in place (else it is to be stopped and overridden)."""
    name = accent(words.name(current))
    say(f"Active run {name} already exists.")
    changes = differences(current["run_spec"], plan.get("effective_run_spec") or plan["run_spec"])
    if not changes:
        say("Detected no changes.")
        if options.yes and not options.force:
            say("Use --force to apply anyway.")
            raise Quit(0)
        agree("Stop and override the run?", options)
        return False
    in_place = plan["action"] == "update"
    say(f"Detected changes that {'can' if in_place else 'cannot'} be updated in-place:")
    for change in changes:
        say(change)
    agree("Update the run?" if in_place else "Stop and override the run?", options)
    return in_place


def _stopped(client: Client, run: Json) -> Json:
    """Stop the run and wait for its end. Ctrl-C leaves it stopping."""
    name, status = words.name(run), StatusLine()
    client.runs.stop([name])
    seen: int | None = None
    started = time.monotonic()
    try:
        while not words.finished(run):
            status.tell(f"Stopping {name}: {words.status(run)}")
            latest, seen = client.runs.watch(id=run["id"], seen=seen, wait_s=WATCH_S)
            if latest is None:
                raise DstackError(f"Run {name} was deleted meanwhile", hint="apply again")
            run = latest
            if time.monotonic() - started > 600 and not words.finished(run):
                raise DstackError(f"Run {name} does not stop", hint=f"`dstack stop {name} --abort` ends it at once")
    finally:
        status.clear()
    say(f"Run {name} stopped")
    return run
