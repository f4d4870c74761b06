"""The tables of `dstack fleet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import hosts, values
from dstack.cli.render.specs import resources_text
from dstack.cli.render.table import properties, table
from dstack.cli.terminal import style

Json = dict[str, Any]

HEADERS = ("FLEET", "INSTANCE", "BACKEND", "GPU", "PRICE", "STATUS", "CREATED")
VERBOSE_HEADERS = (
    "NAME",
    "NODES",
    "RESOURCES",
    "DRIVER",
    "SPOT",
    "BACKEND",
    "PRICE",
    "STATUS",
    "CREATED",
    "ERROR",
)
BUSY_WITH = ("pending", "provisioning", "terminating")

_COLOURS = {"idle": "green", "busy": "blue", "terminating": "yellow", "terminated": "dim"}


def fleets_table(fleets: Sequence[Json], now: float, *, verbose: bool = False, width: int | None = None) -> str:
    """A row per instance; a fleet without instances has one row of its own. `verbose` has one for every fleet."""
    if verbose:
        return table(VERBOSE_HEADERS, [row for fleet in fleets for row in _verbose_rows(fleet, now)], width)
    return table(HEADERS, [row for fleet in fleets for row in _rows(fleet, now)], width)


def details(fleet: Json, now: float, width: int | None = None) -> str:
    """A fleet for people: what it is, then its instances."""
    configuration = fleet["spec"]["configuration"]
    nodes = configuration.get("nodes")
    rows = [
        ("Name", fleet["name"]),
        ("Project", fleet["project_name"]),
        ("Status", str(fleet.get("status_message") or fleet["status"])),
        ("Type", "ssh" if configuration.get("ssh_config") else "backend"),
        ("Nodes", nodes_text(nodes) if nodes else ""),
        ("Created", values.age(fleet.get("created_at"), now)),
    ]
    text = properties([row for row in rows if row[1]]) + "\n\n" + fleets_table([fleet], now, verbose=True, width=width)
    found = [(i, hosts.report(i)) for i in fleet.get("instances") or []]
    return text + "".join("\n\n" + "\n".join([str(i["x_host"]), *lines]) for i, lines in found if lines)


def nodes_text(nodes: Any) -> str:
    """`min=0 target=0 max=2`."""
    if not isinstance(nodes, dict):
        return str(nodes)
    top = "unlimited" if nodes.get("max") is None else nodes["max"]
    low = nodes.get("min") or 0
    target = low if nodes.get("target") is None else nodes["target"]
    return f"min={low} target={target} max={top}"


def settled(fleet: Json) -> bool:
    """Whether no instance is on its way to anywhere."""
    return not any(instance["status"] in BUSY_WITH for instance in fleet.get("instances") or [])


def missing_instances(fleet: Json) -> int:
    """How many instances it still lacks of those that it is to start with."""
    configuration = fleet["spec"]["configuration"]
    nodes, hosts = configuration.get("nodes"), (configuration.get("ssh_config") or {}).get("hosts")
    wanted = (
        (nodes.get("target") or nodes.get("min") or 0) if isinstance(nodes, dict) else int(nodes or len(hosts or ()))
    )
    return max(0, wanted - sum(1 for instance in fleet.get("instances") or [] if instance["status"] != "terminated"))


def failed_instances(fleet: Json) -> list[Json]:
    """Instances that ended for a reason that nobody asked for."""
    asked = ("terminated_by_user", "idle_timeout", "job_finished", None)
    return [
        i
        for i in fleet.get("instances") or []
        if i["status"] == "terminated" and i.get("termination_reason") not in asked
    ]


def instance_status(instance: Json) -> str:
    """`idle`, `2/8 busy`, `idle (unreachable)`, `idle (cordoned)`, `idle (occupied)`, `provisioning (to mend)`."""
    text, total = str(instance["status"]), instance.get("total_blocks") or 1
    if text == "busy" and total > 1:
        text = f"{instance.get('busy_blocks', 0)}/{total} busy"
    if instance.get("unreachable"):
        return f"{text} (unreachable)"
    if instance.get("x_to_mend") and text != "terminating":
        return f"{text} (to mend)"
    if instance.get("x_cordon"):
        return f"{text} ({instance['x_cordon']})"
    if instance.get("x_unknown_tasks"):
        return f"{text} (occupied)"
    health = instance.get("health_status") or "healthy"
    return text if health == "healthy" else f"{text} ({health})"


def _rows(fleet: Json, now: float) -> list[tuple[str, ...]]:
    instances = [i for i in fleet.get("instances") or [] if i["status"] != "terminated" or i.get("x_host")]
    label = style(fleet["name"], "bold")
    if not instances:
        return [(label, "-", "-", "-", "-", str(fleet["status"]), values.age(fleet.get("created_at"), now))]
    return [(label if index == 0 else "", *_row(instance, now)) for index, instance in enumerate(instances)]


def _row(instance: Json, now: float) -> tuple[str, ...]:
    resources = (instance.get("instance_type") or {}).get("resources") or {}
    gpus = values.gpus(resources)
    return (
        str(instance["instance_num"]),
        _where(instance),
        gpus + (" (spot)" if resources.get("spot") else "") if gpus else "-",
        values.money(instance.get("price")),
        _state(instance),
        values.age(instance.get("created"), now),
    )


def _verbose_rows(fleet: Json, now: float) -> list[tuple[str, ...]]:
    """The fleet as it is configured, then its instances as they are."""
    configuration = fleet["spec"]["configuration"]
    given = (configuration.get("ssh_config") or {}).get("hosts")
    price = configuration.get("max_price")
    head = (
        style(fleet["name"], "bold"),
        str(len(given)) if given else _range(configuration.get("nodes")),
        resources_text(configuration["resources"]) if configuration.get("resources") else "",
        "",
        "" if given else str(configuration.get("spot_policy") or "on-demand"),
        "ssh" if given else ", ".join(configuration.get("x_backends") or configuration.get("backends") or ()) or "*",
        f"$0..{price:g}" if price else "",
        str(fleet["status"]),
        values.age(fleet.get("created_at"), now),
        str(fleet.get("status_message") or ""),
    )
    return [head, *(_verbose_row(instance, now) for instance in fleet.get("instances") or [])]


def _verbose_row(instance: Json, now: float) -> tuple[str, ...]:
    resources = (instance.get("instance_type") or {}).get("resources") or {}
    driver = instance.get("gpu_driver") or {}
    return (
        f"    instance={instance['instance_num']}" + (f" ({instance['x_host']})" if instance.get("x_host") else ""),
        "",
        values.resources({**resources, "spot": False}) if resources else "",
        " ".join(str(driver[key]) for key in ("vendor", "version") if driver.get(key)),
        ("yes" if resources.get("spot") else "no") if resources else "",
        _where(instance),
        values.money(instance.get("price")),
        _state(instance),
        values.age(instance.get("created"), now),
        str(
            instance.get("x_message")
            or instance.get("termination_reason_message")
            or instance.get("termination_reason")
            or ""
        ),
    )


def _state(instance: Json) -> str:
    state = instance["status"]
    return style(instance_status(instance), *((_COLOURS[state],) if state in _COLOURS else ()))


def _range(nodes: Any) -> str:
    """`0..2`, `2`, `1..`."""
    if not isinstance(nodes, dict):
        return str(nodes or 0)
    low, high = nodes.get("min") or 0, nodes.get("max")
    return str(low) if low == high else f"{low}..{'' if high is None else high}"


def _where(instance: Json) -> str:
    """`gcp (europe-west-1)`; hosts of one's own are `ssh (remote)`."""
    text = values.place(instance)
    return "ssh (remote)" if text == "ssh" else text
