"""Why nothing fits, in words: how many offers each filter dropped, and the smallest change that helps."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

NO_FLEETS = "The project has no fleets. Create one before submitting a run."
# Lines that may be pasted as they stand, indented or not: no here-document.
MAKE_A_FLEET = """\
A fleet says where runs may go. Ready to paste:

  printf 'type: fleet\\nname: default\\nnodes: 0..2\\n' > fleet.dstack.yml
  dstack apply -f fleet.dstack.yml -y"""


HOSTS_SHOWN = 5  # where nobody asked for all


def no_offers(report: Json | None, *, unfold: str | None = None) -> list[str]:
    """The lines to show when no offer fits; `report` is the PlacementReport of the plan, if the server sent one.

    `unfold`: the option that names all hosts; None: they are named.
    """
    lines = ["No matching instance offers available."]
    if not report:
        return lines
    considered = int(report.get("considered") or 0)
    if not considered:
        lines.append(" No backend or instance of the project's fleets was even looked at.")
    else:
        lines.append(f" {considered} {'was' if considered == 1 else 'were'} looked at:")
    lines += [f"  {_drop(drop)}" for drop in report.get("drops") or []]
    lines += hosts(report, unfold)
    hint = smallest_change(report)
    return [*lines, f" What would help: {hint}"] if hint else lines


def hosts(report: Json | None, unfold: str | None = None) -> list[str]:
    """A line for each host of one's own that does not fit; with `unfold`, for the first ones, and how many others."""
    found = (report or {}).get("hosts") or []
    if not found:
        return []
    shown = found[:HOSTS_SHOWN] if unfold else found
    name, address = (max(len(str(one[key])) for one in shown) for key in ("instance", "host"))
    lines = [f"  {one['instance']:<{name}}  {one['host']:<{address}}  {one['reason']}" for one in shown]
    folded, unnamed = len(found) - len(shown), int((report or {}).get("more_hosts") or 0)
    if folded:
        lines.append(f"  and {folded + unnamed} more; {unfold} names them")
    elif unnamed:
        lines.append(f"  and {unnamed} more")
    return [" Hosts that do not fit now:", *lines]


def explained(report: Json | None) -> list[str]:
    """The funnel, whether or not anything came through it: what was looked at, what dropped it, what would help."""
    if not report:
        return ["The server told nothing about the offers that do not fit."]
    considered = int(report.get("considered") or 0)
    dropped = sum(int(drop.get("count", 1)) for drop in report.get("drops") or [])
    lines = [f"{considered} looked at, {max(0, considered - dropped)} left:"]
    lines += [f"  - {_drop(drop)}" for drop in report.get("drops") or []] or ["  nothing was dropped"]
    lines += hosts(report)
    hint = smallest_change(report)
    return [*lines, f"What would help: {hint}"] if hint else lines


def smallest_change(report: Json) -> str | None:
    """The server's own answer, else the hint of the filter that dropped last: what came so far passed all others."""
    if report.get("hint"):
        return str(report["hint"])
    drops = report.get("drops") or [{}]
    return str(drops[-1]["hint"]) if drops[-1].get("hint") else None


def _drop(drop: Json) -> str:
    nearest = f" (nearest: {drop['nearest']})" if drop.get("nearest") else ""
    return f"{drop.get('count', 1)} x {drop['reason']}{nearest}"
