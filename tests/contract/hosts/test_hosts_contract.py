"""What every `Hosts` does, whether its machines are real or pretended."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from pathlib import Path

import asyncssh
import pytest

import dstack
from contract.hosts.conftest import DEADLINE_S, LABEL, Reach
from dstack.agentapi.client import AgentUnreachable
from dstack.agentapi.wire import TaskSpec
from dstack.model.host import Finding, Hop
from dstack.ssh.errors import AgentMissing, HostKeyChanged, HostUnreachable
from dstack.ssh.host import Credentials, Onboarded, PinnedKeys, Unfit, Upgrade
from support.bundles import changed
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts_one import SUDOER


def failed(done: Onboarded | Unfit) -> Finding:
    """The one thing that is wrong."""
    assert isinstance(done, Unfit), done
    assert len(done.report.failed) == 1, done.report.failed
    return done.report.failed[0]


async def test_a_host_that_is_taken_in_tells_what_it_has_and_its_agent_answers(reach: Reach) -> None:
    id, done = await reach.ready("host-a")
    assert done.facts.hostname == "host-a" and done.facts.cpus > 0 and done.facts.boot_id
    assert done.addresses == (f"{reach.ground.address('host-a')}/24",) and done.internal_ip is None
    assert done.pinned.host and done.pinned.host.startswith("ssh-") and done.pinned.proxy is None
    assert [f.state for f in done.report.findings if f.check == "ssh"] == ["ok"]
    assert await reach.run_of_agent(id)


async def test_a_host_that_is_taken_in_again_keeps_its_agent(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    before = await reach.run_of_agent(id)
    await reach.ready("host-a", id)
    assert await reach.run_of_agent(id) == before


async def test_a_host_that_does_not_answer_is_unfit_with_the_reason(reach: Reach) -> None:
    reach.ground.cut("host-c")
    try:
        _, done = await reach.onboard("host-c")
    finally:
        reach.ground.restore("host-c")
    assert failed(done).check == "ssh" and done.pinned == PinnedKeys()


async def test_a_name_that_nobody_knows_is_unfit_and_told(reach: Reach) -> None:
    at = reach.at("host-a").model_copy(update={"hop": Hop(hostname="no-such-host.invalid", user=SUDOER)})
    credentials = Credentials(reach.ground.key, reach.ground.key)
    done = await reach.hosts.onboard("x", at, credentials, PinnedKeys(), reach.bundle, LABEL)
    assert failed(done).check == "ssh" and "no-such-host.invalid:22" in failed(done).message


async def test_a_host_that_refuses_the_key_is_unfit_and_tells_the_line_to_add(reach: Reach) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    _, done = await reach.onboard("host-a", key=other.export_private_key().decode())
    assert failed(done).check == "ssh" and "does not let ubuntu in with this key" in failed(done).message
    assert other.export_public_key().decode().split()[1] in failed(done).remedy
    assert "authorized_keys" in failed(done).remedy


async def test_a_key_with_a_passphrase_is_told_before_anything_is_tried(reach: Reach, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a secret", "-f", path], check=True, timeout=30)
    _, done = await reach.onboard("host-a", key=path.read_text())
    assert failed(done).check == "ssh" and "passphrase" in failed(done).message
    assert "ssh-keygen" in failed(done).remedy


async def test_the_internal_address_is_that_in_the_network_of_the_fleet(reach: Reach) -> None:
    _, done = await reach.ready("host-a", network=f"{reach.ground.subnet}.0/24")
    assert done.internal_ip == reach.ground.address("host-a")


async def test_a_host_outside_the_network_of_the_fleet_is_unfit_and_says_what_it_has(reach: Reach) -> None:
    _, done = await reach.onboard("host-a", network="192.168.77.0/24")
    assert failed(done).check == "network" and reach.ground.address("host-a") in failed(done).message


async def test_an_internal_address_that_is_not_the_hosts_makes_it_unfit(reach: Reach) -> None:
    _, done = await reach.onboard("host-a", internal_ip="192.168.77.7")
    assert failed(done).check == "network" and "192.168.77.7" in failed(done).message


async def test_a_host_of_another_fleet_is_refused_with_that_fleets_name(reach: Reach) -> None:
    first, _ = await reach.ready("host-a")
    _, done = await reach.onboard("host-a")
    assert failed(done).check == "owner" and LABEL in failed(done).message
    assert await reach.run_of_agent(first)


async def test_a_machine_with_another_instances_mark_is_not_taken_for_ours(reach: Reach) -> None:
    id, _ = await reach.ready("host-b")
    _, at, credentials, pinned = reach.way(id)
    with pytest.raises(AgentMissing, match=LABEL):
        await reach.hosts.agent("ours", at, credentials, pinned)


async def test_a_host_that_was_never_taken_in_has_no_agent_of_ours(reach: Reach) -> None:
    id, _ = await reach.ready("host-b")
    await reach.hosts.offboard(*reach.way(id))
    with pytest.raises(AgentMissing):
        await reach.hosts.agent(*reach.way(id))


async def test_a_killed_agent_is_started_by_the_next_question_and_knows_its_tasks(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    before, client = await reach.run_of_agent(id), await reach.client(id)
    spec = TaskSpec(id=str(uuid.uuid4()), name="job", image=BUSYBOX_IMAGE, shell="/bin/sh", script="sleep 600")
    await client.put_task(spec)
    reach.ground.kill_agent("host-a")
    assert (await client.health(deadline_s=DEADLINE_S)).run != before
    assert [each.id for each in await client.tasks()] == [spec.id]
    await client.aclose()


async def test_questions_fail_in_time_while_the_link_is_cut_and_are_answered_when_it_is_back(reach: Reach) -> None:
    id, _ = await reach.ready("host-b")
    client = await reach.client(id)
    before = (await client.health(deadline_s=DEADLINE_S)).run
    reach.ground.cut("host-b")
    try:
        with pytest.raises(AgentUnreachable):
            await client.health(deadline_s=1.0)
    finally:
        reach.ground.restore("host-b")
    assert (await client.health(deadline_s=DEADLINE_S)).run == before
    await client.aclose()


async def test_a_wiped_host_is_noticed_on_a_connection_that_still_stands_and_can_be_taken_in_again(
    reach: Reach,
) -> None:
    id, _ = await reach.ready("host-b")
    client = await reach.client(id)
    await client.health(deadline_s=DEADLINE_S)
    reach.ground.wipe("host-b")
    with pytest.raises(AgentUnreachable):
        await client.health(deadline_s=DEADLINE_S)
    with pytest.raises(AgentMissing):
        await reach.hosts.agent(*reach.way(id))
    await client.aclose()
    await reach.ready("host-b", id)


async def test_a_changed_host_key_stops_everything_and_is_a_finding_when_the_host_is_taken_in(reach: Reach) -> None:
    id, done = await reach.ready("host-b")
    reach.ground.change_host_key("host-b")
    await reach.hosts.forget(id)
    with pytest.raises(HostKeyChanged) as told:
        await reach.hosts.agent(*reach.way(id))
    assert "remove it from the fleet and add it again" in (told.value.hint or "")
    _, again = await reach.onboard("host-b", id, pinned=done.pinned)
    assert failed(again).check == "ssh" and "has changed" in failed(again).message


async def test_after_a_host_was_forgotten_the_next_question_connects_anew(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    client = await reach.client(id)
    before = (await client.health(deadline_s=DEADLINE_S)).run
    await reach.hosts.forget(id)
    assert (await client.health(deadline_s=DEADLINE_S)).run == before
    await client.aclose()


async def test_the_hosts_of_a_cluster_that_are_not_reached_are_named(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    others = [(reach.ground.address(name), 22) for name in ("host-b", "host-c")]
    assert await reach.hosts.unreached(*reach.way(id), others) == ()
    reach.ground.wall_off("host-c", of="host-a")
    try:
        problems = await reach.hosts.unreached(*reach.way(id), others)
    finally:
        reach.ground.tear_down("host-c", of="host-a")
    assert len(problems) == 1 and problems[0].startswith(f"{reach.ground.address('host-c')}: port 22: ")


async def test_a_port_of_the_host_is_opened_and_one_that_nobody_listens_on_is_refused(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await reach.hosts.open_port(*reach.way(id), 22)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
    writer.close()
    with pytest.raises(HostUnreachable, match="does not open the port"):
        await reach.hosts.open_port(*reach.way(id), 9)


async def test_a_host_behind_a_login_node_has_the_keys_of_both_pinned(reach: Reach) -> None:
    id, done = await reach.ready("host-b", proxy=reach.through("login"))
    assert done.pinned.proxy and done.pinned.proxy != done.pinned.host
    assert await reach.run_of_agent(id)


async def test_a_login_node_where_no_sshd_listens_makes_the_host_behind_it_unfit(reach: Reach) -> None:
    closed = reach.through("login").model_copy(update={"port": 1})
    _, done = await reach.onboard("host-b", proxy=closed)
    assert failed(done).check == "ssh"
    assert failed(done).message == f"Nothing listens on {reach.ground.address('login')}:1"


async def test_leaving_a_host_twice_changes_nothing(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    await reach.hosts.offboard(*reach.way(id))
    await reach.hosts.offboard(*reach.way(id))


async def test_leaving_a_host_that_is_somebody_elses_now_touches_nothing(reach: Reach) -> None:
    id, _ = await reach.ready("host-a")
    _, at, credentials, _ = reach.way(id)
    before = await reach.run_of_agent(id)
    await reach.hosts.offboard("another", at, credentials, PinnedKeys())
    assert await reach.run_of_agent(id) == before


async def test_an_older_agent_gives_way_to_a_newer_one_and_a_newer_one_stays(reach: Reach, tmp_path: Path) -> None:
    older, newer = (changed(reach.bundle, tmp_path, version=version) for version in ("0.1.2", "99.0"))
    id, _ = await reach.ready("host-a")
    before = await reach.run_of_agent(id)
    for bundle in (older, reach.bundle):
        stays = await reach.hosts.upgrade(*reach.way(id), bundle)
        assert stays == Upgrade(dstack.__version__, dstack.__version__)
        assert await reach.run_of_agent(id) == before
    assert await reach.hosts.upgrade(*reach.way(id), newer) == Upgrade(dstack.__version__, "99.0")
    after = await reach.run_of_agent(id)
    assert after != before
    await reach.ready("host-a", id)  # by a server of this version
    assert await reach.run_of_agent(id) == after
    assert (await reach.hosts.upgrade(*reach.way(id), reach.bundle)).now == "99.0"
