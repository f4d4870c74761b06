"""The answers of `dstack offer`: the list, the groups of GPUs, and both as JSON documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import values
from dstack.cli.render.plan import AVAILABILITY, offers_table
from dstack.cli.render.specs import resources_text
from dstack.cli.render.table import properties, table

Json = dict[str, Any]

FLEET_HINT = "Offers of all backends, whatever the fleets allow; --fleet NAME shows those that a run in it can use."


def offers_text(plan: Json, *, width: int | None = None) -> str:
    """What was asked for, then the offers; the latter is missing when there are none."""
    job = plan["job_plans"][0]
    text = properties(_rows(plan))
    offers = job.get("offers") or []
    return f"{text}\n\n{offers_table(job, width)}" if offers else text


def groups_text(plan: Json, groups: Sequence[Json], group_by: Sequence[str], *, width: int | None = None) -> str:
    """What was asked for, then a row for each group; the latter is missing when there are none."""
    text = properties([*_rows(plan, spot="auto"), ("Group by", ", ".join(group_by))])
    if not groups:
        return text
    places = _place_headers(group_by)
    rows = [
        (
            str(number),
            _gpu(group),
            ", ".join(group["spot"]),
            _bounds(group["price"], values.money),
            *(_places(group, header) for header in places),
            ", ".join(word for word in map(_availability, group["availability"]) if word),
        )
        for number, group in enumerate(groups, 1)
    ]
    return f"{text}\n\n{table(('#', 'GPU', 'SPOT', '$/GPU', *places, ''), rows, width)}"


def offers_json(plan: Json) -> Json:
    """`project`, `user`, `requirements`, `offers`, `total_offers`."""
    job = plan["job_plans"][0]
    return {
        "project": plan["project_name"],
        "user": plan["user"],
        "requirements": job["job_spec"]["requirements"],
        "offers": [_offer(item) for item in job.get("offers") or []],
        "total_offers": job.get("total_offers") or 0,
    }


def groups_json(plan: Json, groups: Sequence[Json], group_by: Sequence[str]) -> Json:
    """`project`, `user`, `requirements`, `group_by`, `gpus`."""
    return {
        "project": plan["project_name"],
        "user": plan["user"],
        "requirements": plan["job_plans"][0]["job_spec"]["requirements"],
        "group_by": [*group_by],
        "gpus": [_named(group) for group in groups],
    }


def _rows(plan: Json, spot: str | None = None) -> list[tuple[str, str]]:
    asked = plan["job_plans"][0]["job_spec"]["requirements"]
    price = asked.get("max_price")
    written = (plan.get("effective_run_spec") or plan["run_spec"])["configuration"].get("spot_policy")
    policy = {True: "spot", False: "on-demand", None: "auto"}[asked.get("spot")]
    rows = [
        ("Project", plan["project_name"]),
        ("Resources", resources_text(asked["resources"])),
        ("Spot policy", str(written or spot or policy)),
        ("Max price", values.money(price) if price else "off"),
        ("Reservation", str(asked.get("reservation") or "")),
    ]
    return [row for row in rows if row[1]]


def _place_headers(group_by: Sequence[str]) -> tuple[str, ...]:
    if "region" in group_by:
        return "BACKEND", "REGION"
    return ("BACKEND", "REGIONS") if "backend" in group_by else ("BACKENDS",)


def _places(group: Json, header: str) -> str:
    named = _named(group)
    if header == "BACKENDS":
        return ", ".join(_ssh(name) for name in named.get("backends") or ())
    if header == "BACKEND":
        return _ssh(str(named.get("backend") or ""))
    return ", ".join(group.get("regions") or ()) if header == "REGIONS" else str(group.get("region") or "")


def _named(group: Json) -> Json:
    """With backends by their true names; the API has to say `remote` for those that it does not know."""
    plain = {key: value for key, value in group.items() if not key.startswith("x_")}
    return plain | {key: group[f"x_{key}"] for key in ("backend", "backends") if group.get(f"x_{key}")}


def _ssh(name: str) -> str:
    return "ssh" if name == "remote" else name


def _gpu(group: Json) -> str:
    size = f":{values.memory(group['memory_mib'])}" if group.get("memory_mib") else ""
    return f"{group['name']}{size}:{_bounds(group['count'], str)}"


def _bounds(bounds: Json, form: Any) -> str:
    low, high = form(bounds["min"]), form(bounds["max"])
    return low if low == high else f"{low}..{high}"


def _availability(word: str) -> str:
    return AVAILABILITY.get(word, "")


def _offer(item: Json) -> Json:
    return {
        "backend": item.get("x_backend") or item["backend"],
        "region": item["region"],
        "instance_type": item["instance"]["name"],
        "resources": item["instance"]["resources"],
        "spot": bool(item["instance"]["resources"].get("spot")),
        "price": item["price"],
        "availability": item.get("availability"),
        "fleet": item.get("x_fleet"),
        "instance": item.get("x_instance"),
    }
