"""What fits, and why the rest does not."""

from __future__ import annotations

from typing import Any

import pytest

from dstack.control.scheduling import candidates, fleet_candidates, nominal_disk_mib, nominal_gpu_gb, nominal_memory_mib
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.instance import InstanceStatus
from dstack.model.job import DropReason
from dstack.model.offer import Availability, Offer
from dstack.model.requirements import Requirements
from support.builders import fleet, instance, offer, requirements

SMALL = {"cpu": "1..", "memory": "1GB..", "disk": "10GB.."}


def dropped(r: Requirements, *offers: Offer, **fleet_fields) -> DropReason:
    """The one reason for which all offers are dropped by a fleet of these fields."""
    found = candidates(r, [fleet(**fleet_fields)], (), offers)
    assert found.candidates == ()
    (drop,) = found.report.drops
    return drop


def fits(r: Requirements, *offers: Offer, **fleet_fields) -> list[str]:
    found = candidates(r, [fleet(**fleet_fields)], (), offers)
    return [c.offer.instance_type for c in found.candidates]


@pytest.mark.parametrize(
    ("wish", "has", "stage", "nearest", "hint"),
    [
        ({"backends": ("aws",)}, {}, "backend", "sim", "add sim to `backends`"),
        ({"regions": ("eu",)}, {}, "region", "r1", "add r1 to `regions`"),
        ({"zones": ("z1",)}, {"zones": ("z2",)}, "zone", "z2", "add z2 to `availability_zones`"),
        ({"instance_types": ("m9",)}, {}, "instance_type", "m1", "add m1 to `instance_types`"),
        ({"spot": True}, {}, "spot", "on-demand", "set `spot_policy: auto`"),
        ({"needs_containers": ("image",)}, {"runtime": "process"}, "runtime", None, None),
        ({"privileged": True}, {"containers_only": True}, "runtime", None, None),
        ({"max_price": 0.5}, {}, "price", "$1", "set `max_price: 1`"),
        ({}, {"availability": Availability.NO_QUOTA}, "availability", "no quota", None),
    ],
)
def test_each_stage_says_what_it_dropped_and_what_would_help(
    wish: dict, has: dict, stage: str, nearest: str | None, hint: str | None
):
    drop = dropped(requirements(SMALL, **wish), offer(**has))
    assert (drop.stage, drop.count, drop.nearest) == (stage, 1, nearest)
    if hint is not None:
        assert drop.hint == hint


@pytest.mark.parametrize(
    ("wish", "stage", "reason", "nearest", "hint"),
    [
        ({"cpu": "16.."}, "cpu", "needs 16", "8", "set `cpu: 8..`"),
        ({"cpu": "arm:2.."}, "cpu", "needs arm cores", "x86", None),
        ({"cpu": "1..2"}, "cpu", "needs 1..2", "8", None),
        ({"memory": "64GB"}, "memory", "needs 64GB", "32GB", "set `memory: 32GB..`"),
        ({"disk": "500GB"}, "disk", "needs 500GB", "200GB", "set `disk: 200GB..`"),
        ({"gpu": "A100"}, "gpu", "needs A100:1..", "L4:24GB:2", "set `gpu: L4:24GB:2`"),
        ({"gpu": "4"}, "gpu", "needs 4", "L4:24GB:2", "set `gpu: L4:24GB:2`"),
        ({"gpu": "16GB:2"}, "gpu", "needs 16GB:2", "L4:24GB:2", "set `gpu: 16GB..:2` for that much or more"),
        ({"gpu": {"count": 2, "total_memory": "96GB.."}}, "gpu", None, "L4:24GB:2", None),
        ({"gpu": {"count": 2, "compute_capability": "9.0"}}, "gpu", None, "L4:24GB:2", None),
        ({"gpu": "amd:1.."}, "gpu", None, "L4:24GB:2", None),
    ],
)
def test_resources_that_are_missing_are_named_with_the_nearest(
    wish: dict, stage: str, reason: str | None, nearest: str, hint: str | None
):
    drop = dropped(requirements({**SMALL, **wish}), offer(gpu="L4", gpus=2, gpu_gb=22.5))
    assert (drop.stage, drop.nearest) == (stage, nearest)
    assert reason is None or drop.reason == reason
    assert hint is None or drop.hint == hint


