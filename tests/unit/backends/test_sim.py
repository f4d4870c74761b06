"""The simulated cloud does what its configuration says, failures included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dstack.agentapi.client import AgentClient, AgentUnreachable
from dstack.agentapi.wire import TaskSpec
from dstack.backends.base import (
    BackendContext,
    Created,
    InstanceOrder,
    OutOfCapacity,
    Refused,
    Terminated,
    Terminating,
)
from dstack.backends.errors import BackendError, BackendUnavailable
from dstack.backends.sim.backend import SimBackend
from dstack.control.scheduling.nominal import nominal_gpu_gb
from dstack.ids import new_id
from dstack.model.offer import Availability, Offer

ONE = {"instance_type": "one", "price": 1.0, "spot_price": 0.3}


class SetClock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def sim(tmp_path: Path, clock: SetClock) -> Callable[..., SimBackend]:
    def make(*failures: dict[str, Any], **config: Any) -> SimBackend:
        context = BackendContext(tmp_path / "sim", lambda: tmp_path / "none", "python3", clock)
        written = {"type": "sim", "run": "pretend", "offers": [ONE], "failures": list(failures), **config}
        return SimBackend.from_config(written, context)

    return make


async def order(backend: SimBackend, spot: bool = False, token: str | None = None) -> InstanceOrder:
    offer = next(o for o in await backend.offers(None) if o.spot is spot)
    return InstanceOrder(token=token or new_id(), offer=offer, name="f-0", project="main", fleet="f")


async def listed(backend: SimBackend) -> list[str]:
    return [one.token for one in await backend.list_instances()]


async def availability(backend: SimBackend) -> set[Availability]:
    return {offer.availability for offer in await backend.offers(None)}


async def test_the_built_in_catalogue_is_priced_spot_is_cheaper_and_gpus_have_their_nominal_size(sim):
    offers: list[Offer] = list(await sim(offers=None).offers(None))
    prices = {offer.key: offer.price for offer in offers}
    assert len(prices) == len(offers) > 40 and all(price > 0 for price in prices.values())
    assert all(price < prices[key.removesuffix("/spot")] for key, price in prices.items() if key.endswith("/spot"))
    assert {"T4", "L4", "A10G", "A100", "H100", "MI300X"} <= {g.name for o in offers for g in o.resources.gpus}
    for gpu in {g for o in offers for g in o.resources.gpus if g.vendor != "google"}:
        assert nominal_gpu_gb(gpu.name, gpu.memory_mib) * 1024 == gpu.memory_mib


async def test_machines_in_a_folder_of_its_own_are_there_for_every_server_that_names_it(
    tmp_path: Path, clock: SetClock
):
    def server(name: str) -> SimBackend:
        context = BackendContext(tmp_path / name, lambda: tmp_path / "none", "python3", clock)
        config = {"type": "sim", "run": "pretend", "offers": [ONE], "folder": str(tmp_path / "cloud")}
        return SimBackend.from_config(config, context)

    here, there = server("here"), server("there")
    assert await listed(there) == []
    wanted = await order(here)
    made = await here.create_instance(wanted)
    assert isinstance(made, Created)
    assert await there.create_instance(wanted) == made
    assert await listed(there) == [wanted.token]
    assert isinstance(await there.terminate_instance(wanted.token, made.data), Terminated)
    assert (await here.describe_instance(wanted.token, made.data)).state == "gone"
    assert await listed(here) == []


async def test_regions_keep_only_the_offers_of_these(sim):
    assert {o.region for o in await sim(offers=None, regions=["sim-west"]).offers(None)} == {"sim-west"}


async def test_stock_is_shared_by_spot_and_on_demand_and_comes_back(sim):
    backend = sim(stock=1)
    wish = await order(backend)
    assert isinstance(await backend.create_instance(wish), Created)
    assert await availability(backend) == {Availability.NOT_AVAILABLE}
    assert isinstance(await backend.create_instance(await order(backend, spot=True)), OutOfCapacity)
    await backend.terminate_instance(wish.token, None)
    assert await availability(backend) == {Availability.AVAILABLE}


@pytest.mark.parametrize(("kind", "result"), [("no_capacity", OutOfCapacity), ("quota", Refused), ("refused", Refused)])
async def test_a_failure_of_creation_is_told_and_leaves_no_machine(sim, kind, result):
    backend = sim({"kind": kind, "times": 1})
    assert isinstance(await backend.create_instance(await order(backend)), result)
    assert await listed(backend) == []
    assert isinstance(await backend.create_instance(await order(backend)), Created)


async def test_a_provider_that_does_not_answer_makes_nothing(sim):
    backend = sim({"kind": "unavailable", "times": 1})
    with pytest.raises(BackendUnavailable):
        await backend.create_instance(await order(backend))
    assert await listed(backend) == []


async def test_a_lost_result_leaves_one_machine_which_the_same_token_finds(sim):
    backend = sim({"kind": "result_lost", "times": 1})
    wish = await order(backend)
    with pytest.raises(BackendUnavailable):
        await backend.create_instance(wish)
    assert isinstance(await backend.create_instance(wish), Created)
    assert await listed(backend) == [wish.token]


async def test_failures_concern_only_the_types_that_they_name(sim):
    backend = sim(
        {"kind": "no_capacity", "offers": ["gpu-*"]},
        offers=[ONE, {"instance_type": "gpu-1", "price": 2, "gpu": "L4:24GB"}],
    )
    results = {
        offer.instance_type: await backend.create_instance(InstanceOrder(new_id(), offer, "f-0", "main", "f"))
        for offer in await backend.offers(None)
        if not offer.spot
    }
    assert isinstance(results["one"], Created) and isinstance(results["gpu-1"], OutOfCapacity)


async def series(backend: SimBackend, count: int) -> list[type]:
    return [type(await backend.create_instance(await order(backend))) for _ in range(count)]


async def test_the_same_seed_gives_the_same_failures_also_over_a_restart(sim, tmp_path: Path, clock: SetClock):
    def fresh(folder: str, seed: int) -> SimBackend:
        context = BackendContext(tmp_path / folder, lambda: tmp_path / "none", "python3", clock)
        failures = [{"kind": "no_capacity", "rate": 0.5}]
        return SimBackend.from_config({"run": "pretend", "offers": [ONE], "failures": failures, "seed": seed}, context)

    whole = await series(fresh("a", 7), 24)
    assert set(whole) == {Created, OutOfCapacity}
    assert await series(fresh("b", 7), 12) + await series(fresh("b", 7), 12) == whole
    assert await series(fresh("c", 8), 24) != whole


async def test_a_machine_answers_only_when_it_has_booted(sim, clock: SetClock):
    backend = sim(delays={"boot": 20})
    wish = await order(backend)
    created = await backend.create_instance(wish)
    assert (await backend.describe_instance(wish.token, created.data)).state == "pending"
    with pytest.raises(BackendError):
        await backend.agent_connect(wish.token, created.data)
    clock.at += 20
    client = AgentClient(await backend.agent_connect(wish.token, created.data))
    assert (await client.host()).cpus == 4
    await client.aclose()


async def test_a_deaf_machine_runs_and_never_answers(sim, clock: SetClock):
    backend = sim({"kind": "deaf"})
    wish = await order(backend)
    created = await backend.create_instance(wish)
    clock.at += 10_000
    assert (await backend.describe_instance(wish.token, created.data)).state == "running"
    with pytest.raises(BackendError):
        await backend.agent_connect(wish.token, created.data)


async def test_a_preempted_spot_machine_stops_answering_and_is_gone_as_such(sim, clock: SetClock):
    backend = sim({"kind": "preemption", "after": 60})
    wish = await order(backend, spot=True)
    created = await backend.create_instance(wish)
    client = AgentClient(await backend.agent_connect(wish.token, created.data))
    await client.health()
    clock.at += 60
    backend._connections.cut(wish.token)  # what the timer does at that moment of wall time
    with pytest.raises(AgentUnreachable):
        await client.health()
    state = await backend.describe_instance(wish.token, created.data)
    assert (state.state, state.preempted) == ("gone", True)
    assert await listed(backend) == []
    assert isinstance(await backend.terminate_instance(wish.token, created.data), Terminated)
    await client.aclose()


async def test_preemption_spares_on_demand_machines(sim, clock: SetClock):
    backend = sim({"kind": "preemption", "after": 60})
    wish = await order(backend)
    created = await backend.create_instance(wish)
    clock.at += 61
    assert (await backend.describe_instance(wish.token, created.data)).state == "running"


async def test_terminating_takes_its_time_and_fails_as_often_as_it_is_told_to(sim, clock: SetClock):
    backend = sim({"kind": "terminate_fails", "times": 3}, delays={"terminate": 5})
    wish = await order(backend)
    await backend.create_instance(wish)
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await backend.terminate_instance(wish.token, None)
    assert isinstance(await backend.terminate_instance(wish.token, None), Terminating)
    assert await listed(backend) == [wish.token]
    clock.at += 5
    assert isinstance(await backend.terminate_instance(wish.token, None), Terminated)
    assert await listed(backend) == []


async def test_a_list_may_forget_a_machine_and_show_one_that_is_gone(sim):
    backend = sim({"kind": "list_forgets", "times": 1}, {"kind": "list_lies", "times": 1})
    one, two = await order(backend), await order(backend)
    await backend.create_instance(one)
    assert await listed(backend) == [] and await listed(backend) == [one.token]
    await backend.create_instance(two)
    await backend.terminate_instance(one.token, None)
    assert sorted(await listed(backend)) == sorted([one.token, two.token])
    assert await listed(backend) == [two.token]


async def test_a_machine_goes_on_as_it_was_made_when_the_configuration_changes(sim):
    wish = await order(sim())
    created = await sim().create_instance(wish)
    client = AgentClient(await sim(run="process").agent_connect(wish.token, created.data))
    assert (await client.health()).version == "pretends"
    await client.aclose()


async def test_a_failure_that_is_written_anew_begins_anew(sim):
    kinds = [{"kind": "quota", "times": 1}, {"kind": "quota", "times": 1}, {"kind": "quota", "times": 2}]
    results = [type(await backend.create_instance(await order(backend))) for backend in map(sim, kinds)]
    assert results == [Refused, Created, Refused]


async def test_a_pretended_job_says_that_nothing_ran_and_ends_as_configured(sim):
    backend = sim(pretend={"duration": 0, "exit_code": 3})
    wish = await order(backend)
    created = await backend.create_instance(wish)
    client = AgentClient(await backend.agent_connect(wish.token, created.data))
    await client.put_task(TaskSpec(id="5a0c6f6e-0000-4000-8000-000000000001", name="train", script="echo hi"))
    page, state = await client.events("", 0), ""
    while state != "exited":
        state = page.tasks[0].state if page.tasks else state
        page = await client.events(page.run, page.seq if state != "exited" else 0, 5.0)
    assert page.tasks[0].exit_code == 3
    assert b"nothing is executed" in (await client.logs(page.tasks[0].id, 0)).data
    await client.aclose()
