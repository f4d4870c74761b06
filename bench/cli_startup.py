"""How long the command line takes to answer: medians of `--help` and `ps`, beside those of an empty Python.

    python bench/cli_startup.py [--runs 21]

`ps` needs a running server, given by DSTACK_SERVER_URL and DSTACK_TOKEN (or ~/.dstack/config.yml); without one only
the others are measured. The commands take turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

GOALS_S = {"dstack --help": 0.12, "dstack ps": 0.25}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, help="how often each command runs (default 21)")
    runs = parser.parse_args().runs
    beside = Path(sys.executable).with_name("dstack")
    program = str(beside) if beside.exists() else shutil.which("dstack")
    if program is None:
        sys.exit("dstack is not installed beside this Python")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "dstack --help": [program, "--help"],
        "dstack ps": [program, "ps"],
    }
    if subprocess.run(commands["dstack ps"], capture_output=True).returncode:
        print("no server answers: `dstack ps` is not measured")
        del commands["dstack ps"]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            taken[name].append(_wall_s(command))
    for name, seconds in taken.items():
        goal = f"  (goal {GOALS_S[name]:.2f} s)" if name in GOALS_S else ""
        print(f"{name:<16} median {statistics.median(seconds):.3f} s  slowest {max(seconds):.3f} s{goal}")


def _wall_s(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
