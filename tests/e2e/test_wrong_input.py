"""What people get wrong: a clear message, the right exit code, no traceback, nothing half done."""

import pytest

from support.product import Ended, Product


def refused(ended: Ended, *words: str, code: int = 1) -> None:
    missing = [word for word in words if word not in ended.err]
    assert ended.code == code, ended.text
    assert not missing, f"{missing} not in:\n{ended.err}"
    assert "Traceback" not in ended.text


def test_broken_yaml_is_refused_with_its_line(dstack: Product):
    file = dstack.write("type: task\nname: [x\n")

    refused(dstack.cli("apply", "-f", file, "-y"), "run.dstack.yml:3", "not closed")


def test_unknown_key_is_refused_with_its_line_and_the_nearest_one(dstack: Product):
    file = dstack.write("type: task\nname: x\ncomands:\n  - a\n")

    refused(dstack.cli("apply", "-f", file, "-y"), "run.dstack.yml:3", "comands", "did you mean `commands`?")


def test_absent_file_is_named(dstack: Product):
    refused(dstack.cli("apply", "-f", "absent.dstack.yml", "-y"), "absent.dstack.yml does not exist")


def test_unset_variable_is_named_before_anything_is_planned(dstack: Product):
    file = dstack.task("unset", "true", more="env:\n  - NOT_SET_ANYWHERE")

    ended = dstack.cli("apply", "-f", file, "-y")

    refused(ended, "NOT_SET_ANYWHERE is not set", "-e NOT_SET_ANYWHERE=")
    assert ended.out == ""


def test_bad_token_is_told_apart_from_a_server_that_is_down(dstack: Product):
    refused(dstack.cli("ps", env={"DSTACK_TOKEN": "wrong"}), "denied", "token")


def test_server_that_is_down_is_named_with_how_to_start_it(dstack: Product):
    down = {"DSTACK_SERVER_URL": "http://127.0.0.1:9", "DSTACK_TOKEN": "x"}

    refused(dstack.cli("ps", env=down), "Failed to connect to dstack server http://127.0.0.1:9", "dstack server")


def test_unconfigured_cli_says_how_to_get_a_project(product: Product):
    refused(product.cli("ps"), "No project is configured", "dstack server", "dstack project add")


def test_unknown_command_and_option_are_usage_errors(dstack: Product):
    refused(dstack.cli("aply"), "apply", code=2)
    refused(dstack.cli("ps", "--no-such-option"), "--no-such-option", code=2)


@pytest.mark.parametrize("command", [["logs", "ghost"], ["stop", "ghost", "-y"], ["run", "get", "ghost"]])
def test_run_that_does_not_exist_is_named(dstack: Product, command: list[str]):
    refused(dstack.cli(*command), "ghost")


def test_no_to_the_plan_submits_nothing(dstack: Product):
    file = dstack.task("declined", "true")

    ended = dstack.cli("apply", "-f", file, stdin="n\n")

    assert ended.code == 0
    assert "Exiting..." in ended.err
    assert dstack.cli("run", "get", "declined").code == 1


def test_end_of_input_at_the_plan_is_no_with_a_hint(dstack: Product):
    ended = dstack.cli("apply", "-f", dstack.task("silent", "true"), stdin="")

    assert ended.code == 0
    assert "-y" in ended.err and "Exiting..." in ended.err
    assert dstack.cli("run", "get", "silent").code == 1


def test_interrupt_at_the_plan_submits_nothing(dstack: Product):
    asked = dstack.begin("apply", "-f", dstack.task("hesitant", "true"))
    asked.wait_for("Submit the run")

    asked.interrupt()

    refused(asked.ended(), "Cancelled by user", code=130)
    assert dstack.cli("run", "get", "hesitant").code == 1


def test_image_is_refused_where_jobs_are_plain_processes(dstack: Product):
    file = dstack.task("imaged", "true", more="image: busybox")

    refused(dstack.cli("apply", "-f", file, "-y"), "image", "container engine")
    assert dstack.cli("run", "get", "imaged").code == 1


def test_more_memory_than_any_machine_has_shows_what_would_fit(dstack: Product):
    file = dstack.task("giant", "true", more="resources:\n  memory: 90000GB")

    shown = dstack.cli("plan", "-f", file).ok()

    assert "No matching instance offers available" in shown.out
    assert "needs 90000GB" in shown.out and "nearest" in shown.out


def test_run_without_an_offer_fails_with_the_reason(dstack: Product):
    file = dstack.task("giant-run", "true", more="resources:\n  memory: 90000GB")

    refused(dstack.cli("apply", "-f", file, "-y"), "No capacity", "needs 90000GB")


def test_plan_without_a_fleet_shows_lines_that_make_one_when_pasted(product: Product):
    product.start()
    file = product.task("homeless", "echo found a home")

    shown = product.cli("apply", "-f", file, stdin="n\n")

    assert "The project has no fleets" in shown.text
    pasted = [line for line in shown.text.partition("Ready to paste:")[2].splitlines() if line.startswith("  ")]
    product.shell("\n".join(pasted)).ok()
    assert product.cli("apply", "-f", file, "-y").ok().out.endswith("found a home\n")


def test_run_without_a_fleet_fails_with_the_reason(product: Product):
    product.start()

    refused(product.cli("apply", "-y", "-f", product.task("homeless", "true")), "no fleets")


def test_log_spam_is_stopped_at_the_quota_and_named(product: Product):
    product.env["DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR"] = "20000"
    product.start()
    product.fleet()

    ended = product.cli("apply", "-y", "-f", product.task("spam", "seq 1 1000000", "sleep 60"))

    assert ended.code != 0
    assert "20000 bytes" in ended.err
    assert len(product.cli("logs", "spam").out) < 25_000
