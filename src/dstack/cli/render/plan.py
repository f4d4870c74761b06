"""The plan of `dstack apply` and `dstack plan`: what is asked for, and the offers with their prices."""

from __future__ import annotations

from typing import Any

from dstack.cli.render import values
from dstack.cli.render.fleets import nodes_text
from dstack.cli.render.specs import idle_text, off_text, resources_text, retry_text, schedule_text
from dstack.cli.render.table import properties, table

Json = dict[str, Any]

DEV = "dev-environment"
AVAILABILITY = {
    "not_available": "not available",
    "no_quota": "no quota",
    "no_balance": "no balance",
    "idle": "idle",
    "busy": "busy",
}


def run_plan(plan: Json, *, verbose: bool = False, width: int | None = None) -> str:
    """Properties of the run, then the offers; the latter is empty when there are none."""
    job = plan["job_plans"][0]
    text = properties(_run_rows(plan, job, verbose))
    kinds = _kinds(plan["job_plans"])
    if len(kinds) > 1:
        return "\n\n".join([text, *(_kind(one, count, width) for one, count in kinds)])
    offers = job.get("offers") or []
    if not offers:
        return text
    return f"{text}\n\n{offers_table(job, width)}"


def _kinds(job_plans: list[Json]) -> list[tuple[Json, int]]:
    """Nodes that ask for the same next to one another, and how many they are."""
    kinds: list[tuple[Json, int]] = []
    for job in job_plans:
        asked = job["job_spec"]["requirements"]
        if kinds and kinds[-1][0]["job_spec"]["requirements"] == asked:
            kinds[-1] = (kinds[-1][0], kinds[-1][1] + 1)
        else:
            kinds.append((job, 1))
    return kinds


def _kind(job: Json, count: int, width: int | None) -> str:
    first = job["job_spec"]["job_num"]
    nodes = f"Nodes {first}..{first + count - 1}" if count > 1 else f"Node {first}"
    head = f" {nodes}: {resources_text(job['job_spec']['requirements']['resources'])}"
    return f"{head}\n{offers_table(job, width) if job.get('offers') else ' no offers'}"


def offers_table(job: Json, width: int | None = None) -> str:
    """The offers of a JobPlan, and how many more there are."""
    offers = job["offers"]
    return _run_offers(offers, width) + _shown(len(offers), job.get("total_offers") or 0, job.get("max_price"))


def fleet_plan(plan: Json, *, max_offers: int = 3, width: int | None = None) -> str:
    """Properties of the fleet, then the offers."""
    offers = (plan.get("offers") or [])[:max_offers]
    text = properties(_fleet_rows(plan))
    if not offers:
        return text
    rows = [
        (
            str(number),
            values.backend(offer),
            offer["region"],
            values.resources_old(offer["instance"]["resources"]),
            "yes" if offer["instance"]["resources"].get("spot") else "no",
            values.money(offer["price"], 6),
        )
        for number, offer in enumerate(offers, 1)
    ]
    shown = table(("#", "BACKEND", "REGION", "RESOURCES", "SPOT", "PRICE"), rows, width)
    return f"{text}\n\n{shown}{_shown(len(offers), plan.get('total_offers') or 0, plan.get('max_offer_price'))}"


def _run_rows(plan: Json, job: Json, verbose: bool) -> list[tuple[str, str]]:
    spec = plan.get("effective_run_spec") or plan["run_spec"]
    configuration, requirements = spec["configuration"], job["job_spec"]["requirements"]
    profile = spec.get("merged_profile") or {}

    def param(name: str) -> Any:
        own = configuration.get(name)
        return profile.get(name) if own is None else own

    price = requirements.get("max_price")
    kind = configuration.get("type", "task")
    rows = [
        ("Project", plan["project_name"]),
        ("User", plan["user"]),
        ("Type", f"{kind} (nodes={len(plan['job_plans'])})" if kind == "task" else kind),
        ("Resources", resources_text(requirements["resources"])),
        ("Spot policy", {True: "spot", False: "on-demand", None: "auto"}[requirements.get("spot")]),
        ("Max price", values.money(price) if price else "off"),
        ("Retry policy", retry_text(job["job_spec"].get("retry"))),
        ("Creation policy", str(param("creation_policy") or "reuse-or-create")),
        ("Idle duration", idle_text(param("idle_duration"), "5m")),
        ("Max duration", off_text(job["job_spec"].get("max_duration"))),
        ("Inactivity duration", off_text(configuration.get("inactivity_duration")) if kind == DEV else ""),
        ("Schedule", schedule_text(param("schedule"), plan.get("x_next_triggered_at"))),
        ("Reservation", str(requirements.get("reservation") or "-")),
    ]
    usual = (("Creation policy", "reuse-or-create"), ("Schedule", "-"), ("Reservation", "-"))
    return [row for row in rows if row[1] and (verbose or row not in usual)]


def _fleet_rows(plan: Json) -> list[tuple[str, str]]:
    spec = plan.get("effective_spec") or plan["spec"]
    configuration = spec["configuration"]
    hosts = (configuration.get("ssh_config") or {}).get("hosts")
    rows = [
        ("Project", plan["project_name"]),
        ("User", plan["user"]),
        ("Configuration", str(spec.get("configuration_path") or "?")),
        ("Type", "fleet"),
        ("Fleet type", "ssh" if hosts else "cloud"),
        ("Nodes", str(len(hosts)) if hosts else nodes_text(configuration.get("nodes") or 0)),
        ("Placement", str(configuration.get("placement") or "any")),
        ("Backends", ", ".join(configuration.get("x_backends") or configuration.get("backends") or ())),
        ("Regions", ", ".join(configuration.get("regions") or ())),
        ("Resources", resources_text(configuration["resources"]) if configuration.get("resources") else ""),
        ("Spot policy", "" if hosts else str(configuration.get("spot_policy") or "on-demand")),
        ("Max price", values.money(configuration["max_price"]) if configuration.get("max_price") else ""),
        ("Idle duration", "" if hosts else idle_text(configuration.get("idle_duration"), "3d")),
        ("Reservation", str(configuration.get("reservation") or "")),
    ]
    return [row for row in rows if row[1]]


def _run_offers(offers: list[Json], width: int | None) -> str:
    rows = [
        (
            str(number),
            values.place(offer),
            values.resources(offer["instance"]["resources"]),
            offer["instance"]["name"],
            values.money(offer["price"]),
            AVAILABILITY.get(offer.get("availability", ""), ""),
        )
        for number, offer in enumerate(offers, 1)
    ]
    return table(("#", "BACKEND", "RESOURCES", "INSTANCE TYPE", "PRICE", ""), rows, width)


def _shown(shown: int, total: int, most: float | None) -> str:
    if total <= shown:
        return ""
    ceiling = f", {values.money(most)} max" if most is not None else ""
    return f"\n    ...\n Shown {shown} of {total} offers{ceiling}"
