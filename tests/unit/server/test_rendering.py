"""The wire renderer: words that people read, and values that released clients understand."""

from __future__ import annotations

import json

import pytest

from dstack.model.configurations.reading import parse
from dstack.model.fleet import FleetStatus
from dstack.model.images import Images
from dstack.model.instance import InstanceStatus, InstanceTerminationReason
from dstack.model.job import Job, JobStatus, JobTerminationReason
from dstack.model.offer import Availability, Gpu, Resources
from dstack.model.run import RunStatus, RunTerminationReason
from dstack.server.services.specs import effective_run_spec, read_run_spec
from dstack.server.services.wire import fleets, jobs, offers, runs, specs
from dstack.server.services.wire.encoding import encoded, encoded_list
from dstack.server.services.wire.jobs import Around
from dstack.server.services.wire.runs import RunView
from dstack.server.services.wire.values import instant, plain, stamp
from support import builders, openapi

Reason = JobTerminationReason
AROUND = Around(Images("base-image"))


def ended(status: JobStatus, reason: JobTerminationReason | None = None, code: int | None = None) -> Job:
    return builders.job(status=status, termination_reason=reason, exit_status=code)


@pytest.mark.parametrize(
    ("status", "reason", "code", "words", "error"),
    [
        (JobStatus.DONE, Reason.DONE_BY_RUNNER, 0, "exited (0)", None),
        (JobStatus.FAILED, Reason.CONTAINER_EXITED_WITH_ERROR, 3, "exited (3)", None),
        (JobStatus.FAILED, Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY, None, "no capacity", None),
        (JobStatus.FAILED, Reason.INTERRUPTED_BY_NO_CAPACITY, None, "interrupted", None),
        (JobStatus.FAILED, Reason.INSTANCE_UNREACHABLE, None, "error", "instance unreachable"),
        (JobStatus.FAILED, Reason.EXECUTOR_ERROR, None, "error", "executor error"),
        (JobStatus.FAILED, Reason.CREATING_CONTAINER_ERROR, None, "error", "runner error"),
        (JobStatus.FAILED, Reason.LOG_QUOTA_EXCEEDED, None, "error", "log quota exceeded"),
        (JobStatus.TERMINATED, Reason.TERMINATED_BY_USER, None, "stopped", None),
        (JobStatus.ABORTED, Reason.ABORTED_BY_USER, None, "aborted", None),
        (JobStatus.TERMINATED, Reason.MAX_DURATION_EXCEEDED, None, "terminated", "max duration exceeded"),
        (JobStatus.RUNNING, None, None, "running", None),
    ],
)
def test_a_job_is_worded_by_how_it_ended(
    status: JobStatus, reason: JobTerminationReason | None, code: int | None, words: str, error: str | None
) -> None:
    job = ended(status, reason, code)
    assert (jobs.status_message(job), jobs.error(job)) == (words, error)


@pytest.mark.parametrize(
    ("status", "reason", "job", "words"),
    [
        (RunStatus.DONE, RunTerminationReason.ALL_JOBS_DONE, ended(JobStatus.DONE), "exited (0)"),
        (
            RunStatus.FAILED,
            RunTerminationReason.JOB_FAILED,
            ended(JobStatus.FAILED, Reason.CONTAINER_EXITED_WITH_ERROR, 2),
            "exited (2)",
        ),
        (RunStatus.TERMINATED, RunTerminationReason.STOPPED_BY_USER, ended(JobStatus.TERMINATED), "stopped"),
        (RunStatus.TERMINATED, RunTerminationReason.ABORTED_BY_USER, ended(JobStatus.ABORTED), "aborted"),
        (RunStatus.PROVISIONING, None, ended(JobStatus.PULLING), "pulling"),
        (
            RunStatus.PENDING,
            None,
            ended(JobStatus.FAILED, Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY),
            "retrying",
        ),
        (RunStatus.PENDING, None, ended(JobStatus.FAILED, Reason.EXECUTOR_ERROR), "pending"),
        (RunStatus.RUNNING, None, ended(JobStatus.RUNNING), "running"),
    ],
)
def test_a_run_is_worded_by_its_jobs(
    status: RunStatus, reason: RunTerminationReason | None, job: Job, words: str
) -> None:
    assert runs.status_message(builders.run(status=status, termination_reason=reason), [job]) == words


@pytest.mark.parametrize("status", list(RunStatus))
@pytest.mark.parametrize("job_status", list(JobStatus))
def test_every_run_and_job_is_legal_on_the_wire(status: RunStatus, job_status: JobStatus) -> None:
    on = builders.instance()
    job = builders.job(on=on, status=job_status, exit_status=1, running_since=builders.T0)
    around = Around(Images("base-image"), {job.id: '{"downloaded_bytes": 1, "total_bytes": 2, "total_final": true}'})
    view = RunView(builders.run(status=status), (job,), "main", "ann", "f", around, builders.T0 + 3600)
    rendered = runs.run(view)
    openapi.check_schema("Run-Output", rendered)
    assert rendered["latest_job_submission"]["id"] == job.id


@pytest.mark.parametrize("status", list(InstanceStatus))
@pytest.mark.parametrize("reason", [None, *InstanceTerminationReason])
def test_every_instance_is_legal_on_the_wire(status: InstanceStatus, reason: InstanceTerminationReason | None) -> None:
    row = builders.instance(status=status, termination_reason=reason)
    openapi.check_schema("Instance", fleets.instance(row, "main", ()))


