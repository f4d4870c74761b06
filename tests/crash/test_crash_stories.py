"""Real servers in virtual time, over real databases, die dozens of times a story: all is over in the end, all held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash import planted_stores
from dstack.server.store.store import Store
from support import postgres
from support.story import Told, tell

pytestmark = pytest.mark.timeout(600)  # of a busy machine; a story takes some seconds
SEEDS = range(2)
SEEDS_ON_POSTGRESQL = range(1)


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


def explained(told: Told) -> str:
    return f"seed {told.seed} after {told.deaths.total()} deaths: {'; '.join(told.broken)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_run_ends_and_nothing_is_left_however_often_the_server_dies(tmp_path: Path, seed: int):
    told = tell(seed, tmp_path / "story")
    assert not told.broken, explained(told)
    assert told.deaths.total() >= 12


@pytest.mark.parametrize("seed", SEEDS_ON_POSTGRESQL)
def test_every_run_ends_though_two_servers_of_one_database_die_in_turn(
    tmp_path: Path, postgresql_server: str, seed: int
):
    told = tell(seed, tmp_path / "story", postgres.new_database(postgresql_server), minutes=1.5)
    assert not told.broken, explained(told)
    assert told.deaths.total() >= 4


@pytest.mark.parametrize(
    ("worse", "how"),
    [
        (planted_stores.acts_before_commit, {}),
        (planted_stores.starts_twice, {}),
        # Whoever starts anew is told everything again: without deaths, what is not heard was lost.
        (planted_stores.loses_wakes, {"deadly": False, "slow": 0.5}),
    ],
)
def test_a_planted_bug_is_found_within_a_few_stories(
    tmp_path: Path, worse: Callable[[Path], type[Store]], how: dict[str, Any]
):
    found = (tell(seed, tmp_path / f"{seed}", store=worse, **how).broken for seed in range(12))
    assert any(found)
