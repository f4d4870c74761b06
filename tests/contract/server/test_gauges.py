"""What is kept of the numbers that hosts tell."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from dstack.agentapi.wire import TaskMetrics
from dstack.server.effects.gauges import Gauges
from dstack.server.store.changes import Changes
from dstack.server.store.tables import job_metric
from support.live_host import Host


@pytest.mark.parametrize(("said", "kept"), [(-7200.0, 0.0), (7200.0, 0.0), (1e300, 0.0), (-2.0, -2.0)])
async def test_a_sample_has_the_servers_time_where_the_hosts_clock_is_wrong(host: Host, said: float, kept: float):
    job, now = await host.job("measured"), host.clock.now()
    await Gauges(host.database, Changes(now)).sampled([(job.id, TaskMetrics(now + said))], now)
    async with host.database.read() as connection:
        found = (await connection.execute(select(job_metric.c.at).where(job_metric.c.job_id == job.id))).scalars()
        assert list(found) == [now + kept]