@pytest.mark.parametrize("status", list(FleetStatus))
def test_every_fleet_is_legal_on_the_wire(status: FleetStatus) -> None:
    row = builders.fleet(blocks="auto", resources={"gpu": "24GB"}, max_price=1.5, status=status)
    rendered = fleets.instance(builders.instance(of=row), "main", [])
    answer = fleets.fleet(row, encoded_list([encoded(rendered)]), "main")
    openapi.check_schema("Fleet-Output", json.loads(b"".join(answer.pieces)))


@pytest.mark.parametrize("backend", ["local", "sim", "aws", "remote"])
@pytest.mark.parametrize("availability", list(Availability))
def test_every_offer_is_legal_on_the_wire_and_says_its_backend(backend: str, availability: Availability) -> None:
    shown = offers.offer(builders.offer(backend=backend, availability=availability, gpu="A100", gpu_gb=40))
    openapi.check_schema("InstanceOfferWithAvailability", shown)
    assert shown["x_backend"] == backend
    assert shown["backend"] == (backend if backend == "aws" else "remote")


def test_a_run_costs_its_share_of_the_machine_for_as_long_as_it_runs() -> None:
    on = builders.instance(offer=builders.offer(price=2.0), total_blocks=4)
    job = builders.job(on=on, blocks=1, running_since=builders.T0)
    view = RunView(builders.run(), (job,), "main", None, None, AROUND, builders.T0 + 1800)
    assert runs.run(view)["cost"] == 0.25
    assert runs.run(view)["user"] == "(deleted user)"


def test_the_exit_code_of_a_run_is_that_of_the_job_that_failed() -> None:
    over = builders.run(status=RunStatus.FAILED)
    codes = [builders.job(job_num=n, exit_status=code) for n, code in enumerate((0, 7, None))]
    assert runs.exit_status(over, codes) == 7
    interrupted = codes[0].replace(exit_status=130, termination_reason=JobTerminationReason.TERMINATED_BY_SERVER)
    failed = codes[1].replace(exit_status=3, termination_reason=JobTerminationReason.CONTAINER_EXITED_WITH_ERROR)
    assert runs.exit_status(over, [interrupted, failed]) == 3
    assert runs.exit_status(over, codes[:1]) == 0
    assert runs.exit_status(over, codes[2:]) is None
    assert runs.exit_status(builders.run(status=RunStatus.RUNNING), codes) is None


def test_only_the_last_attempt_of_a_job_counts() -> None:
    first = builders.job(submission_num=0, status=JobStatus.FAILED, exit_status=1)
    second = builders.job(submission_num=1, status=JobStatus.DONE, exit_status=0)
    assert runs.current([first, second]) == [second]
    assert runs.newest_submission([first, second]) == second


def test_machines_are_described_in_one_line() -> None:
    gpus = (Gpu(name="A100", memory_mib=40 * 1024),) * 2
    resources = Resources(cpus=8, memory_mib=32 * 1024, gpus=gpus, disk_mib=100 * 1024, spot=True)
    assert offers.description(resources) == "cpu=8 mem=32GB disk=100GB gpu=A100:40GB:2 (spot)"


def test_instants_are_utc_with_a_z() -> None:
    assert stamp(0.5) == "1970-01-01T00:00:00.500000Z"
    assert instant(None) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"resources": {"cpu": "arm:4..8", "memory": "8GB..16GB", "gpu": "A100:40GB:2", "shm_size": "1GB"}},
        {"resources": {"gpu": {"name": ["H100"], "compute_capability": "8.0", "total_memory": "80GB.."}, "disk": None}},
        {"env": ["A=1", "B"], "ports": ["*:8000", 80], "files": ["./x:/y"], "setup": ["true"], "home_dir": "/home/x"},
        {"retry": True, "max_duration": "2h", "stop_duration": "off", "idle_duration": "off", "spot_policy": "auto"},
        {"retry": {"on_events": ["error"], "duration": "1h"}, "fleets": ["a", "p/b"], "tags": {"a": "b"}},
        {"schedule": {"cron": "0 8 * * *"}, "utilization_policy": {"min_gpu_utilization": 5, "time_window": "1h"}},
        {
            "volumes": ["v:/v", "/h:/c"],
            "repos": ["."],
            "user": "1000:1000",
            "registry_auth": {"username": "u", "password": "p"},
        },
        {"backends": ["local", "aws"], "instances": ["a", {"hostname": "h"}, {"fleet": "f", "instance": 1}]},
    ],
)
def test_what_is_rendered_is_legal_and_reads_back_as_the_same(fields: dict) -> None:
    """Released clients send back what they got, key by key."""
    data = {"configuration": {"type": "task", "commands": ["true"], **fields}, "run_name": "t"}
    spec = effective_run_spec(read_run_spec(data))
    rendered = specs.run_spec(spec)
    openapi.check_schema("RunSpec-Output", rendered)
    again = effective_run_spec(read_run_spec(rendered))
    assert plain(again) == plain(spec)


def test_a_default_image_is_named_where_none_was_written() -> None:
    spec = builders.job().spec
    assert specs.job_spec(spec, Images("base-image"))["image_name"] == "base-image"
    openapi.check_schema("JobSpec-Output", specs.job_spec(spec, Images("base-image")))


def test_credentials_of_registries_stay_out_of_jobs() -> None:
    configuration = parse({"type": "task", "image": "i", "registry_auth": {"username": "u", "password": "canary"}}, "x")
    run = builders.run()
    run = run.replace(spec=run.spec.model_copy(update={"configuration": configuration}))
    rendered = jobs.job([builders.jobs_of(run)[0]], AROUND)
    assert "canary" not in str(rendered)