def test_a_gpu_counts_with_the_class_of_its_memory():
    assert fits(requirements({**SMALL, "gpu": "24GB"}), offer("l4", gpu="L4", gpu_gb=22.49)) == ["l4"]


def test_a_gpu_range_that_starts_at_zero_is_content_without_one():
    assert fits(requirements({**SMALL, "gpu": "0.."}), offer()) == ["m1"]


def test_a_machine_with_gpus_is_not_for_those_who_ask_for_none():
    assert dropped(requirements({**SMALL, "gpu": "0"}), offer(gpu="L4")).stage == "gpu"


def test_a_single_value_of_cpu_memory_and_disk_means_at_least():
    assert fits(requirements({"cpu": 4, "memory": "16GB", "disk": "100GB"}), offer()) == ["m1"]


def test_the_nearest_miss_is_that_of_the_best_offer():
    drop = dropped(requirements({**SMALL, "disk": "100GB"}), offer(disk_gb=50), offer("m2", disk_gb=72))
    assert (drop.count, drop.nearest, drop.hint) == (2, "72GB", "set `disk: 72GB..`")


def test_what_would_help_is_all_that_has_to_change_for_one_offer():
    wanted = requirements({**SMALL, "gpu": "L4:4"}, max_price=0.5)
    offers = [offer(gpu="L4", gpus=2, price=1.0), offer("m2", gpu="T4", gpus=1, price=0.9, region="r2")]
    found = candidates(wanted, [fleet()], (), offers)
    assert found.hint == "set `gpu: L4:24GB:2` and set `max_price: 1`"


def test_a_change_that_nobody_can_name_is_not_said_to_help():
    found = candidates(requirements({**SMALL, "cpu": "arm:2.."}, max_price=0.5), [fleet()], (), [offer()])
    assert found.hint is None or "max_price" not in found.hint


def test_the_best_reason_is_that_of_the_offers_that_got_furthest():
    r = requirements({**SMALL, "memory": "64GB"}, regions=("r1",))
    found = candidates(r, [fleet()], (), [offer(region="r9", memory_gb=128), offer()])
    assert found.best_reason == "memory: needs 64GB, best has 32GB"
    assert found.hint == "set `memory: 32GB..`"


def test_counts_of_the_funnel_add_up():
    r = requirements({**SMALL, "memory": "16GB"}, max_price=2)
    offers = [offer("a"), offer("b", memory_gb=8), offer("c", price=3), offer("d", region="r2")]
    report = candidates(r, [fleet(), fleet("g")], (), offers).report
    assert report.considered == 4
    assert report.fitting + sum(d.count for d in report.drops) == 4


def test_values_that_nobody_wrote_never_drop_a_persons_own_machine():
    own = offer("own", cpus=1, memory_gb=2, disk_gb=5, lenient_defaults=True)
    assert fits(requirements(), own) == ["own"]
    assert dropped(requirements(), own.model_copy(update={"lenient_defaults": False})).stage == "cpu"


def test_values_that_were_written_drop_a_persons_own_machine_too():
    own = offer("own", memory_gb=2, lenient_defaults=True)
    assert dropped(requirements({"memory": "4GB"}), own).stage == "memory"


def test_a_disk_that_can_be_chosen_is_never_too_small():
    assert fits(requirements({**SMALL, "disk": "900GB"}), offer(disk_gb=0, elastic_disk=True)) == ["m1"]


