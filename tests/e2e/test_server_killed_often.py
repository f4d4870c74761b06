"""The server is killed at random instants between submission and end of jobs: each runs once, and its log is exact."""

import os
import random
import signal
import time

from support.product import Product, eventually

ROUNDS = 10
LINES = 15
SEED = int(os.environ.get("DSTACK_TEST_SEED", "20261121"))
JOB = (
    'echo "$DSTACK_RUN_NAME" >> "$HOME/starts"; '
    f'for i in $(seq 1 {LINES}); do echo "line $i"; sleep 0.05; done; echo whole >> "$HOME/ends"; exit 5'
)
EXPECTED = "".join(f"line {i}\n" for i in range(1, LINES + 1))


def test_every_job_runs_once_and_nothing_is_left_however_often_the_server_is_killed(product: Product):
    chance = random.Random(SEED)
    product.start()
    product.fleet(nodes="0..2")
    names = [f"job-{n}" for n in range(ROUNDS)]
    for name in names:
        product.cli("apply", "-y", "-d", "-f", product.task(name, JOB)).ok()
        time.sleep(chance.uniform(0.0, 1.2))  # the instant of the crash is what varies
        product.stop(signal.SIGKILL)
        product.start()

    for name in names:
        run = product.wait_status(name, "failed", "done", "terminated", deadline_s=60)
        assert (name, run["status"]) == (name, "failed")
        assert (name, product.cli("logs", name).out) == (name, EXPECTED)
    assert sorted((product.folder / "starts").read_text().split()) == sorted(names), f"seed {SEED}"
    assert (product.folder / "ends").read_text().split() == ["whole"] * ROUNDS
    assert product.cli("ps", "-a").out.count("(5)") == ROUNDS
    _nothing_is_left(product)


def test_job_that_is_stopped_while_the_server_is_killed_ends_and_leaves_nothing(product: Product):
    chance = random.Random(SEED)
    product.start()
    product.fleet(nodes="0..2")
    names = [f"endless-{n}" for n in range(4)]
    for name in names:
        product.cli("apply", "-y", "-d", "-f", product.task(name, "echo up; exec sleep 4242")).ok()
        time.sleep(chance.uniform(0.0, 0.6))
        product.cli("stop", "-y", name).ok()
        time.sleep(chance.uniform(0.0, 0.3))
        product.stop(signal.SIGKILL)
        product.start()

    for name in names:
        run = product.wait_status(name, "failed", "done", "terminated", deadline_s=60)
        assert (name, run["status"]) == (name, "terminated"), f"seed {SEED}"
    _nothing_is_left(product)


def _nothing_is_left(product: Product) -> None:
    assert not [line for line in product.processes().values() if "sleep" in line or " hold " in line]
    product.cli("fleet", "delete", "here", "-y").ok()
    eventually(lambda: not product.processes(), 60, lambda: f"still there: {product.processes()}")
    assert list((product.server_dir / "local").iterdir()) == []
