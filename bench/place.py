"""How fast placement is: jobs placed per second over a pool of 10,000 nodes. Prints figures.

python bench/place.py [--nodes 10000] [--jobs 5000] [--shapes 50]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from dstack.control.scheduling import Ask, Placed, Pool, Unit, place
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import HostInfo, Instance, InstanceStatus
from dstack.model.offer import Gpu, Offer, Resources
from dstack.model.requirements import Requirements
from dstack.model.resources import ResourcesSpec

KINDS = (("A100", 80, 8), ("H100", 80, 8), ("L4", 24, 1), ("L40S", 48, 4), ("none", 0, 0))


def offer(number: int) -> Offer:
    name, gb, gpus = KINDS[number % len(KINDS)]
    return Offer(
        backend="sim",
        region=f"r{number % 7}",
        instance_type=f"{name}-{number % 20}",
        price=1 + number % 20,
        resources=Resources(
            cpus=8 << (number % 4),
            memory_mib=(32 << (number % 4)) * 1024,
            disk_mib=500 * 1024,
            gpus=(Gpu(name=name, memory_mib=gb * 1024),) * gpus,
        ),
    )


def fleet() -> Fleet:
    configuration = FleetConfiguration.model_validate({"type": "fleet", "name": "f", "nodes": "0..", "blocks": "auto"})
    return Fleet(id="f", project_id="p", created_at=0, name="f", spec=FleetSpec(configuration=configuration))


def instance(number: int) -> Instance:
    made = offer(number)
    blocks = len(made.resources.gpus) or made.resources.cpus
    return Instance(
        id=f"i{number}",
        project_id="p",
        created_at=0,
        fleet_id="f",
        fleet_name="f",
        name=f"f-{number}",
        num=number,
        offer=made,
        status=InstanceStatus.IDLE,
        total_blocks=blocks,
        linked=True,
        host=HostInfo(hostname=f"h{number}"),
    )


def asks(count: int, shapes: int) -> list[Unit]:
    wishes = [
        Requirements(
            resources=ResourcesSpec.model_validate(
                {
                    "gpu": ("A100:1..", "24GB", "L40S:2", "0", "H100:4")[n % 5],
                    "memory": f"{4 + n % 8}GB..",
                    "cpu": "1..",
                }
            ),
            max_price=5 + n,
        )
        for n in range(shapes)
    ]
    return [Unit(str(n), (Ask(str(n), wishes[n % shapes]),)) for n in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--shapes", type=int, default=50, help="different requirements among the jobs")
    args = parser.parse_args()
    instances, offers = [instance(n) for n in range(args.nodes)], [offer(n) for n in range(500)]
    units = asks(args.jobs, args.shapes)
    wall, cpu = [time.perf_counter()], [time.process_time()]
    pool = Pool([fleet()], instances, offers)
    wall, cpu = [*wall, time.perf_counter()], [*cpu, time.process_time()]
    outcomes = place(pool, units)
    wall, cpu = [*wall, time.perf_counter()], [*cpu, time.process_time()]
    placed = sum(isinstance(o, Placed) for o in outcomes)
    print(f"pool        {args.nodes} nodes on {len(pool.shelves)} shelves, {len(offers)} offers")
    print(f"placed      {placed} of {args.jobs} jobs of {args.shapes} shapes")
    for name, at in (("wall", wall), ("cpu", cpu)):
        rate, whole = args.jobs / (at[2] - at[1]), args.jobs / (at[2] - at[0])
        print(f"{name:<12}{at[2] - at[1]:.2f} s: {rate:.0f} jobs/s; {whole:.0f} jobs/s with building the pool")


if __name__ == "__main__":
    main()
