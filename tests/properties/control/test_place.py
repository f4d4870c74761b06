"""Whatever the pool and the queue: no block is given twice, no fleet grows over its maximum, gangs are whole."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.control.scheduling import Ask, NewInstance, Placed, Pool, Unit, candidates, place
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.offer import Offer
from support.builders import fleet, instance, offer, requirements

SIZES = st.sampled_from([1, 2, 4])


@st.composite
def offers(draw: st.DrawFn) -> tuple[Offer, ...]:
    found = draw(
        st.lists(
            st.builds(
                offer,
                st.sampled_from(["a", "b", "c"]),
                price=st.sampled_from([0.5, 1.0, 2.0]),
                cpus=st.sampled_from([2, 4, 8]),
                memory_gb=st.sampled_from([4, 16]),
                gpu=st.sampled_from(["", "L4"]),
                gpus=SIZES,
                region=st.sampled_from(["r1", "r2"]),
                spot=st.booleans(),
            ),
            max_size=5,
        )
    )
    return tuple(found)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Fleet], list[Instance], tuple[Offer, ...]]:
    most = st.sampled_from(["0..0", "0..1", "0..3", "0.."])
    fleets = [
        fleet("f", nodes=draw(most), blocks=draw(st.sampled_from([1, 2, "auto"])), spot_policy="auto"),
        fleet("g", nodes=draw(most), placement="cluster"),
    ]
    instances: list[Instance] = []
    for num, of in enumerate(draw(st.lists(st.sampled_from(fleets), max_size=4))):
        total = draw(SIZES)
        busy = draw(st.integers(0, total))
        status = draw(st.sampled_from([InstanceStatus.BUSY, InstanceStatus.PROVISIONING, InstanceStatus.TERMINATING]))
        made = draw(offers()) or (offer(),)
        instances.append(instance(num, of=of, offer=made[0], total_blocks=total, busy_blocks=busy, status=status))
    return fleets, instances, draw(offers())


@st.composite
def queues(draw: st.DrawFn) -> list[Unit]:
    units: list[Unit] = []
    for n in range(draw(st.integers(0, 6))):
        nodes = draw(st.sampled_from([1, 1, 2, 3]))
        resources = {
            "cpu": draw(st.sampled_from(["1..", "2..4", "8.."])),
            "memory": draw(st.sampled_from(["1GB..", "8GB.."])),
            "disk": "1GB..",
            "gpu": draw(st.sampled_from(["0..", "1", "L4:1..", "2"])),
        }
        wish = requirements(resources, multinode=nodes > 1, spot=draw(st.sampled_from([None, False])))
        units.append(Unit(str(n), tuple(Ask(f"{n}-{k}", wish) for k in range(nodes)), together=nodes > 1))
    return units


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Fleet], list[Instance], tuple[Offer, ...]]:
    """Free machines and offers of two regions, any of which would do for a gang: of pools few ever seat one."""
    regions = st.sampled_from(["r1", "r2"])
    g = fleet("g", nodes=draw(st.sampled_from(["0..3", "0.."])), placement="cluster")
    instances = [instance(n, of=g, offer=offer("a", region=draw(regions))) for n in range(draw(st.integers(0, 4)))]
    return [g], instances, tuple(offer("a", region=region) for region in draw(st.sets(regions)))


@st.composite
def gangs(draw: st.DrawFn) -> list[Unit]:
    wish = requirements({"cpu": "1..", "memory": "1GB..", "disk": "1GB.."}, multinode=True)
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=4))
    return [
        Unit(str(n), tuple(Ask(f"{n}-{k}", wish) for k in range(size)), together=True) for n, size in enumerate(sizes)
    ]


@given(pools(), queues())
def test_no_block_is_given_twice(pool, units: list[Unit]):
    fleets, instances, some_offers = pool
    taken: Counter[int] = Counter()
    machines: dict[int, Instance | NewInstance] = {}
    for outcome in place(Pool(fleets, instances, some_offers), units):
        for seat in outcome.seats if isinstance(outcome, Placed) else ():
            machines[id(seat.machine)] = seat.machine
            taken[id(seat.machine)] += seat.blocks
    for key, blocks in taken.items():
        machine = machines[key]
        free = machine.free_blocks if isinstance(machine, Instance) else machine.total_blocks
        assert blocks <= free


@given(pools(), queues())
def test_no_fleet_grows_over_its_maximum(pool, units: list[Unit]):
    fleets, instances, some_offers = pool
    live = Counter(i.fleet_id for i in instances)
    made: dict[int, NewInstance] = {}
    for outcome in place(Pool(fleets, instances, some_offers), units):
        for seat in outcome.seats if isinstance(outcome, Placed) else ():
            if isinstance(seat.machine, NewInstance):
                made[id(seat.machine)] = seat.machine
    live.update(m.fleet.id for m in made.values())
    for f in fleets:
        nodes = f.spec.configuration.nodes
        assert nodes is not None
        over = sum(i.fleet_id == f.id for i in instances)
        assert nodes.max is None or live[f.id] <= max(nodes.max, over)


@given(st.tuples(pools(), queues()) | st.tuples(clusters(), gangs()))
def test_gangs_are_placed_whole_in_one_region_or_not_at_all(drawn):
    (fleets, instances, some_offers), units = drawn
    outcomes = place(Pool(fleets, instances, some_offers), units)
    assert len(outcomes) == len(units)
    for unit, outcome in zip(units, outcomes, strict=True):
        if isinstance(outcome, Placed):
            assert [s.ask.id for s in outcome.seats] == [a.id for a in unit.asks]
            if unit.together:
                assert len({(s.fleet.id, s.offer.backend, s.offer.region) for s in outcome.seats}) == 1
                assert all(s.blocks == s.total_blocks for s in outcome.seats)


@settings(max_examples=200)
@given(clusters(), gangs())
def test_what_is_refused_leaves_the_pool_as_it_was(pool, units: list[Unit]):
    """A queue without one that was refused fares in just the same way, also those that are refused behind it."""
    fleets, instances, some_offers = pool
    first = place(Pool(fleets, instances, some_offers), units)
    for refused in (o.unit for o in first if not isinstance(o, Placed)):
        again = place(Pool(fleets, instances, some_offers), [unit for unit in units if unit is not refused])
        assert [_where(o) for o in first if o.unit is not refused] == [_where(o) for o in again]


@given(pools(), queues(), st.randoms(use_true_random=False))
def test_the_order_in_which_offers_and_instances_are_listed_does_not_matter(pool, units: list[Unit], chance):
    fleets, instances, some_offers = pool
    shuffled = [list(fleets), list(instances), list(some_offers)]
    for one in shuffled:
        chance.shuffle(one)
    first = place(Pool(fleets, instances, some_offers), units)
    second = place(Pool(*shuffled), units)
    assert [_where(o) for o in first] == [_where(o) for o in second]


@given(pools(), queues())
def test_the_counts_of_a_report_add_up(pool, units: list[Unit]):
    fleets, instances, some_offers = pool
    alive = [i for i in instances if i.status is not InstanceStatus.TERMINATING]
    for unit in units:
        report = candidates(unit.asks[0].requirements, fleets, instances, some_offers).report
        assert report.considered == len(alive) + len(some_offers)
        assert report.considered == report.fitting + sum(d.count for d in report.drops)


def _where(outcome) -> list[tuple]:
    if not isinstance(outcome, Placed):
        return [(type(outcome).__name__,)]
    return [
        (s.fleet.name, s.offer.key, s.offer.price, getattr(s.machine, "num", None), s.blocks) for s in outcome.seats
    ]
