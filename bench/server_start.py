"""How long a server takes from a fresh database to its first answer, and what memory it holds when idle.

python bench/server_start.py [--runs 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

from own_server import own_server

SETTLE_S = 5.0
GOAL_START_S = 2.0
GOAL_RSS_MIB = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how many servers are started (default 5)")
    starts, processor, memory = [], [], []
    for _ in range(parser.parse_args().runs):
        with own_server() as server:
            starts.append(server.started_s)
            processor.append(server.cpu_s())
            time.sleep(SETTLE_S)
            memory.append(server.rss_mib())
    print(
        f"first answer  median {statistics.median(starts):.2f} s  slowest {max(starts):.2f} s  (goal {GOAL_START_S} s)"
    )
    print(f"processor     median {statistics.median(processor):.2f} s until then")
    print(
        f"idle memory   median {statistics.median(memory):.0f} MiB  most {max(memory):.0f} MiB"
        f"  (goal {GOAL_RSS_MIB} MiB)"
    )


if __name__ == "__main__":
    main()
