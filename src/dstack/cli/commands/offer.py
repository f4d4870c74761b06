"""`dstack offer`: what there is to run on, and at which price."""

from __future__ import annotations

import os
from typing import Any

import click

from dstack.api.client import Client
from dstack.cli import profiles
from dstack.cli.applying import Options, tell_notices
from dstack.cli.command import Command
from dstack.cli.commands.flags import SECTIONS, offer_flags, options_of
from dstack.cli.overrides import applied
from dstack.cli.render.funnel import explained, no_offers
from dstack.cli.render.offers import FLEET_HINT, groups_json, groups_text, offers_json, offers_text
from dstack.cli.session import connect
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import UsageError
from dstack.model.configurations.reading import parse
from dstack.model.configurations.support import executed

Json = dict[str, Any]

GROUPS = ("gpu", "backend", "region", "count")
# Nothing is to run: the image is the sign of it that the HTTP API knows.
NOTHING = {"type": "task", "image": "scratch", "commands": [":"], "user": "root"}
ANYTHING = {"cpu": "1..", "memory": "0GB..", "gpu": "0..", "disk": None}


@click.command(cls=Command, sections=SECTIONS, epilog="Example: dstack offer --gpu A100:80GB --group-by gpu,backend")
@click.option(
    "--group-by",
    multiple=True,
    metavar="WORDS",
    help="One row per group: `gpu`, `gpu,backend`, `gpu,backend,region`, each also with `count`",
)
@click.option("--explain", is_flag=True, help="Also say how many offers each requirement dropped, and what would help")
@offer_flags
def offer(group_by: tuple[str, ...], explain: bool, **values: Any) -> None:
    """List what the project's backends offer, the cheapest first. Fleets do not matter, unless --fleet names one."""
    groups = _groups(group_by)
    options = options_of(values, yes=True)
    spec = _spec(options, grouped=bool(groups))
    with connect() as client:
        plan = client.runs.plan(
            spec,
            max_offers=1 if groups else options.max_offers,
            full_offers=options.full_offers,
            unallocated=options.unallocated,
            for_offers_only=True,
        )
        if groups:
            _show_groups(client, plan, spec, groups, options, explain)
        else:
            _show_offers(plan, options, explain)


def _show_offers(plan: Json, options: Options, explain: bool) -> None:
    report = plan.get("x_report")
    if options.json:
        return put_json(offers_json(plan) | ({"report": report} if explain else {}))
    put(offers_text(plan, width=width()))
    tell_notices(plan)
    _tell(report, bool(plan["job_plans"][0].get("offers")), explain)
    if not options.overrides.fields.get("fleets"):
        say(f"\n {FLEET_HINT}")


def _show_groups(client: Client, plan: Json, spec: Json, groups: list[str], options: Options, explain: bool) -> None:
    split = [word for word in groups if word != "gpu"]
    found = client.gpus.list(spec, split, full_offers=options.full_offers, unallocated=options.unallocated)
    report = plan.get("x_report")
    if options.json:
        return put_json(groups_json(plan, found, groups) | ({"report": report} if explain else {}))
    put(groups_text(plan, found, groups, width=width()))
    if not found and plan["job_plans"][0].get("offers"):
        return put("\nNo offer has a GPU.")
    _tell(report, bool(found), explain)


def _tell(report: Json | None, found: bool, explain: bool) -> None:
    if explain:
        put("\n" + "\n".join(explained(report)))
    elif not found:
        put("\n" + "\n".join(no_offers(report, unfold="--explain")))


def _spec(options: Options, *, grouped: bool) -> Json:
    """The specification of a run that is never submitted; groups are of spot and on-demand offers alike."""
    base = executed(parse(NOTHING | {"resources": ANYTHING}, "offer"), "")
    configuration = applied(base, options.overrides, os.environ).model_dump(mode="json", exclude_unset=True)
    profile = profiles.chosen(options.profile, options.no_profile, os.environ)
    if grouped and not (profile or {}).get("spot_policy"):
        configuration.setdefault("spot_policy", "auto")
    return {
        "run_name": None,
        "repo_id": "none",
        "repo_data": {"repo_type": "virtual"},
        "file_archives": [],
        "configuration_path": None,
        "configuration": configuration | {"type": "task"},
        "profile": profile,
    }


def _groups(given: tuple[str, ...]) -> list[str]:
    words = [word.strip() for item in given for word in item.split(",") if word.strip()]
    for word in words:
        if word not in GROUPS:
            raise UsageError(
                f"Invalid group-by value: '{word}'. Valid choices are: {', '.join(sorted(GROUPS))}",
                hint="for instance `--group-by gpu,backend`",
            )
    for word, needed in (("backend", "gpu"), ("count", "gpu"), ("region", "gpu"), ("region", "backend")):
        if word in words and needed not in words:
            raise UsageError(f"Cannot group by '{word}' without also grouping by '{needed}'")
    return [word for word in GROUPS if word in words]
