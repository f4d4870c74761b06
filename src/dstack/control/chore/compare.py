"""What a provider lists against what our rows say, both ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Machines younger than this may be missing in a list that is behind.
SETTLING_S = 300.0


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """A living instance of the backend, of any project. `mine`: it is this sweep's to judge."""

    id: str
    token: str
    mine: bool
    created_at: float | None  # when its machine was there; None: it is not yet, or is being terminated
    linked: bool


@dataclass(frozen=True, slots=True)
class KnownOrphan:
    """An orphan of the backend that is not settled. `mine`: found by this sweep."""

    id: str
    token: str
    mine: bool


@dataclass(frozen=True, slots=True)
class Differences:
    """`strangers`: tokens that nobody answers for; `unlisted`: instances whose machine is not listed and silent;
    `unlisted_orphans`: orphans that are not listed; `adopted`: orphans for which an instance answers after all."""

    strangers: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    unlisted_orphans: tuple[str, ...] = ()
    adopted: tuple[str, ...] = ()


def compare(
    listed: Iterable[str], living: Iterable[KnownInstance], orphans: Iterable[KnownOrphan], at: float
) -> Differences:
    """`listed`: tokens in a list that was asked for at `at`.

    Rows must have been read after the list: whatever was ordered before it is among them then.
    """
    there = set(listed)
    instances, known_orphans = list(living), list(orphans)
    mine = [one for one in known_orphans if one.mine]
    answered_for = {one.token for one in instances}
    return Differences(
        strangers=tuple(sorted(there - answered_for - {one.token for one in known_orphans})),
        unlisted=tuple(sorted(one.id for one in instances if one.mine and _should_be_listed(one, at) - there)),
        unlisted_orphans=tuple(sorted(one.id for one in mine if one.token not in there)),
        adopted=tuple(sorted(one.id for one in mine if one.token in answered_for)),
    )


def _should_be_listed(one: KnownInstance, at: float) -> set[str]:
    """A machine that answers lives, whatever a list says."""
    old_enough = one.created_at is not None and one.created_at <= at - SETTLING_S
    return {one.token} if old_enough and not one.linked else set()
