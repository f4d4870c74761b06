"""Tasks in containers of a real engine, from the file to the exit code."""

import pytest

from support.docker_engine import BUSYBOX_IMAGE, call
from support.product import Product, eventually

pytestmark = pytest.mark.docker
IMAGE = f"image: {BUSYBOX_IMAGE}"


def test_container_shows_its_log_and_ends_with_its_exit_code(docker_product: Product):
    file = docker_product.task("contained", "echo in $DSTACK_RUN_NAME as $(id -un)", "exit 3", more=IMAGE)

    ended = docker_product.cli("apply", "-y", "-f", file)

    assert ended.code == 3, ended.text
    assert ended.out.endswith("in contained as root\n")


def test_log_of_a_container_is_exact(docker_product: Product):
    expected = "".join(f"line {i} of 2000\n" for i in range(1, 2001))
    file = docker_product.task("exact", "for i in $(seq 1 2000); do echo line $i of 2000; done", more=IMAGE)

    followed = docker_product.cli("apply", "-y", "-f", file).ok()

    assert followed.out.endswith(expected)
    assert docker_product.cli("logs", "exact").out == expected


def test_image_that_does_not_exist_is_named(docker_product: Product):
    file = docker_product.task("imageless", "true", more="image: 127.0.0.1:9/no/such-image:1")

    ended = docker_product.cli("apply", "-y", "-f", file)

    assert ended.code == 1
    assert "no/such-image" in ended.err


def test_container_over_its_memory_limit_is_named_as_out_of_memory(docker_product: Product):
    hungry = "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    file = docker_product.task("greedy", hungry, more=f"{IMAGE}\nresources:\n  memory: 0.01GB..0.05GB")

    ended = docker_product.cli("apply", "-y", "-f", file)

    assert ended.code == 137
    assert "Out of memory" in ended.err


def test_stopped_container_saves_its_work_and_is_removed(docker_product: Product):
    file = docker_product.task(
        "saving", "trap 'echo saving; exit 0' INT TERM", "echo ready; while true; do sleep 0.1; done", more=IMAGE
    )
    docker_product.cli("apply", "-y", "-d", "-f", file).ok()
    following = docker_product.begin("logs", "-f", "saving")
    following.wait_for("ready")

    docker_product.cli("stop", "-y", "saving").ok()

    docker_product.wait_status("saving", "terminated")
    assert following.ended().out == "ready\nsaving\n"


def test_container_goes_on_while_the_server_is_away(docker_product: Product):
    numbers = 'for i in $(seq 1 40); do echo "line $i"; sleep 0.1; done; exit 5'
    docker_product.cli("apply", "-y", "-d", "-f", docker_product.task("away", numbers, more=IMAGE)).ok()
    following = docker_product.begin("logs", "-f", "away")
    following.wait_for("line 3\n")

    docker_product.stop(9)
    docker_product.start()

    docker_product.wait_status("away", "failed", "done")
    expected = "".join(f"line {i}\n" for i in range(1, 41))
    assert docker_product.cli("logs", "away").out == expected
    assert following.ended(60).out == expected


def test_busy_container_does_not_outlive_an_abort(docker_product: Product, docker_engine: str):
    def running() -> set[str]:
        return {container["Id"] for container in call(docker_engine, "GET", "/containers/json")}

    before = running()
    docker_product.cli("apply", "-y", "-d", "-f", docker_product.task("cut", "echo up; sleep 600", more=IMAGE)).ok()
    docker_product.wait_status("cut", "running")
    assert running() - before

    docker_product.cli("stop", "-y", "--abort", "cut").ok()

    docker_product.wait_status("cut", "terminated")
    eventually(lambda: not running() - before, 60, lambda: str(running()))
