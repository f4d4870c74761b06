"""Each file in examples/ runs as it stands."""

from pathlib import Path

import pytest
import yaml

from support.docker_engine import BUSYBOX_IMAGE
from support.product import COMMAND_S, ROOT, Product, eventually

# Those of the simulated cloud need a server of their own: tests/e2e/sim.
EXAMPLES = sorted((ROOT / "examples").glob("*.yml"))
BY_TYPE: dict[bool, list[Path]] = {True: [], False: []}
for path in EXAMPLES:
    BY_TYPE["image" in yaml.safe_load(path.read_text())].append(path)
LONG = {"countdown", "dev"}


def _id(path: Path) -> str:
    return path.relative_to(ROOT / "examples").as_posix()


@pytest.mark.parametrize("path", BY_TYPE[False], ids=_id)
def test_example_runs_as_it_stands(dstack: Product, path: Path):
    name = yaml.safe_load(path.read_text())["name"]
    if name in LONG:
        dstack.cli("apply", "-y", "-d", "-f", str(path)).ok()
        eventually(lambda: dstack.cli("logs", name).out, COMMAND_S, lambda: f"{name} prints nothing")
        assert dstack.run(name)["status"] == "running"
        dstack.cli("stop", "-y", name).ok()
        dstack.wait_status(name, "terminated")
    else:
        assert dstack.cli("apply", "-y", "-f", str(path)).code == 0


@pytest.mark.docker
@pytest.mark.parametrize("path", BY_TYPE[True], ids=_id)
def test_example_with_an_image_runs_in_a_container(docker_product: Product, path: Path):
    # Nothing is pulled in tests: the engine's own busybox stands in for that of the registry.
    file = docker_product.write(path.read_text().replace("image: busybox\n", f"image: {BUSYBOX_IMAGE}\n"))
    assert BUSYBOX_IMAGE in (docker_product.folder / file).read_text()

    assert docker_product.cli("apply", "-y", "-f", file).code == 0