@pytest.mark.parametrize(
    ("run", "fleet_has", "shown"),
    [("300GB", None, 300), ("20GB", None, 20), ("20GB", "50GB", 50), ("..50GB", None, 50), ("..500GB", None, 200)],
)
def test_a_plan_shows_the_disk_that_is_made(run: str, fleet_has: str | None, shown: int):
    fields: dict[str, Any] = {} if fleet_has is None else {"resources": {"disk": fleet_has}}
    found = candidates(
        requirements({**SMALL, "disk": run}), [fleet(**fields)], (), [offer(disk_gb=200, elastic_disk=True)]
    )
    assert [c.resources.disk_mib for c in found.candidates] == [shown * 1024]


def test_a_fleet_makes_its_instances_with_the_disk_that_it_asks_for():
    configuration = FleetConfiguration.model_validate({"nodes": 2, "resources": {"disk": "500GB"}})
    found = fleet_candidates(configuration, [offer(disk_gb=100, elastic_disk=True), offer("fixed", disk_gb=900)])
    assert {c.offer.instance_type: c.resources.disk_mib for c in found.candidates} == {
        "m1": 500 * 1024,
        "fixed": 900 * 1024,
    }


@pytest.mark.parametrize(
    ("template", "stage"),
    [
        ({"regions": ["eu"]}, "region"),
        ({"backends": ["aws"]}, "backend"),
        ({"max_price": 0.5}, "price"),
        ({"resources": {"memory": "64GB.."}}, "memory"),
        ({"spot_policy": "spot"}, "spot"),
    ],
)
def test_the_template_of_the_fleet_holds_beside_the_run(template: dict, stage: str):
    drop = dropped(requirements(SMALL), offer(), **template)
    assert drop.stage == stage
    assert drop.reason.startswith("fleet 'f': ")


def test_a_fleet_without_resources_allows_all():
    assert fits(requirements(SMALL), offer(cpus=1, memory_gb=1, disk_gb=10)) == ["m1"]


def test_a_spot_policy_of_auto_yields_to_the_other():
    both = (offer("od"), offer("sp", spot=True))
    assert fits(requirements(SMALL, spot=True), *both, spot_policy="auto") == ["sp"]
    assert fits(requirements(SMALL, spot=None), *both, spot_policy="spot") == ["sp"]
    assert fits(requirements(SMALL, spot=None), *both, spot_policy="auto") == ["od", "sp"]


def test_several_nodes_need_a_cluster():
    drop = dropped(requirements(SMALL, multinode=True), offer())
    assert (drop.stage, drop.hint) == ("fleet", "set `placement: cluster` in the fleet")
    assert fits(requirements(SMALL, multinode=True), offer(), placement="cluster") == ["m1"]


def test_reservations_must_agree():
    assert dropped(requirements(SMALL, reservation="a"), offer(), reservation="b").stage == "fleet"


def test_offers_are_ordered_by_price_then_name_whatever_the_input_order():
    offers = [offer("c", price=2), offer("b", price=1), offer("a", price=1)]
    assert fits(requirements(SMALL), *offers) == fits(requirements(SMALL), *reversed(offers)) == ["a", "b", "c"]


def test_blocks_must_divide_the_machine():
    assert dropped(requirements(SMALL), offer(gpu="L4", gpus=4), blocks=3).stage == "blocks"
    assert dropped(requirements(SMALL), offer(containers_only=True), blocks=2).stage == "blocks"


def test_a_run_gets_the_fewest_blocks_that_fit():
    eight = offer(gpu="H100", gpus=8, gpu_gb=80, cpus=64, memory_gb=512)
    (one,) = candidates(requirements({**SMALL, "gpu": "2"}), [fleet(blocks="auto")], (), [eight]).candidates
    assert (one.blocks, one.total_blocks) == (2, 8)
    (one,) = candidates(requirements({**SMALL, "memory": "100GB"}), [fleet(blocks=4)], (), [eight]).candidates
    assert (one.blocks, one.total_blocks) == (1, 4)
    (one,) = candidates(requirements({**SMALL, "memory": "200GB"}), [fleet(blocks=4)], (), [eight]).candidates
    assert one.blocks == 2


