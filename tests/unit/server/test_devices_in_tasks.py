"""What a job gets of its host: accelerators by its blocks, and what the agent's facts become."""

from __future__ import annotations

from pathlib import Path

from dstack.agentapi import wire
from dstack.model.offer import Gpu
from dstack.server.effects.reports import host_health, host_info
from dstack.server.effects.spec import task_spec
from dstack.server.settings import Settings
from support.builders import instance, job, offer


def gpus_of(blocks: int, total_blocks: int) -> int:
    machine = offer()
    resources = machine.resources.model_copy(
        update={"gpus": (Gpu(vendor="nvidia", name="H100", memory_mib=81559),) * 8}
    )
    i = instance(offer=machine.model_copy(update={"resources": resources}), total_blocks=total_blocks)
    return task_spec(job(on=i, blocks=blocks), i, {}, {}, Settings(Path("/nowhere"))).gpus


def test_a_job_is_leased_the_accelerators_of_its_blocks_or_all_of_a_whole_host():
    assert (gpus_of(1, 1), gpus_of(1, 4), gpus_of(3, 4), gpus_of(8, 8)) == (-1, 2, 6, -1)  # -1 is all of the host


def test_health_and_driver_of_the_facts_are_kept():
    facts = wire.HostFacts(gpus=[wire.GpuFacts(driver="550.90.07")], health=wire.HostHealth(wire.WARNING, "GPU 0: hot"))
    info = host_info(facts)
    assert (info.gpus, info.gpu_driver, info.health, info.health_message) == (1, "550.90.07", "warning", "GPU 0: hot")


def test_a_health_that_is_not_known_here_is_a_warning():
    assert host_health(wire.HostHealth("melting", "x")).health == "warning"
