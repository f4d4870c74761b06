"""The tables of `dstack volume` and `dstack gateway`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import values
from dstack.cli.render.table import properties, table
from dstack.cli.terminal import style

Json = dict[str, Any]

VOLUMES = ("NAME", "BACKEND", "STATUS", "CREATED")
VOLUMES_VERBOSE = ("NAME", "BACKEND", "REGION", "STATUS", "ATTACHED", "CREATED", "ERROR")
GATEWAYS = ("NAME", "BACKEND", "HOSTNAME", "DOMAIN", "DEFAULT", "STATUS")
GATEWAYS_VERBOSE = (*GATEWAYS, "CREATED", "ERROR")


def volumes_table(found: Sequence[Json], now: float, *, verbose: bool = False, width: int | None = None) -> str:
    """A row per volume."""
    rows = []
    for item in found:
        where = item["configuration"]
        created, error = values.age(item.get("created_at"), now), str(item.get("status_message") or "")
        name, state = style(item["name"], "bold"), str(item["status"])
        if verbose:
            rows.append((name, _backend(where), str(where["region"]), state, _attached(item), created, error))
        else:
            rows.append((name, values.place({**where, "backend": _backend(where)}), state, created))
    return table(VOLUMES_VERBOSE if verbose else VOLUMES, rows, width)


def volume_details(item: Json, now: float) -> str:
    """A volume for people."""
    where = item["configuration"]
    rows = [
        ("Name", item["name"]),
        ("Project", item["project_name"]),
        ("User", item["user"]),
        ("Status", str(item["status"])),
        ("Type", "external" if item.get("external") else "managed"),
        ("Backend", values.place({**where, "backend": _backend(where)})),
        ("Size", f"{where['size']:g}GB" if isinstance(where.get("size"), (int, float)) else ""),
        ("Attached", _attached(item)),
        ("Cost", values.money(item.get("cost") or 0)),
        ("Created", values.age(item.get("created_at"), now)),
        ("Error", str(item.get("status_message") or "")),
    ]
    return properties([row for row in rows if row[1]])


def gateways_table(found: Sequence[Json], now: float, *, verbose: bool = False, width: int | None = None) -> str:
    """A row per gateway, and one for each of its replicas when there are several."""
    rows = [row for item in found for row in _gateway_rows(item, now, verbose)]
    return table(GATEWAYS_VERBOSE if verbose else GATEWAYS, rows, width)


def gateway_details(item: Json, now: float) -> str:
    """A gateway for people."""
    rows = [
        ("Name", item["name"]),
        ("Project", item["project_name"]),
        ("Status", str(item["status"])),
        ("Backend", values.place(item)),
        ("Hostname", str(item.get("hostname") or "")),
        ("Domain", str(item.get("wildcard_domain") or "")),
        ("Default", "yes" if item.get("default") else ""),
        ("Created", values.age(item.get("created_at"), now)),
        ("Error", str(item.get("status_message") or "")),
    ]
    return properties([row for row in rows if row[1]])


def _gateway_rows(item: Json, now: float, verbose: bool) -> list[tuple[str, ...]]:
    domain, default = str(item.get("wildcard_domain") or ""), "✓" if item.get("default") else ""
    replicas = item.get("replicas") or []
    rows = [_gateway_row(style(item["name"], "bold"), item, domain, default, now, verbose)]
    if len(replicas) > 1:
        rows += [_gateway_row(f"   replica={one['replica_num']}", one, "", "", now, verbose) for one in replicas]
    return rows


def _gateway_row(label: str, item: Json, domain: str, default: str, now: float, verbose: bool) -> tuple[str, ...]:
    row = (label, values.place(item), str(item.get("hostname") or ""), domain, default, str(item["status"]))
    more = values.age(item.get("created_at"), now), str(item.get("status_message") or "")
    return (*row, *more) if verbose else row


def _backend(where: Json) -> str:
    return values.backend(where)


def _attached(item: Json) -> str:
    names = [(one.get("instance") or {}).get("name") for one in item.get("attachments") or []]
    return ", ".join(name for name in names if name)
