"""What a job gets of its configuration: the repository that clients tell of, volumes named after nodes."""

from __future__ import annotations

from dstack.control.run.submission import job_spec, repository
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.run import RunSpec

REMOTE = {"repo_type": "remote", "repo_name": "lab", "repo_branch": "main", "repo_hash": "a" * 40}


def task(**fields) -> TaskConfiguration:
    return TaskConfiguration.model_validate({"commands": ["true"], **fields})


def test_a_run_without_a_repository_has_none():
    for data in (None, {"repo_type": "virtual"}):
        assert repository(RunSpec(configuration=task(), repo_id="none", repo_data=data)) is None


def test_what_a_client_found_out_is_what_the_job_gets():
    spec = RunSpec(
        configuration=task(repos=[{"local_path": ".", "path": "/code", "if_exists": "skip"}]),
        repo_id="lab-1",
        repo_data={**REMOTE, "repo_config_name": "Eve", "repo_diff": None},
        repo_code_hash="b" * 64,
    )
    found = repository(spec)
    assert found is not None
    assert (found.id, found.branch, found.hash, found.code_hash) == ("lab-1", "main", "a" * 40, "b" * 64)
    assert (found.path, found.if_exists, found.user_name, found.url) == ("/code", "skip", "Eve", None)


def test_the_directory_that_an_older_client_names_beside_the_configuration_counts():
    found = repository(RunSpec(configuration=task(), repo_id="lab", repo_data=REMOTE, repo_dir="/older"))
    assert found is not None and found.path == "/older"


def test_an_address_alone_is_enough():
    written = [{"url": "https://h.org/lab.git", "branch": "side"}]
    found = repository(RunSpec(configuration=task(repos=written)))
    assert found is not None
    assert (found.url, found.branch, found.hash, found.path) == ("https://h.org/lab.git", "side", None, ".")


def test_tasks_get_one_branch_and_dev_environments_all_unless_they_say_otherwise():
    url = ["https://h.org/lab.git"]
    environment = DevEnvironmentConfiguration.model_validate({"type": "dev-environment", "repos": url})
    found = [
        repository(RunSpec(configuration=one))
        for one in (task(repos=url), environment, task(repos=url, single_branch=False))
    ]
    assert [one and one.single_branch for one in found] == [True, False, False]


def test_a_volume_may_be_named_after_the_node():
    configuration = task(nodes=2, volumes=["shard-${{ dstack.node_rank }}:/data", "n${{ dstack.job_num }}:/n"])
    specs = [job_spec(RunSpec(configuration=configuration), "t", job_num=number) for number in range(2)]
    assert [[mount.name for mount in spec.mounts] for spec in specs] == [["shard-0", "n0"], ["shard-1", "n1"]]
