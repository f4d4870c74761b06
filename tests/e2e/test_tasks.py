"""Tasks from the file to the exit code, as a person sees them."""

import json

from support.product import Product

PIECES = 'for i in $(seq 1 2000); do echo "line $i of 2000"; done'


def test_task_shows_its_plan_and_log_and_ends_with_zero(dstack: Product):
    done = dstack.cli("apply", "-y", "-f", dstack.task("hello", "echo Hello from $DSTACK_RUN_NAME"))

    assert done.code == 0
    plan, _, log = done.out.partition("INSTANCE TYPE")
    assert "task (nodes=1)" in plan
    assert "local" in log and "$0" in log
    assert log.endswith("Hello from hello\n")


def test_log_is_exact_whether_followed_or_read_afterwards(dstack: Product):
    expected = "".join(f"line {i} of 2000\n" for i in range(1, 2001))

    followed = dstack.cli("apply", "-y", "-f", dstack.task("many", PIECES)).ok()

    assert followed.out.endswith(expected)
    assert dstack.cli("logs", "many").out == expected


def test_log_keeps_colours_and_what_is_not_ascii(dstack: Product):
    dstack.cli("apply", "-y", "-d", "-f", dstack.task("colours", r"printf '\033[31mrouge\033[0m é 你好\n'")).ok()

    shown = dstack.cli("logs", "-f", "colours")

    assert "rouge" in shown.out and "é 你好" in shown.out


def test_exit_code_of_a_failing_command_is_that_of_apply(dstack: Product):
    failed = dstack.cli("apply", "-y", "-f", dstack.task("seven", "echo before", "exit 7", "echo after"))

    assert failed.code == 7
    assert failed.out.endswith("before\n")
    assert "Exited (7)" in failed.err
    assert dstack.run("seven")["status"] == "failed"


def test_command_that_is_not_found_is_named_as_such(dstack: Product):
    failed = dstack.cli("apply", "-y", "-f", dstack.task("nosuch", "no-such-command --flag"))

    assert failed.code == 127
    assert "no-such-command" in failed.out
    assert "A command was not found" in failed.err


def test_detached_run_is_listed_and_ends_by_itself(dstack: Product):
    submitted = dstack.cli("apply", "-y", "-d", "-f", dstack.task("detached", "echo on its own"))

    assert submitted.code == 0
    assert "Run detached submitted, detaching..." in submitted.out
    dstack.wait_status("detached", "done")
    assert dstack.cli("logs", "detached").out == "on its own\n"
    assert "detached" in dstack.cli("ps", "-a").out


def test_json_of_a_detached_apply_is_one_document(dstack: Product):
    run = dstack.cli("apply", "-y", "-d", "--json", "-f", dstack.task("document", "true")).json()

    assert run["run_spec"]["run_name"] == "document"
    assert [r for r in dstack.cli("ps", "-a", "--json").json()["runs"] if r["id"] == run["id"]]


def test_plan_shows_and_submits_nothing(dstack: Product):
    file = dstack.task("planned", "true")

    shown = dstack.cli("plan", "-f", file).ok()

    assert "INSTANCE TYPE" in shown.out
    assert json.loads(dstack.cli("plan", "-f", file, "--json").ok().out)
    assert dstack.cli("run", "get", "planned").code == 1


def test_variables_come_from_file_shell_and_flags(dstack: Product):
    file = dstack.task("variables", 'echo "$A $B $C"', more="env:\n  - A=file\n  - B\n  - C=file")

    done = dstack.cli("apply", "-y", "-f", file, "-e", "C=flag", env={"B": "shell"}).ok()

    assert done.out.endswith("file shell flag\n")


def test_values_of_secrets_reach_the_job_and_nobody_else(dstack: Product):
    dstack.cli("secret", "set", "hidden", "correct-horse-battery").ok()
    go = dstack.folder / "secretive-may-end"
    counts = 'echo "$(printf %s "$PASSWORD" | wc -c) characters"'
    file = dstack.task("secretive", counts, f"until test -e {go}; do sleep 0.1; done")
    with (dstack.folder / file).open("a") as f:
        f.write("env:\n  PASSWORD: ${{ secrets.hidden }}\n")

    followed = dstack.begin("apply", "-y", "-f", file)
    followed.wait_for("21 characters\n")
    while_it_runs = list(dstack.processes().values())
    go.touch()

    assert followed.ended().ok().out.endswith("21 characters\n")
    assert while_it_runs and not [line for line in while_it_runs if "correct-horse" in line]
    shown = [["ps", "-a", "-v"], ["event"], ["run", "get", "secretive", "--json"], ["why", "secretive"], ["secret"]]
    assert not [command for command in shown if "correct-horse" in dstack.cli(*command).ok().text]
    assert "correct-horse" not in dstack.server_log


def test_memory_limit_is_named_when_the_job_goes_over_it(dstack: Product):
    hungry = 'x=aaaaaaaaaaaaaaaa; while true; do x="$x$x"; done'

    failed = dstack.cli("apply", "-y", "-f", dstack.task("hungry", hungry, more="resources:\n  memory: 0.1GB..0.2GB"))

    assert failed.code == 137
    assert "Out of memory" in failed.err
    assert "0.2GB" in failed.err


def test_two_runs_share_the_fleet_at_the_same_time(dstack: Product):
    for name in ("left", "right"):
        dstack.cli("apply", "-y", "-d", "-f", dstack.task(name, f"echo {name} here; sleep 600")).ok()

    dstack.wait_status("left", "running")
    dstack.wait_status("right", "running")

    listed = dstack.cli("ps").out
    assert "left" in listed and "right" in listed
    for name in ("left", "right"):
        dstack.cli("stop", "-y", "--abort", name).ok()
        dstack.wait_status(name, "terminated")
