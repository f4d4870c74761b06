"""Why each host of one's own does not serve: the funnel counts, a person with a list of hosts wants names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dstack.control.scheduling.candidates import fits_of, funnel_of
from dstack.control.scheduling.pool import Pool
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.requirements import Requirements

MOST = 50


def hosts_that_do_not_fit(
    requirements: Requirements, fleets: Sequence[Fleet], instances: Iterable[Instance]
) -> list[tuple[Instance, str]]:
    """The hosts that cannot take the job now, with the reason of each; at most `MOST`."""
    hosts = sorted((i for i in instances if i.remote is not None), key=lambda i: (i.fleet_name, i.num))
    found: list[tuple[Instance, str]] = []
    for host in hosts[:MOST]:
        pool = Pool(fleets, (host,), ())
        funnel = funnel_of(pool, fits_of(pool, requirements), frozenset())
        best = funnel.best()
        if not funnel.fitting and best is not None:
            found.append((host, best.sentence()))
    return found
