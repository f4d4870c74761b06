"""Chores: what the server does by itself again and again, each a row with its own next time."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from dstack.model.row import Row, table


class ChoreName(StrEnum):
    SWEEP = "sweep"  # compare what a backend lists with our rows
    RETENTION = "retention"  # delete what is older than the rules keep


class ChoreStatus(StrEnum):
    ACTIVE = "active"
    CLOSED = "closed"


class Chore(Row):
    """`project_id` is empty for what belongs to the server and to no project.

    Suspicions of a sweep are kept here until a second sweep confirms them: since when, by what was (not) listed.
    """

    kind: ClassVar[str] = "chore"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {ChoreStatus.ACTIVE: {ChoreStatus.CLOSED}, ChoreStatus.CLOSED: set()}
    )

    name: ChoreName
    status: ChoreStatus = ChoreStatus.ACTIVE
    backend: str = ""  # of a sweep
    server: str = ""  # the one server that can do it, as its machines are there; empty: any
    next_at: float  # when the next round begins
    rounds: int = 0  # begun so far
    ended_at: float | None = None  # when the last one ended
    removed: dict[str, int] = {}  # what the last round of retention deleted, by what it was
    strangers: dict[str, float] = {}  # tokens that were listed and that no row knows
    unlisted: dict[str, float] = {}  # ids of instances and orphans that were not listed