def test_an_unreachable_instance_is_no_candidate():
    lost = instance(linked=False, unreachable_since=1.0)
    found = candidates(requirements(SMALL), [fleet()], [lost], ())
    assert [d.stage for d in found.report.drops] == ["unreachable"]


def test_idle_instances_come_before_offers_and_busy_ones_apart():
    f = fleet(nodes="0..9")
    idle_, busy = instance(0), instance(1, status=InstanceStatus.BUSY, busy_blocks=1)
    found = candidates(requirements(SMALL), [f], [busy, idle_], [offer(price=0.1)])
    assert [(c.availability, c.instance and c.instance.num) for c in found.candidates] == [
        (Availability.IDLE, 0),
        (Availability.UNKNOWN, None),
    ]
    assert [c.instance and c.instance.num for c in found.busy] == [1]


def test_named_instances_are_the_only_candidates():
    found = candidates(
        requirements(SMALL, instances=("f-1",)), [fleet(nodes="0..9")], [instance(0), instance(1)], [offer()]
    )
    assert [c.instance and c.instance.name for c in found.candidates] == ["f-1"]


def test_instances_are_named_by_fleet_and_number_or_by_their_host():
    first, second, third = (instance(n) for n in range(3))
    named = frozenset({"f-0", "10.0.0.2"})
    found = candidates(requirements(SMALL, instances=tuple(named)), [fleet()], [first, second, third], [])
    assert [c.instance.name for c in found.candidates if c.instance] == ["f-0", "f-2"]
    assert [(d.stage, d.count, d.nearest) for d in found.report.drops] == [("instance", 1, "f-1")]


def test_a_named_instance_that_does_not_fit_is_the_reason_that_is_told():
    small, big = instance(0, offer=offer("s", memory_gb=8)), instance(1, offer=offer("b", memory_gb=64))
    found = candidates(requirements({"memory": "32GB.."}, instances=("f-0",)), [fleet()], [small, big], [offer()])
    assert found.candidates == ()
    assert found.best_reason == "memory: needs 32GB, best has 8GB"


def test_a_named_instance_that_is_taken_is_busy_though_others_are_free():
    taken = instance(0, status=InstanceStatus.BUSY, busy_blocks=1)
    found = candidates(requirements(SMALL, instances=("f-0",)), [fleet()], [taken, instance(1)], [])
    assert (found.candidates, [c.instance and c.instance.name for c in found.busy]) == ((), ["f-0"])
    assert found.best_reason and found.best_reason.startswith("busy: all that fit are busy")


def test_without_fleets_offers_alone_are_asked():
    found = candidates(requirements(SMALL), None, (), [offer(), offer("sp", spot=True)])
    assert [c.offer.instance_type for c in found.candidates] == ["m1"]
    assert found.candidates[0].fleet is None


def test_the_plan_of_a_fleet_shows_its_offers_and_why_others_are_not_among_them():
    configuration = FleetConfiguration.model_validate(
        {"type": "fleet", "nodes": 1, "resources": {**SMALL, "memory": "16GB"}, "spot_policy": "auto"}
    )
    found = fleet_candidates(configuration, [offer(), offer("tiny", memory_gb=8)])
    assert [c.offer.instance_type for c in found.candidates] == ["m1"]
    assert found.report.considered == 2
    assert [d.stage for d in found.report.drops] == ["memory"]


@pytest.mark.parametrize(
    ("name", "mib", "gb"),
    [
        ("L4", 23034, 24),
        ("A100", 40960, 40),
        ("A100", 81920, 80),
        ("H100", 81559, 80),
        ("H200", 143771, 141),
        ("T4", 15360, 16),
        ("RTX 4090", 24564, 24),
        ("NEWGPU", 31 * 1024, 32),
        ("NEWGPU", 27 * 1024, 27),
    ],
)
def test_gpu_memory_is_counted_by_its_class(name: str, mib: int, gb: int):
    assert nominal_gpu_gb(name, mib) == gb


