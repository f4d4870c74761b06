"""How long 100 MB of files in 2,000 entries take to a server on this machine: the first time, and when nothing changed.

python bench/files.py [--megabytes 100] [--entries 2000]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from own_server import TOKEN, own_server

from dstack.api import Client
from dstack.cli.applying import Prepared
from dstack.cli.uploading import upload_files
from dstack.model.configurations.task import TaskConfiguration

FIRST_S, UNCHANGED_S = 5.0, 1.0
LIMIT_BYTES = 4 * 1024**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--entries", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, own_server(DSTACK_SERVER_CODE_UPLOAD_LIMIT=str(LIMIT_BYTES)) as server:
        folder = Path(name)
        make_tree(folder / "data", options.megabytes * 1024**2, options.entries)
        configuration = TaskConfiguration.model_validate({"commands": ["true"], "files": ["data"]})
        prepared = Prepared(configuration, "bench.dstack.yml", folder)
        with Client(server.url, TOKEN) as client:
            first, unchanged = timed(client, prepared), min(timed(client, prepared) for _ in range(3))
    print(f"{options.megabytes} MB in {options.entries} entries, first: {first:.2f} s  (goal {FIRST_S:g} s)")
    print(
        f"{options.megabytes} MB in {options.entries} entries, unchanged: {unchanged:.2f} s  (goal {UNCHANGED_S:g} s)"
    )


def make_tree(root: Path, size: int, entries: int) -> None:
    for number in range(entries):
        file = root / f"part-{number % 40:02d}" / f"{number:05d}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size // entries))


def timed(client: Client, prepared: Prepared) -> float:
    began = time.perf_counter()
    upload_files(client, prepared, LIMIT_BYTES)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
