"""GPUs on offer, and processors where no GPU is wanted, grouped: what `dstack offer --group-by` shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from dstack.control.run.submission import job_spec
from dstack.control.scheduling import Candidate
from dstack.errors import DstackError
from dstack.model.wire.requests import ListGpus
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.runs.planning import UNNAMED, matching, pool_of
from dstack.server.services.specs import effective_run_spec, read_run_spec
from dstack.server.services.wire.plans import Showing
from dstack.server.services.wire.values import backend


async def list_gpus(parts: Parts, access: Access, request: ListGpus) -> dict[str, Any]:
    """Groups of one GPU type each, split further as asked, the cheapest first. Raises DstackError."""
    group_by = request.group_by or []
    if "region" in group_by and "backend" not in group_by:
        raise DstackError("Cannot group by 'region' without also grouping by 'backend'")
    spec = job_spec(effective_run_spec(read_run_spec(request.run_spec)), UNNAMED)
    offers = await parts.offers.all(access.project.id)
    async with parts.database.read() as connection:
        pool = await pool_of(connection, access.project.id, offers, parts.database.kept)
    showing = Showing(full=request.full_offers, unallocated=request.unallocated_resources)
    found = showing.of(matching(spec, pool, True, parts.clock.now()).candidates)
    groups: dict[tuple[Any, ...], list[Candidate]] = defaultdict(list)
    for one in found:
        if one.resources.gpus:
            groups[_key(one, group_by)].append(one)
    rendered = [_group(of_key, group_by) for of_key in groups.values()]
    gpu, cpus = spec.requirements.resources.gpu, None
    if gpu is None or gpu.count.max == 0:
        cpus = _sorted(_cpu_groups(found, group_by), request.reverse)
    return {"gpus": _sorted(rendered, request.reverse), "cpus": cpus}


def _sorted(groups: Iterable[dict[str, Any]], reverse: bool) -> list[dict[str, Any]]:
    return sorted(groups, key=lambda group: group["price"]["min"], reverse=reverse)


def _cpu_groups(found: Sequence[Candidate], group_by: Sequence[str]) -> list[dict[str, Any]]:
    """Offers without a GPU by number of processors and memory, which is what tells them apart."""
    groups: dict[tuple[Any, ...], list[Candidate]] = defaultdict(list)
    for one in found:
        of, place = one.resources, _place(one, group_by)
        if not of.gpus:
            groups[(of.cpus, of.memory_mib, *place)].append(one)
    return [_cpu_group(of_key, group_by) for of_key in groups.values()]


def _cpu_group(found: Sequence[Candidate], group_by: Sequence[str]) -> dict[str, Any]:
    return {
        "cpu_arch": _unique(str(one.resources.cpu_arch) for one in found),
        "count": _range(one.resources.cpus for one in found),
        "memory_mib": _range(one.resources.memory_mib for one in found),
        "price": _range(one.price for one in found),
        **_where(found, group_by),
    }


def _key(one: Candidate, group_by: Sequence[str]) -> tuple[Any, ...]:
    gpu = one.resources.gpus[0]
    return (gpu.vendor, gpu.name, gpu.memory_mib, *_place(one, group_by))


def _place(one: Candidate, group_by: Sequence[str]) -> tuple[Any, ...]:
    parts = {"backend": one.offer.backend, "region": one.offer.region, "count": len(one.resources.gpus)}
    return tuple(parts[name] for name in group_by)


def _group(found: Sequence[Candidate], group_by: Sequence[str]) -> dict[str, Any]:
    gpu = found[0].resources.gpus[0]
    return {
        "name": gpu.name,
        "memory_mib": gpu.memory_mib,
        "vendor": gpu.vendor,
        "count": _range(len(one.resources.gpus) for one in found),
        "price": _range(one.price / len(one.resources.gpus) for one in found),
        "offer_price": _range(one.price for one in found),
        **_where(found, group_by),
    }


def _where(found: Sequence[Candidate], group_by: Sequence[str]) -> dict[str, Any]:
    """Backends and regions: lists, or the one of a group that is split by them."""
    first = found[0].offer
    by_backend, by_region = "backend" in group_by, "region" in group_by
    return {
        "availability": _unique(str(one.availability) for one in found),
        "spot": _unique("spot" if one.offer.spot else "on-demand" for one in found),
        "backends": None if by_backend else _unique(backend(one.offer.backend) for one in found),
        "backend": backend(first.backend) if by_backend else None,
        "regions": _unique(one.offer.region for one in found) if by_backend and not by_region else None,
        "region": first.region if by_region else None,
        "x_backends": None if by_backend else _unique(one.offer.backend for one in found),
        "x_backend": first.backend if by_backend else None,
    }


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _range(values: Iterable[float]) -> dict[str, float]:
    found = list(values)
    return {"min": min(found), "max": max(found)}
