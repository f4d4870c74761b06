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
DEATHS = 12
SEEDS_ON_POSTGRESQL = range(1)


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


def explained(told: Told) -> str:
    return f"seed {told.seed} after {told.deaths.total()} deaths: {'; '.join(told.broken)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_run_ends_and_nothing_is_left_however_often_the_server_dies(tmp_path: Path, seed: int):
    told = tell(seed, tmp_path / "story", deaths=DEATHS)
    assert not told.broken, explained(told)
    assert told.deaths.total() >= DEATHS


@pytest.mark.parametrize("seed", SEEDS_ON_POSTGRESQL)
def test_every_run_ends_though_two_servers_of_one_database_die_in_turn(
    tmp_path: Path, postgresql_server: str, seed: int
):
    told = tell(seed, tmp_path / "story", postgres.new_database(postgresql_server), minutes=1.0, deaths=4)
    assert not told.broken, explained(told)
    assert told.deaths.total() >= 4


def test_every_run_ends_over_a_postgresql_that_is_slow_now_and_then_and_loses_answers(
    tmp_path: Path, postgresql_server: str
):
    url = postgres.new_database(postgresql_server)
    told = tell(3, tmp_path / "story", url, minutes=1.0, weather=True)
    assert not told.broken, explained(told)
    assert told.slow > 0
    assert told.lost > 0


@pytest.mark.parametrize(
    ("worse", "how", "words"),
    [
        (planted_stores.acts_before_commit, {}, "no instance answers for it"),
        # A story that dies anywhere shows it in one of six.
        (
            planted_stores.starts_twice,
            {"points": ("finish_act:start_task:before",), "deaths": 12},
            "was started 2 times",
        ),
        # Whoever starts anew is told everything again: without deaths, what is not heard was lost.
        (planted_stores.loses_wakes, {"deadly": False, "slow": 0.5}, "lies unread since"),
    ],
)
def test_a_planted_bug_is_found_within_a_few_stories(
    tmp_path: Path, worse: Callable[[Path], type[Store]], how: dict[str, Any], words: str
):
    told = (tell(seed, tmp_path / f"{seed}", store=worse, **how).broken for seed in range(12))
    assert any(words in one for broken in told for one in broken)


ONE_BUSY = "(SELECT id FROM instance WHERE status = 'busy' LIMIT 1)"
ONE_IDLE = "(SELECT id FROM instance WHERE status = 'idle' AND idle_deadline IS NOT NULL LIMIT 1)"
ONE_NODE = "(SELECT id FROM job WHERE status = 'provisioning' AND json_extract(spec, '$.jobs_per_replica') > 1 LIMIT 1)"
UNPLACED = "status = 'submitted', place = NULL, instance_id = NULL, tried_offers = '[]'"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE run SET due_at = NULL WHERE status IN ('submitted', 'provisioning')", "and never due"),
        ("UPDATE job SET status = 'running', due_at = 1 WHERE status IN ('done', 'failed')", "had ended as"),
        (f"UPDATE instance SET busy_blocks = busy_blocks + 1 WHERE id IN {ONE_BUSY}", "blocks busy"),
        (f"UPDATE instance SET status = 'terminated', due_at = NULL WHERE id IN {ONE_IDLE}", "no instance answers"),
        ("UPDATE run SET status = 'done', due_at = NULL WHERE status = 'running'", "jobs that are not over"),
        (f"UPDATE instance SET idle_deadline = NULL WHERE id IN {ONE_IDLE}", "no time at which it goes"),
        (f"UPDATE job SET {UNPLACED} WHERE id IN {ONE_NODE}", "nodes without a place"),
    ],
)
def test_damage_of_the_database_is_noticed_at_once(tmp_path: Path, statement: str, words: str):
    worse = planted_stores.damaged(statement)
    told = (tell(seed, tmp_path / f"{seed}", store=worse, deadly=False, minutes=1.0).broken for seed in range(12))
    assert any(words in one for broken in told for one in broken)
