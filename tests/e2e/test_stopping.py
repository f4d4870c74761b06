"""Ending runs: with grace, at once, and by Ctrl-C while attached."""

from support.product import Product

SAVES = "trap 'echo saving; exit 0' INT TERM"
WAITS = "echo ready; while true; do sleep 0.1; done"


def test_stop_gives_the_job_time_to_save_its_work(dstack: Product):
    dstack.cli("apply", "-y", "-d", "-f", dstack.task("polite", SAVES, WAITS)).ok()
    _wait_for_log(dstack, "polite", "ready")

    dstack.cli("stop", "-y", "polite").ok()

    run = dstack.wait_status("polite", "terminated")
    assert run["termination_reason"] == "stopped_by_user"
    assert dstack.cli("logs", "polite").out == "ready\nsaving\n"


def test_job_that_does_not_end_in_its_grace_is_killed(dstack: Product):
    stubborn = dstack.task("stubborn", "trap '' INT TERM", WAITS, more="stop_duration: 1s")
    dstack.cli("apply", "-y", "-d", "-f", stubborn).ok()
    _wait_for_log(dstack, "stubborn", "ready")

    dstack.cli("stop", "-y", "stubborn").ok()

    dstack.wait_status("stubborn", "terminated")


def test_a_stop_that_waits_for_the_job_tells_what_does_not(dstack: Product):
    dstack.cli("apply", "-y", "-d", "-f", dstack.task("deaf", "trap '' INT", WAITS)).ok()
    _wait_for_log(dstack, "deaf", "ready")
    dstack.cli("stop", "-y", "deaf").ok()

    told = dstack.cli("why", "deaf").ok().out.splitlines()
    assert told[1].startswith("It waits for the job to end, at most ")
    assert told[2] == "`dstack stop --abort deaf` does not wait."

    dstack.cli("stop", "-y", "--abort", "deaf").ok()
    assert dstack.wait_status("deaf", "terminated")["termination_reason"] == "aborted_by_user"


def test_abort_does_not_wait_for_the_job(dstack: Product):
    dstack.cli("apply", "-y", "-d", "-f", dstack.task("cut", SAVES, WAITS)).ok()
    _wait_for_log(dstack, "cut", "ready")

    assert "Aborted" in dstack.cli("stop", "-y", "--abort", "cut").ok().out

    dstack.wait_status("cut", "terminated")
    assert "saving" not in dstack.cli("logs", "cut").out


def test_interrupt_and_no_detaches_and_the_run_goes_on(dstack: Product):
    attached = dstack.begin("apply", "-f", dstack.task("goes-on", WAITS))
    attached.wait_for("Submit the run")
    attached.answer("y")
    attached.wait_for("ready")

    attached.interrupt()
    attached.wait_for("Stop the run goes-on before detaching?")
    attached.answer("n")

    ended = attached.ended()
    assert ended.code == 130
    assert "Detached" in ended.err
    assert dstack.run("goes-on")["status"] == "running"
    dstack.cli("stop", "-y", "--abort", "goes-on").ok()


def test_interrupt_and_yes_stops_the_run(dstack: Product):
    attached = dstack.begin("apply", "-f", dstack.task("ends", SAVES, WAITS))
    attached.wait_for("Submit the run")
    attached.answer("y")
    attached.wait_for("ready")

    attached.interrupt()
    attached.wait_for("Stop the run ends before detaching?")
    attached.answer("y")

    ended = attached.ended()
    assert ended.code == 130
    assert "Stopped" in ended.err
    assert "saving" in ended.out
    assert dstack.run("ends")["status"] == "terminated"


def test_interrupt_with_yes_given_detaches_unasked(dstack: Product):
    attached = dstack.begin("apply", "-y", "-f", dstack.task("unasked", WAITS))
    attached.wait_for("ready")

    attached.interrupt()

    assert attached.ended().code == 130
    assert dstack.run("unasked")["status"] == "running"
    dstack.cli("stop", "-y", "--abort", "unasked").ok()


def test_second_interrupt_while_it_stops_aborts(dstack: Product):
    stubborn = dstack.task("twice", "trap 'echo not yet' INT TERM", WAITS, more="stop_duration: 5m")
    attached = dstack.begin("apply", "-f", stubborn)
    attached.wait_for("Submit the run")
    attached.answer("y")
    attached.wait_for("ready")
    attached.interrupt()
    attached.wait_for("before detaching?")
    attached.answer("y")
    attached.wait_for("not yet")

    attached.interrupt()

    ended = attached.ended()
    assert ended.code == 130
    assert "Aborted" in ended.err
    assert dstack.run("twice")["status"] == "terminated"


def test_run_over_its_maximum_duration_is_terminated_with_that_reason(dstack: Product):
    ended = dstack.cli("apply", "-y", "-f", dstack.task("limited", WAITS, more="max_duration: 2s\nstop_duration: 1s"))

    assert ended.code == 1
    assert dstack.run("limited")["status"] == "terminated"
    assert "max" in dstack.cli("why", "limited").out.lower()


def _wait_for_log(dstack: Product, run: str, text: str) -> None:
    following = dstack.begin("logs", "-f", run)
    following.wait_for(text)
    following.process.kill()
    following.process.wait()
