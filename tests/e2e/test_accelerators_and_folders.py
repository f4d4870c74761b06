"""GPUs and folders of the host as a person meets them. The GPUs' tool is simulated: none is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker_engine import BUSYBOX_IMAGE
from support.product import COMMAND_S, Product, eventually, product_in_temporary_folder
from support.simulated_tools import GPU_0, GPU_1, WELL, environment, nvidia_smi

VOLUME = "volumes: [cache:{target}]"


@pytest.fixture(scope="module")
def gpu_product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A running server on a machine with two GPUs, one of which had memory errors."""
    tools = nvidia_smi(tmp_path_factory.mktemp("tools"))
    (tools / "health").write_text(WELL.replace("35, 0, No", "35, 2, No"))
    with product_in_temporary_folder(PATH=environment(tools)["PATH"]) as product:
        product.start()
        product.fleet()
        yield product


def test_a_job_is_given_the_gpus_that_it_asked_for_by_name(gpu_product: Product):
    file = gpu_product.task("gpus", "echo $CUDA_VISIBLE_DEVICES", more="resources: {gpu: 'H100:80GB:2'}")

    done = gpu_product.cli("apply", "-y", "-f", file).ok()

    assert "H100:80GB:2" in done.out
    assert done.out.endswith(f"{GPU_0},{GPU_1}\n")


def test_a_host_with_a_warning_works_on_and_says_so(gpu_product: Product):
    file = gpu_product.task("warned", "sleep 600", more="resources: {gpu: 'H100:2'}")
    gpu_product.cli("apply", "-y", "-d", "-f", file).ok()
    gpu_product.wait_status("warned", "running")

    def shown() -> bool:
        return "busy (warning)" in gpu_product.cli("fleet").out

    eventually(shown, COMMAND_S, lambda: gpu_product.cli("fleet", "-v").text)
    events = gpu_product.cli("event", "--target-fleet", "here").text + gpu_product.cli("event").text
    assert "Instance health changed HEALTHY -> WARNING: GPU 1: 2 uncorrected memory errors" in events

    def measured() -> bool:
        text = gpu_product.cli("metrics", "warned").out
        return "37%" in text and "93%" in text

    eventually(measured, COMMAND_S, lambda: gpu_product.cli("metrics", "warned").text)
    gpu_product.cli("stop", "-y", "warned").ok()


def test_a_named_folder_keeps_what_one_run_wrote_for_the_next(dstack: Product, tmp_path: Path):
    more = VOLUME.format(target=tmp_path / "cache")
    written = dstack.cli("apply", "-y", "-f", dstack.task("writes", f"echo kept > {tmp_path}/cache/note", more=more))

    notice = "'cache' is no volume of the project: each host keeps a folder of that name for later runs"
    assert notice in written.ok().text
    read = dstack.cli("apply", "-y", "-f", dstack.task("reads", f"cat {tmp_path}/cache/note", more=more)).ok()
    assert read.out.endswith("kept\n")


@pytest.mark.docker
def test_a_folder_of_the_host_is_the_same_inside_a_container(docker_product: Product, tmp_path: Path):
    more = f"image: {BUSYBOX_IMAGE}\nvolumes:\n  - {{instance_path: {tmp_path}/data, path: /data}}\n  - cache:/cache"

    file = docker_product.task("mounted", "echo here > /data/f", "echo there > /cache/f", more=more)
    docker_product.cli("apply", "-y", "-f", file).ok()

    assert (tmp_path / "data" / "f").read_text() == "here\n"
    again = docker_product.task("again", "cat /data/f /cache/f", more=more)
    assert docker_product.cli("apply", "-y", "-f", again).ok().out.endswith("here\nthere\n")
