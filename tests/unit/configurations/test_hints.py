"""What a plan remarks on legal configurations that probably do not do what was meant."""

import pytest

from dstack.model.configurations.hints import exact_gpu_memory, local_files, possible_files, remarks
from dstack.model.configurations.reading import parse
from dstack.model.configurations.support import notices


def task(*commands, **fields):
    return parse({"type": "task", "commands": list(commands), **fields}, "")


def service(**fields):
    return parse({"type": "service", "port": 80, "commands": ["a"], **fields}, "")


def test_a_command_that_names_a_local_file_which_nothing_uploads_is_told_once():
    configuration = task("pip install -r requirements.txt", "python ./src/train.py --lr 0.1", "cat requirements.txt")
    assert local_files(configuration, {"requirements.txt", "src/train.py"}) == [
        "commands[0]: nothing uploads the local file `requirements.txt`; add `files: [requirements.txt]`, "
        "or `repos: [.]`",
        "commands[1]: nothing uploads the local file `src/train.py`; add `files: [src/train.py]`, or `repos: [.]`",
    ]


@pytest.mark.parametrize("brought", [{"repos": ["."]}, {"files": ["."]}, {"files": ["./src"]}, {"files": ["src/a.py"]}])
def test_a_file_that_comes_along_is_not_told(brought):
    assert local_files(task("python src/a.py", **brought), {"src/a.py"}) == []


def test_a_file_that_is_not_there_is_not_told():
    assert local_files(task("python train.py"), set()) == []


def test_only_relative_paths_are_looked_for():
    words = possible_files(task("python a.py >out.txt", "cat /etc/x.conf ~/b.py $C/d.py ../e.py https://f.com/g", "ls"))
    assert words == {"a.py", "out.txt"}


def test_commands_of_groups_are_looked_at_too():
    configuration = parse({"type": "task", "groups": [{"commands": ["python a.py"]}]}, "")
    assert local_files(configuration, {"a.py"})[0].startswith("groups[0].commands[0]: ")


@pytest.mark.parametrize("command", ["conda install cuda", "source x && conda activate y", "conda"])
def test_conda_in_a_command_names_an_image_that_has_it(command):
    assert remarks(task("ls", command)) == [
        "commands[1]: the default image has uv, not conda; `image: condaforge/miniforge3` has it"
    ]


def test_conda_in_an_image_of_ones_own_is_not_told():
    assert remarks(task("conda list", image="mine")) == []
    assert remarks(task("pip install anaconda-client")) == []


def test_scaling_beside_a_fixed_number_of_replicas_has_no_effect():
    scaling = {"metric": "rps", "target": 10}
    told = ["scaling: has no effect until `replicas` is a range, for instance `replicas: 1..4`"]
    assert remarks(service(scaling=scaling)) == remarks(service(scaling=scaling, replicas=2)) == told
    assert remarks(service(scaling=scaling, replicas="0..2")) == []


def test_an_idle_duration_beside_a_fixed_number_of_nodes_has_no_effect():
    def fleet(**fields):
        return parse({"type": "fleet", **fields}, "")

    assert notices(fleet(nodes=2, idle_duration="1h")) == [
        "idle_duration: has no effect while `nodes` is fixed at 2: only instances above the minimum end; "
        "write `nodes: 0..2`"
    ]
    assert notices(fleet(nodes="1..2", idle_duration="1h")) == notices(fleet(nodes=2, idle_duration="off")) == []
    assert notices(fleet(nodes=2)) == []


def test_a_single_gpu_memory_that_leaves_no_offer_is_told_with_its_range():
    def told(gpu, last_stage="gpu"):
        return exact_gpu_memory(task("a", resources={"gpu": gpu}).resources, last_stage)

    assert told("A100:24GB:2") == [
        "resources.gpu: `24GB` is GPUs of exactly that class, and no offer has one; `24GB..` is that or more"
    ]
    assert told("24GB..") == told("A100") == told("24GB", "price") == []