@pytest.mark.parametrize(("gib", "nominal"), [(15.6, 16), (62.7, 64), (503, 512), (13, 13), (5000, 5000)])
def test_host_memory_is_counted_by_its_nominal_size(gib: float, nominal: int):
    assert nominal_memory_mib(int(gib * 1024)) == nominal * 1024


@pytest.mark.parametrize(("gib", "nominal"), [(91.4, 100), (28.9, 30), (439, 480), (73, 80), (72, 72), (85, 85)])
def test_a_disk_is_counted_by_its_nominal_size(gib: float, nominal: int):
    assert nominal_disk_mib(int(gib * 1024)) == nominal * 1024


EIGHT = offer("big", price=8, cpus=64, memory_gb=512, gpu="H100", gpus=8, gpu_gb=80)


@pytest.mark.parametrize(
    ("wish", "blocks", "price"),
    [
        ({"gpu": "H100:1"}, 1, 1.0),
        ({"gpu": "H100:2"}, 2, 2.0),
        ({"gpu": "1..", "memory": "100GB.."}, 2, 2.0),
        ({"gpu": "1..", "cpu": "20.."}, 3, 3.0),
        ({"gpu": "1..", "memory": "512GB.."}, 8, 8.0),
    ],
)
def test_a_job_takes_and_pays_the_fewest_blocks_that_have_enough(wish: dict, blocks: int, price: float):
    found = candidates(requirements(SMALL | wish), [fleet(blocks="auto")], (), [EIGHT])
    (one,) = found.candidates
    assert (one.blocks, one.total_blocks, one.price) == (blocks, 8, price)
    assert len(one.resources.gpus) == blocks
    assert one.resources.disk_mib == EIGHT.resources.disk_mib


def test_the_highest_price_of_a_run_is_held_against_its_blocks_and_that_of_a_fleet_against_the_machine():
    asked = requirements(SMALL | {"gpu": "1"}, max_price=2)
    assert candidates(asked, [fleet(blocks="auto")], (), [EIGHT]).candidates
    refused = candidates(asked, [fleet(blocks="auto", max_price=4)], (), [EIGHT])
    assert refused.best_reason == "price: fleet 'f': max_price is $4, best has $8"


def test_what_is_free_of_a_machine_can_be_shown_instead():
    used = instance(offer=EIGHT, total_blocks=8, busy_blocks=3, status=InstanceStatus.BUSY)
    (one, new) = candidates(requirements(SMALL | {"gpu": "1"}), [fleet(blocks="auto")], [used], [EIGHT]).candidates
    assert (one.blocks, one.whole().blocks, one.unallocated().blocks) == (1, 8, 5)
    assert (new.blocks, new.unallocated().blocks) == (1, 8)


def test_a_node_of_several_takes_a_whole_machine():
    asked = requirements(SMALL | {"gpu": "1.."}, multinode=True)
    half = instance(0, offer=EIGHT, total_blocks=8, busy_blocks=4, status=InstanceStatus.BUSY)
    found = candidates(
        asked, [fleet(blocks="auto", placement="cluster")], [half, instance(1, offer=EIGHT, total_blocks=8)], []
    )
    assert [(c.instance and c.instance.num, c.blocks) for c in found.candidates] == [(1, 8)]


def test_blocks_into_which_the_gpus_cannot_be_divided_rule_a_machine_out_by_name():
    drop = dropped(requirements(SMALL), EIGHT, blocks=3)
    assert (drop.stage, drop.reason, drop.nearest) == ("blocks", "8 GPUs cannot be divided into 3 blocks", "big")
    assert drop.hint == "set `blocks: auto`"
