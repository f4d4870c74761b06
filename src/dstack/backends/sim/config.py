"""What people write about a simulated cloud: how it runs jobs, what it offers, how slow it is and what fails."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from dstack.model.base import NUMBER, TEXT, Integer, Model, Number, read_by
from dstack.model.offer import Availability, Gpu
from dstack.values.duration import MAX_SECONDS, parse_duration
from dstack.values.gpu import parse_gpu
from dstack.values.grammar import Invalid, is_number, show
from dstack.values.memory import parse_memory

DEFAULT_REGION = "sim-east"
MIB_PER_GB = 1024


class FailureKind(StrEnum):
    """What can go wrong, by name."""

    NO_CAPACITY = "no_capacity"  # the provider has none of it now
    QUOTA = "quota"  # the account may not have more
    REFUSED = "refused"  # the provider does not like the order
    UNAVAILABLE = "unavailable"  # the provider does not answer a create
    RESULT_LOST = "result_lost"  # the machine is made, the answer is lost
    SLOW = "slow"  # the machine takes `delay` longer to be made
    DEAF = "deaf"  # the machine is made, its agent never answers
    PREEMPTION = "preemption"  # the provider takes a spot machine back, `after` it was made
    VANISHED = "vanished"  # the machine is gone, `after` it was made, spot or not
    TERMINATE_FAILS = "terminate_fails"  # a request to terminate fails
    LIST_FORGETS = "list_forgets"  # a machine is missing in one list
    LIST_LIES = "list_lies"  # a machine that is gone still stands in one list


def _seconds(value: Any) -> float:
    """`0.2`, or a duration."""
    try:
        seconds = float(value) if is_number(value) or isinstance(value, str) else -1.0
    except ValueError:
        seconds = -1.0
    return seconds if 0 <= seconds < MAX_SECONDS else float(parse_duration(value))


def _gpus(value: Any) -> tuple[Gpu, ...]:
    """`A100:40GB:2`, `amd:MI300X:192GB`: one name, one size, a number."""
    if isinstance(value, tuple):
        return value
    expected = "a name, a memory size and a number, such as `A100:40GB:2`"
    asked = parse_gpu(value)
    if asked.names is None or len(asked.names) != 1 or asked.memory is None or asked.memory.min is None:
        raise Invalid(f"{show(value)} does not say exactly which GPU it is, expected {expected}")
    count = 1 if asked.count is None or asked.count.min is None else asked.count.min
    gpu = Gpu(
        name=asked.names[0], memory_mib=round(asked.memory.min * MIB_PER_GB), vendor=asked.vendor or _vendor(asked)
    )
    return (gpu,) * count


def _vendor(asked: Any) -> str:
    name = asked.names[0].upper()
    if name.startswith("MI"):
        return "amd"
    return "google" if name.startswith("V") and name[1:2].isdigit() and "-" in name else "nvidia"


Seconds = Annotated[float, read_by(_seconds, TEXT, NUMBER)]
Gigabytes = Annotated[float, read_by(parse_memory, TEXT, NUMBER)]


class SimOffer(Model):
    """One shape. `price` and `spot_price` are $ per hour; a price that is left out is not offered.

    `stock` is how many of them there can be at once in each region, spot or not; None is without end.
    """

    instance_type: Annotated[str, Field(min_length=1)]
    regions: Annotated[tuple[str, ...], Field(min_length=1)] = (DEFAULT_REGION,)
    price: Annotated[Number, Field(ge=0)] | None = None
    spot_price: Annotated[Number, Field(ge=0)] | None = None
    cpus: Annotated[Integer, Field(ge=1)] = 4
    memory: Gigabytes = 16.0
    disk: Gigabytes = 100.0
    arch: Literal["x86", "arm"] = "x86"
    gpu: Annotated[tuple[Gpu, ...], read_by(_gpus, TEXT)] = ()
    stock: Annotated[Integer, Field(ge=0)] | None = None
    availability: Literal[Availability.AVAILABLE, Availability.UNKNOWN, Availability.NO_QUOTA] = Availability.AVAILABLE


class Delays(Model):
    """`create` is until the provider answers, `boot` from then until the agent does, `terminate` until it is gone."""

    create: Seconds = 0.0
    boot: Seconds = 0.0
    terminate: Seconds = 0.0


class Failure(Model):
    """`rate` is the chance of each case, `times` how many there are at most, `offers` names or patterns of types."""

    kind: FailureKind
    rate: Annotated[Number, Field(gt=0, le=1)] = 1.0
    times: Annotated[Integer, Field(ge=1)] | None = None
    offers: tuple[str, ...] | None = None
    delay: Seconds = 30.0
    after: Seconds = 30.0


class Pretence(Model):
    """How long a job that is only pretended lasts, and its exit code."""

    duration: Seconds = 5.0
    exit_code: Annotated[Integer, Field(ge=0, le=255)] = 0


class SimConfig(Model):
    """`run`: `process` runs jobs as processes of this machine, `pretend` runs nothing and says so.

    `offers` None is the built-in catalogue; `regions` keeps only those. The same `seed` gives the same failures.
    `folder` is where the machines are, for several servers that all see it; None: in the server's own, which no other
    server reaches.
    """

    type: Literal["sim"] = "sim"
    run: Literal["process", "pretend"] = "process"
    pretend: Pretence = Pretence()
    regions: tuple[str, ...] | None = None
    offers: tuple[SimOffer, ...] | None = None
    stock: Annotated[Integer, Field(ge=0)] | None = None
    delays: Delays = Delays()
    failures: tuple[Failure, ...] = ()
    seed: Integer = 0
    folder: str | None = None
