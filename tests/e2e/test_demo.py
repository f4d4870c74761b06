"""./demo, the first thing that a newcomer types."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.product import ROOT, Started, clean_environment, eventually, processes_naming

DEMO_S = 100


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dstack-e2e-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def environment(place: Path) -> dict[str, str]:
    return {**clean_environment(place), "TMPDIR": str(place)}


def test_demo_shows_a_task_from_plan_to_result_and_leaves_nothing(place: Path, environment: dict[str, str]):
    done = subprocess.run([ROOT / "demo"], cwd="/", env=environment, capture_output=True, timeout=DEMO_S, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("$ dstack apply", "Hello from the run hello", "exited (0)", "Nothing is left running"):
        assert words in done.stdout
    assert not processes_naming(str(place))
    assert list(place.iterdir()) == []


def test_interrupted_demo_leaves_nothing(place: Path, environment: dict[str, str]):
    demo = Started(
        subprocess.Popen(
            [ROOT / "demo"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    )
    demo.wait_for("step 1 of 3", DEMO_S)

    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does

    assert demo.ended(DEMO_S).code == 130
    eventually(lambda: not processes_naming(str(place)), 60, lambda: str(processes_naming(str(place))))
    assert list(place.iterdir()) == []
