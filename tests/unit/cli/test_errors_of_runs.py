"""What a run's line says of its errors."""

from __future__ import annotations

from dstack.cli.render.runs import error_text


def run(*errors: str | None) -> dict:
    jobs = [{"job_submissions": [{"error": error, "termination_reason_message": error}]} for error in errors]
    return {"status": "failed", "error": None, "jobs": jobs}


def test_what_one_node_says_of_itself_is_not_repeated_beside_what_the_others_say_of_it() -> None:
    ended = "Node 1 (t-1-0) failed: Exited with status 3"
    assert error_text(run(ended, "Exited with status 3", ended)) == ended
    assert error_text(run("No space", None, "Out of memory")) == "No space; Out of memory"
