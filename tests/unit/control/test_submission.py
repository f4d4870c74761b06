"""From what a person wrote to the jobs that are to run."""

from __future__ import annotations

import pytest

from dstack.control.run.submission import job_spec, new_jobs, script
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.job import JobArchive, JobSpec
from dstack.model.profile import Profile
from dstack.model.run import FileArchiveMapping, RunSpec
from support.builders import T0, run, task


def spec(profile: Profile | None = None, **configuration) -> JobSpec:
    return job_spec(RunSpec(configuration=task(**configuration), profile=profile), "t1")


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (("a", "b"), "a && b"),
        (("server &", "client"), "{ server & } && client"),
        (("one\n",), "one\n"),
        (("one\n", "two"), "one && two"),
        (("cat <<END\nx\nEND\n", "two"), "{ cat <<END\nx\nEND\n} && two"),
        (("a &&",), "a &&"),
        ((), None),
    ],
)
def test_commands_are_joined_into_one_script(commands: tuple[str, ...], expected: str | None):
    assert script(commands) == expected


def test_setup_comes_before_the_commands():
    assert spec(setup=["prepare"], commands=["go"]).script == "prepare && go"


def test_the_shell_is_bash_unless_an_image_is_named():
    assert spec().shell == "/bin/bash"
    assert spec(image="alpine").shell == "/bin/sh"
    assert spec(image="alpine", shell="bash").shell == "/bin/bash"
    assert spec(shell="/usr/bin/fish").shell == "/usr/bin/fish"


def test_an_entrypoint_is_split_and_the_commands_become_its_arguments():
    s = spec(image="x", entrypoint="python -m 'my app'", commands=["--flag"])
    assert (s.entrypoint, s.commands, s.script) == (("python", "-m", "my app"), ("--flag",), None)


def test_only_written_upper_bounds_become_limits():
    assert (spec().cpu_limit, spec().memory_limit_gb) == (None, None)
    assert (spec(resources={"cpu": 4, "memory": "16GB"}).memory_limit_gb) is None
    s = spec(resources={"cpu": "2..4", "memory": "..16GB", "shm_size": "2GB"})
    assert (s.cpu_limit, s.memory_limit_gb, s.shm_gb) == (4, 16, 2)


def test_the_defaults_are_five_minutes_to_stop_no_retry_and_no_maximum():
    s = spec()
    assert (s.stop_duration_s, s.retry, s.max_duration_s, s.idle_duration_s) == (300, None, None, 300)


def test_retry_true_is_all_events_for_an_hour():
    retry = spec(retry=True).retry
    assert retry is not None
    assert ([str(e) for e in retry.on_events], retry.duration_s) == (["no-capacity", "interruption", "error"], 3600)


def test_durations_may_be_off():
    s = spec(max_duration="off", idle_duration="off", stop_duration="off")
    assert (s.max_duration_s, s.idle_duration_s) == (None, None)
    assert s.stop_duration_s >= 86400


def test_the_configuration_beats_the_profile_field_by_field():
    profile = Profile(name="p", max_price=1.0, regions=("us",))
    r = spec(profile, max_price=5).requirements
    assert (r.max_price, r.regions) == (5, ("us",))


def test_requirements_name_what_processes_cannot_honour():
    assert spec(image="x", privileged=True, user="me").requirements.needs_containers == ("image", "privileged", "user")
    assert spec().requirements.needs_containers == ()


@pytest.mark.parametrize(("policy", "spot"), [(None, False), ("on-demand", False), ("spot", True), ("auto", None)])
def test_the_spot_policy_is_on_demand_by_default(policy: str | None, spot: bool | None):
    written = {} if policy is None else {"spot_policy": policy}
    assert spec(**written).requirements.spot is spot


def test_each_kind_of_instance_selector_becomes_a_name():
    r = spec(instances=["f-1", {"hostname": "10.0.0.1"}, {"fleet": "g", "instance": 3}]).requirements
    assert r.instances == ("f-1", "10.0.0.1", "g-3")


def test_archives_and_environment_are_carried_over():
    mapping = FileArchiveMapping(id="i", path="/x", hash="h")
    configuration = task(env={"A": "1"}, ports=["8000:80"])
    s = job_spec(RunSpec(configuration=configuration, file_archives=(mapping,)), "t1")
    assert s.archives == (JobArchive(hash="h", path="/x"),)
    assert s.env == {"A": "1"}
    assert s.ports == ({"container_port": 80, "local_port": 8000},)


def test_every_node_is_a_job_with_a_name_of_its_own():
    jobs = new_jobs(run(nodes=2), 0, T0)
    assert [j.spec.name for j in jobs] == ["t1-0-0", "t1-1-0"]
    assert all(j.spec.requirements.multinode and j.spec.jobs_per_replica == 2 for j in jobs)


def test_each_node_of_a_group_has_the_resources_and_commands_of_its_group():
    groups = [{"name": "a", "commands": ["x"], "resources": {"cpu": 1}}, {"nodes": 2, "commands": ["y"]}]
    configuration = TaskConfiguration.model_validate({"type": "task", "groups": groups})
    r = run().replace(spec=RunSpec(configuration=configuration))
    assert [j.spec.script for j in new_jobs(r, 0, T0)] == ["x", "y", "y"]
    assert new_jobs(r, 0, T0)[0].spec.requirements.resources.cpu.count.min == 1


def test_the_same_attempt_names_the_same_jobs_and_another_attempt_others():
    r = run(nodes=2)
    first = {j.id for j in new_jobs(r, 0, T0)}
    assert first == {j.id for j in new_jobs(r, 0, T0 + 5)}
    assert not first & {j.id for j in new_jobs(r, 1, T0)}
    assert len(first) == 2
