"""The server is killed, stopped and started again while jobs run: nothing is lost, nothing runs twice."""

import signal

import pytest

from support.product import Product, eventually

LINES = 60
NUMBERS = f'for i in $(seq 1 {LINES}); do echo "line $i"; sleep 0.1; done; echo started >> "$HOME/starts"; exit 5'
EXPECTED = "".join(f"line {i}\n" for i in range(1, LINES + 1))


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_job_goes_on_and_its_log_and_exit_code_are_whole(product: Product, sig: signal.Signals):
    product.start()
    product.fleet()
    product.cli("apply", "-y", "-d", "-f", product.task("numbers", NUMBERS)).ok()
    _wait_for_line(product, 5)

    product.stop(sig)
    agents = product.processes()
    product.start()

    run = product.wait_status("numbers", "failed", "done", "terminated")
    assert run["status"] == "failed"
    assert product.cli("logs", "numbers").out == EXPECTED
    assert "(5)" in product.cli("ps", "-a").out
    assert (product.folder / "starts").read_text() == "started\n"
    assert agents, "nothing ran while the server was away"


def test_job_that_ends_while_the_server_is_away_is_not_lost(product: Product):
    product.start()
    product.fleet()
    product.cli("apply", "-y", "-d", "-f", product.task("numbers", NUMBERS.replace("0.1", "0.02"))).ok()
    _wait_for_line(product, 2)
    product.stop(signal.SIGKILL)
    eventually(lambda: not _job_processes(product), 30, lambda: f"still there: {product.processes()}")

    product.start()

    assert product.wait_status("numbers", "failed", "done", "terminated")["status"] == "failed"
    assert product.cli("logs", "numbers").out == EXPECTED
    assert "(5)" in product.cli("ps", "-a").out
    assert (product.folder / "starts").read_text() == "started\n"


def test_attached_apply_survives_a_restart_of_the_server(product: Product):
    product.start()
    product.fleet()
    attached = product.begin("apply", "-y", "-f", product.task("numbers", NUMBERS))
    attached.wait_for("line 5\n")

    product.stop(signal.SIGKILL)
    attached.wait_for("trying again")
    product.start()

    ended = attached.ended(60)
    assert ended.code == 5
    assert ended.out.endswith(EXPECTED)


def _wait_for_line(product: Product, number: int) -> None:
    following = product.begin("logs", "-f", "numbers")
    following.wait_for(f"line {number}\n")
    following.process.kill()
    following.process.wait()


def _job_processes(product: Product) -> list[str]:
    return [line for line in product.processes().values() if "seq" in line or "line $i" in line or "sleep" in line]
