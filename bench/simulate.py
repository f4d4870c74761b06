"""How fast the control plane decides: 10,000 jobs over one virtual hour, no faults. Prints figures.

python bench/simulate.py [--jobs 10000] [--hours 1]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from dstack.sim import scenario
from dstack.sim.clock import VirtualClock
from dstack.sim.cloud import Cloud
from dstack.sim.faults import Faults
from dstack.sim.host import Host, Script, Task
from dstack.sim.server import Parts, Server
from dstack.sim.simulation import START
from dstack.sim.trace import Trace
from dstack.sim.world import World


class Bench:
    def __init__(self, jobs: int, hours: float):
        self.clock = VirtualClock(START)
        faults = Faults(1, ())
        self.trace = Trace(keep=False)
        self.cloud = Cloud(self.clock, faults, scenario.offers(), self._changed)
        self.world = World(lambda: self.cloud.offers)
        scripts: dict[str, Script] = {}
        self.world.add(scenario.queue(START), START)
        self.world.add(scenario.fleet("pool", START, nodes="0..", idle_duration="5m"), START)
        self.server = Server(
            "s",
            Parts(self.clock, self.world, self.cloud, faults, self.trace, scripts, lambda: None),
            holds_links=True,
        )
        chance = random.Random(1)
        for n in range(jobs):
            scripts[f"r{n}"] = Script(run_s=chance.uniform(10, 300))
            self.clock.at(START + chance.uniform(0, hours * 3600), self._submit, f"r{n}")

    def play(self) -> None:
        while True:
            while self.server.step():
                pass
            planned, due = self.clock.next_at(), self.world.next_due()
            if due is not None and (planned is None or due < planned):
                if planned is None and self._over():
                    return
                self.clock.advance(max(due, self.clock.now()))
            elif planned is not None:
                self.clock.step()
            else:
                return

    def _submit(self, name: str) -> None:
        resources = {"cpu": "1..", "memory": "1GB..", "disk": "10GB.."}
        now = self.clock.now()
        scenario.submit(self.world, scenario.run(name, now, resources=resources), now)

    def _changed(self, host: Host, task: Task) -> None:
        if self.server.links is not None:
            self.server.links.changed(host, task)

    def _over(self) -> bool:
        return all(r.terminal for r in self.world.rows.values() if r.kind in ("run", "job", "instance"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=1.0)
    args = parser.parse_args()
    bench = Bench(args.jobs, args.hours)
    wall, cpu = time.perf_counter(), time.process_time()
    bench.play()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = sum(r.kind == "run" and r.status == "done" for r in bench.world.rows.values())
    machines = sum(r.kind == "instance" for r in bench.world.rows.values())
    print(f"jobs        {done} done of {args.jobs}, on {machines} machines")
    print(f"virtual     {(bench.clock.now() - START) / 3600:.2f} h")
    print(f"decisions   {bench.trace.decisions}")
    print(f"wall        {wall:.1f} s ({bench.trace.decisions / wall:.0f} decisions/s)")
    print(f"cpu         {cpu:.1f} s")
    print(f"digest      {bench.trace.digest()}")


if __name__ == "__main__":
    main()
