"""Agents are killed, logs cannot be stored for a while: a job is told exactly all the same."""

import os
import signal
import time

from support.product import Product, eventually

LINES = 80
NUMBERS = (
    'echo begun >> "$HOME/starts"; '
    f'for i in $(seq 1 {LINES}); do echo "line $i"; sleep 0.05; done; echo ended >> "$HOME/ends"; exit 5'
)
EXPECTED = "".join(f"line {i}\n" for i in range(1, LINES + 1))


def test_job_whose_agent_is_killed_again_and_again_runs_once_and_is_logged_exactly(product: Product):
    product.start()
    product.fleet()
    product.cli("apply", "-y", "-d", "-f", product.task("numbers", NUMBERS)).ok()
    eventually((product.folder / "starts").exists, 60, lambda: "the job did not begin")
    for _ in range(5):
        _kill_agent(product)
        time.sleep(0.4)  # in the middle of its start, of the link's, or of the job

    _is_told_exactly(product)


def test_log_that_cannot_be_stored_for_a_while_is_stored_when_it_can_be(product: Product):
    product.start()
    product.fleet()
    logs = product.server_dir / "logs"
    logs.write_text("no folder: nothing can be written in it")
    product.cli("apply", "-y", "-d", "-f", product.task("numbers", NUMBERS)).ok()
    eventually((product.folder / "ends").exists, 60, lambda: "the job did not end")
    eventually(lambda: "cannot be stored" in product.server_log, 60, lambda: "nobody was told")
    product.wait_status("numbers", "terminating")  # and stays so until its log is kept

    logs.unlink()

    _is_told_exactly(product)
    assert "Traceback" not in product.server_log


def _is_told_exactly(product: Product) -> None:
    run = product.wait_status("numbers", "failed", "done", "terminated", deadline_s=60)
    assert run["status"] == "failed"
    assert product.cli("logs", "numbers").out == EXPECTED
    assert "(5)" in product.cli("ps", "-a").out
    assert (product.folder / "starts").read_text() == "begun\n"


def _kill_agent(product: Product) -> None:
    (folder,) = (product.server_dir / "local").iterdir()
    try:
        os.kill(int((folder / "agent.pid").read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is just being started
