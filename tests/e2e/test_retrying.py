"""Runs that are submitted again after their own commands failed, as `retry` asks."""

from __future__ import annotations

from support.product import Product

RETRIED_S = 90.0  # the first pause is fifteen seconds
# Two attempts need two folders: what they share lies outside of both.
TRIES = "echo x >> {file}; n=$(wc -l < {file}); echo attempt $n; test $n -ge 2 || exit 3"


def retried(event: str) -> str:
    return f"retry:\n  on_events: [{event}]\n  duration: 10m"


def test_a_run_that_fails_is_submitted_again_when_retry_asks_for_it_and_only_then(dstack: Product):
    count = dstack.folder / "attempts"
    file = dstack.task("again", TRIES.format(file=count), more=retried("error"))
    followed = dstack.begin("apply", "-f", file, "-y")
    followed.wait_for("submitted")
    waiting = dstack.wait_status("again", "pending", deadline_s=RETRIED_S)
    first = waiting["jobs"][0]["job_submissions"][-1]
    assert (first["submission_num"], first["exit_status"]) == (0, 3)

    other = dstack.folder / "other"
    once = dstack.cli("apply", "-y", "-f", dstack.task("once", TRIES.format(file=other), more=retried("no-capacity")))
    assert once.code == 3 and other.read_text() == "x\n"

    ended = followed.ended(RETRIED_S)
    assert ended.code == 0, ended.text
    assert "attempt 1" in ended.out and "attempt 2" in ended.out  # whoever follows sees both
    run = dstack.run("again")
    second = run["jobs"][0]["job_submissions"][-1]
    assert (run["status"], second["submission_num"], second["exit_status"]) == ("done", 1, 0)
    assert dstack.cli("logs", "again").out == "attempt 2\n"
    assert count.read_text() == "x\nx\n"
