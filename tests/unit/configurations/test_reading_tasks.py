"""What a task may say, in every form, and what it becomes."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.parts import EnvSentinel
from dstack.model.configurations.reading import parse, read
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.resources import FloatRange, IntRange

FULL = """
type: task
name: train
python: 3.10
env:
  - HF_TOKEN
  - MODE=fast
commands:
  - pip install -r requirements.txt
  - python train.py
ports: [8501, "80:8080", "*:9090", 22:22]
user: 1000:50
files: [data, ./src:/code]
resources:
  cpu: 4
  memory: 16GB..
  shm_size: 2GB
  gpu: A100:40GB:2
  disk: 200GB
max_price: 2.5
max_duration: off
idle_duration: 1h30m
retry: {on_events: [no-capacity], duration: 1d}
fleets: [mine, other/theirs]
spot_policy: auto
priority: 7
tags: {team: research}
"""


def task(**fields):
    return parse({"type": "task", "commands": ["true"], **fields}, "task")


def test_a_task_with_many_fields_is_understood():
    configuration = read(FULL, "train.dstack.yml").configuration
    assert isinstance(configuration, TaskConfiguration)
    assert (configuration.name, configuration.python, configuration.user) == ("train", "3.10", "1000:50")
    assert configuration.env == {"HF_TOKEN": EnvSentinel(key="HF_TOKEN"), "MODE": "fast"}
    assert [(p.local_port, p.container_port) for p in configuration.ports] == [
        (8501, 8501), (80, 8080), (None, 9090), (22, 22),
    ]  # fmt: skip
    assert (configuration.max_price, configuration.max_duration, configuration.idle_duration) == (2.5, "off", 5400)
    assert configuration.retry_rule and configuration.retry_rule.duration == 86400
    assert [(f.project, f.name) for f in configuration.fleets or ()] == [(None, "mine"), ("other", "theirs")]
    assert configuration.resources.pretty() == "cpu=4.. mem=16GB.. disk=200GB.. gpu=A100:40GB:2"


def test_what_was_written_to_json_is_read_back_the_same():
    configuration = read(FULL, "f").configuration
    assert parse(configuration.model_dump(mode="json"), "") == configuration


def test_numbers_in_text_fields_keep_the_form_in_which_they_were_written():
    text = "type: task\ncommands: [0755]\nimage: 1.10\nenv: {V: 1.10, W: 1_000}\n"
    configuration = read(text, "f").configuration
    assert isinstance(configuration, TaskConfiguration)
    assert (configuration.commands, configuration.image) == (("0755",), "1.10")
    assert configuration.env == {"V": "1.10", "W": "1_000"}


def test_single_values_of_cpu_memory_and_disk_are_lower_bounds():
    resources = task(resources={"cpu": 4, "memory": "16GB", "disk": 50}).resources
    assert resources.cpu.count == IntRange(min=4)
    assert resources.memory == FloatRange(min=16)
    assert resources.disk.size == FloatRange(min=50)


def test_single_values_of_gpu_count_and_memory_are_exact():
    gpu = task(resources={"gpu": "A100:40GB:2"}).resources.gpu
    assert (gpu.count, gpu.memory) == (IntRange(min=2, max=2), FloatRange(min=40, max=40))


def test_a_gpu_without_a_count_means_at_least_one():
    assert task(resources={"gpu": "24GB"}).resources.gpu.count == IntRange(min=1)
    assert task(resources={"gpu": {"name": "A100"}}).resources.gpu.count == IntRange(min=1)


def test_resources_have_object_forms():
    resources = task(
        resources={
            "cpu": {"arch": "arm", "count": "4..8"},
            "memory": {"min": "1GB", "max": 4},
            "gpu": {"vendor": "tpu", "name": "a,b", "count": 1, "total_memory": "80GB..", "compute_capability": 7.5},
            "disk": {"size": {"min": 1}},
        }
    ).resources
    assert resources.pretty() == (
        "cpu=arm:4..8 mem=1GB..4GB disk=1GB.. gpu=a,b:1 (total 80GB.., compute 7.5)"
    )  # fmt: skip


def test_unwritten_resources_are_the_documented_defaults_and_known_as_such():
    resources = task().resources
    assert resources.pretty() == "cpu=2.. mem=8GB.. disk=100GB.. gpu=0.."
    assert resources.defaulted() == {"cpu", "memory", "disk", "gpu"}
    assert task(resources={"cpu": 3, "gpu": "nvidia:0.."}).resources.defaulted() == {"memory", "disk", "gpu"}
    assert task(resources={"gpu": None, "disk": None}).resources.defaulted() == {"cpu", "memory"}


@pytest.mark.parametrize("retry", [True, {}, {"on_events": ["no-capacity", "interruption", "error"], "duration": 3600}])
def test_a_retry_without_details_is_all_events_for_an_hour(retry):
    rule = task(retry=retry).retry_rule
    assert (len(rule.on_events), rule.duration) == (3, 3600)


def test_no_retry_is_no_rule():
    assert task().retry_rule is None
    assert task(retry=False).retry_rule is None


def test_mounts_and_instances_have_short_and_object_forms():
    configuration = task(
        volumes=[
            "v:/a",
            "/h:/b",
            {"name": ["x", "y"], "path": "/c"},
            {"instance_path": "/h", "path": "/d", "optional": True},
        ],
        instances=["i-1", {"name": "i-2"}, {"hostname": "h"}, {"fleet": "p/f", "instance": 3}],
    )
    assert [type(volume).__name__ for volume in configuration.volumes] == [
        "VolumeMountPoint", "InstanceMountPoint", "VolumeMountPoint", "InstanceMountPoint",
    ]  # fmt: skip
    assert configuration.instances[3].model_dump() == {"fleet": {"project": "p", "name": "f"}, "instance": 3}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "a", "python": "3.12"}, "python: `image` and `python` exclude each other, expected one of them"),
        ({"image": "a", "docker": True}, "image: `docker` and `image` exclude each other, expected one of them"),
        ({"nvcc": True, "docker": True}, "nvcc: `docker` and `nvcc` exclude each other, expected one of them"),
        ({"commands": []}, "task: has neither `commands` nor `image`, expected at least one of them"),
        (
            {"nodes": 2, "groups": [{"commands": ["a"]}], "commands": []},
            "nodes: `nodes` and `groups` exclude each other, expected one of them",
        ),
        (
            {"groups": [{"commands": ["a"]}]},
            "commands: is not allowed beside `groups`, expected `commands` in each group",
        ),
        ({"groups": []}, "groups: is empty, expected at least one group"),
        ({"groups": [{}], "commands": []}, "groups[0]: has no `commands`, expected them here, or `image` at the top"),
        (
            {"groups": [{"name": "1", "commands": ["a"]}, {"commands": ["a"]}], "commands": []},
            "groups[1]: `1` is used twice, expected a name of its own",
        ),
        ({"repos": ["a", "b"]}, "repos: has 2 repos, expected one at most"),
        ({"repos": [{}]}, "repos[0]: has neither `local_path` nor `url`, expected one of them"),
        (
            {"repos": [{"url": "u", "local_path": "."}]},
            "repos[0]: has both `local_path` and `url`, expected one of them",
        ),
        ({"shell": "zsh"}, "shell: `zsh` is not a shell, expected `sh`, `bash` or an absolute path"),
        (
            {"python": "3.8"},
            "python: `3.8` is not a Python version, expected one of 3.9, 3.10, 3.11, 3.12, 3.13, 3.14, 3.15",
        ),
        ({"home_dir": "x"}, "home_dir: `x` is not an absolute path, expected for instance `/root`"),
        ({"nodes": 0}, "nodes: `0` is out of range, expected at least 1"),
        ({"nodes": True}, "nodes: `true` is a boolean, expected a number"),
        ({"priority": 101}, "priority: `101` is out of range, expected at most 100"),
        ({"priority": 1.5}, "priority: `1.5` is a number, expected a whole number"),
        ({"max_price": 0}, "max_price: `0` is out of range, expected more than 0"),
        ({"max_price": float("nan")}, "max_price: `nan` is not a finite number"),
        ({"privileged": "maybe"}, "privileged: `maybe` is text, expected `true` or `false`"),
        ({"commands": "echo"}, "commands: `echo` is text, expected a list: write `- ` before each item"),
        ({"commands": [True]}, "commands[0]: `true` is a boolean, expected text: put it in quotes"),
        ({"commands": [None]}, "commands[0]: has no value, expected text"),
        ({"commands": ["a\0"]}, "commands[0]: holds a character that is not legal text"),
        ({"commands": ["\ud800"]}, "commands[0]: holds a character that is not legal text"),
        ({"image": ""}, "image: is empty, expected text"),
        ({"resources": "x"}, "resources: `x` is text, expected a mapping of keys to values"),
        (
            {"resources": {"cpu": None}},
            "resources.cpu: `null` is not a CPU request, expected cores such as `4`, `4..8` or `arm:8..`",
        ),
        (
            {"resources": {"memory": {"min": 4, "max": 2}}},
            "resources.memory: `4GB..2GB` is the wrong way round, expected the lower bound first",
        ),
        ({"resources": {"disk": {}}}, "resources.disk.size: is missing"),
        (
            {"retry": {"on_events": []}},
            "retry.on_events: is empty, expected at least one of `no-capacity`, `interruption`, `error`",
        ),
        ({"retry": "yes"}, "retry: `yes` is text, expected a mapping of keys to values"),
        (
            {"utilization_policy": {"min_gpu_utilization": 5, "time_window": "4m"}},
            "utilization_policy.time_window: is out of range, expected 5m to 1h",
        ),
        (
            {"schedule": {"cron": "0"}},
            "schedule.cron: `0` has 1 field, expected five fields: minute, hour, day of month, month, day of week",
        ),
        ({"instances": []}, "instances: is empty, expected at least one item"),
        ({"instances": [{"fleet": "f"}]}, "instances[0].instance: is missing"),
        ({"volumes": [{"name": "x"}]}, "volumes[0].path: is missing"),
        (
            {"registry_auth": {"username": "u", "password": ["hidden"]}},
            "registry_auth.password: is a list, expected text",
        ),
        (
            {"name": "Train"},
            "name: `Train` is not a name, expected 1 to 41 characters a-z, 0-9 and `-`, starting with a letter",
        ),
    ],
)
def test_what_a_task_may_not_say_is_named_with_what_was_expected(fields, message):
    with pytest.raises(ConfigurationError) as refused:
        task(**fields)
    assert refused.value.message == f"task: {message}"


@pytest.mark.parametrize(
    "nodes", [{"nodes": 1001}, {"groups": [{"nodes": 1000, "commands": ["a"]}, {"commands": ["b"]}]}]
)
def test_a_task_has_a_thousand_nodes_at_most(nodes):
    commands = {} if "groups" in nodes else {"commands": ["a"]}
    with pytest.raises(ConfigurationError, match="1000"):
        parse({"type": "task", **commands, **nodes}, "task")


def test_an_entrypoint_that_no_shell_could_split_is_refused():
    with pytest.raises(
        ConfigurationError, match="entrypoint: `bash -c 'x` is not a command line: no closing quotation"
    ):
        task(entrypoint="bash -c 'x", image="ubuntu")


def test_the_error_of_a_relative_working_directory_points_to_files_and_repos():
    with pytest.raises(ConfigurationError, match="`files` and `repos` bring local files into the run"):
        task(working_dir=".")
