"""What a job, or each instance of a fleet, must have: ranges of cores, memory, GPUs and disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dstack.model.base import NUMBER, TEXT, Model, ReadBy, read_all_by, read_by
from dstack.values.cpu import format_cpu, parse_arch, parse_cores, parse_cpu
from dstack.values.gpu import (
    GpuRequest,
    format_gpu,
    parse_compute_capability,
    parse_gpu,
    parse_gpu_count,
    parse_gpu_memory,
    parse_gpu_names,
    parse_vendor,
)
from dstack.values.memory import format_memory, parse_memory
from dstack.values.ranges import Bounds, check_order, format_range, parse_int, parse_range

RESOURCE_NAMES = ("cpu", "memory", "gpu", "disk")

Gigabytes = Annotated[float, read_by(parse_memory, TEXT)]
Count = Annotated[int, read_by(parse_int, TEXT)]
_BOUNDS = {
    "type": "object",
    "properties": {"min": {}, "max": {}},
    "additionalProperties": False,
}


class IntRange(Model):
    """Whole numbers; both ends belong to it, None is open."""

    min: Count | None = None
    max: Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_order(self.min, self.max, format_range(self.min, self.max))
        return self

    @property
    def bounds(self) -> Bounds[int]:
        return Bounds(self.min, self.max)

    def __contains__(self, value: float) -> bool:
        return (self.min is None or self.min <= value) and (self.max is None or value <= self.max)


class FloatRange(Model):
    """Gigabytes; both ends belong to it, None is open."""

    min: Gigabytes | None = None
    max: Gigabytes | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_order(self.min, self.max, format_range(self.min, self.max, format_memory))
        return self

    @property
    def bounds(self) -> Bounds[float]:
        return Bounds(self.min, self.max)

    def __contains__(self, value: float) -> bool:
        return (self.min is None or self.min <= value) and (self.max is None or value <= self.max)


def range_by(parse: Callable[[Any], Bounds]) -> ReadBy:
    """Text and numbers are read by the grammar, objects by the model."""

    def read(value: Any) -> Any:
        return value if isinstance(value, (dict, Model)) else parse(value)._asdict()

    return read_all_by(read, TEXT, NUMBER)


def _at_least_memory(value: Any) -> Bounds[float]:
    return parse_range(value, parse_memory, single="at-least", noun="range of memory")


AtLeastMemory = Annotated[FloatRange, range_by(_at_least_memory)]
GpuMemory = Annotated[FloatRange, range_by(parse_gpu_memory)]


class CPUSpec(Model):
    """Cores of one architecture, or of any where `arch` is None; a single number is a lower bound."""

    SHORT_FORMS = (TEXT, NUMBER, _BOUNDS)

    arch: Annotated[Literal["x86", "arm"] | None, read_by(lambda value: parse_arch(str(value)), TEXT)] = None
    count: Annotated[IntRange, range_by(parse_cores)] = IntRange(min=2)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {"count": value} if value and value.keys() <= {"min", "max"} else value
        if isinstance(value, Model):
            return value
        request = parse_cpu(value)
        count = {"count": request.count._asdict()} if request.count else {}
        return {"arch": request.arch, **count}

    def pretty(self) -> str:
        return format_cpu(self.arch, self.count.min, self.count.max)


class GPUSpec(Model):
    """GPUs of each instance. `memory` is that of one GPU, a single size the nominal class; a written count is exact."""

    SHORT_FORMS = (TEXT, NUMBER)

    vendor: Annotated[str | None, read_by(parse_vendor, TEXT)] = None
    name: Annotated[tuple[str, ...] | None, read_by(parse_gpu_names, TEXT)] = None
    count: Annotated[IntRange, range_by(parse_gpu_count)] = IntRange(min=1)
    memory: GpuMemory | None = None
    total_memory: GpuMemory | None = None
    compute_capability: Annotated[
        tuple[int, int] | None, read_by(parse_compute_capability, TEXT, NUMBER, {"type": "array"})
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Model)):
            return value
        request = parse_gpu(value)
        fields = {
            "vendor": request.vendor,
            "name": request.names,
            "memory": request.memory and request.memory._asdict(),
            "count": request.count and request.count._asdict(),
        }
        return {name: field for name, field in fields.items() if field is not None}

    def pretty(self) -> str:
        """For instance `A100:40GB:2`, `nvidia:0..`, `24GB..:1.. (total 80GB.., compute 8.0)`."""
        memory = self.memory.bounds if self.memory else None
        text = format_gpu(GpuRequest(self.vendor, self.name, memory, self.count.bounds))
        more = []
        if self.total_memory:
            more.append(f"total {format_range(self.total_memory.min, self.total_memory.max, format_memory)}")
        if self.compute_capability:
            more.append("compute {}.{}".format(*self.compute_capability))
        return f"{text} ({', '.join(more)})" if more else text


class DiskSpec(Model):
    """Disk of each instance; a single size is a lower bound, and the size itself where it can be chosen."""

    SHORT_FORMS = (TEXT, NUMBER, _BOUNDS)

    size: AtLeastMemory

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, Model) or (isinstance(value, dict) and not value.keys() <= {"min", "max"}):
            return value
        return {"size": value} if value != {} else value


class ResourcesSpec(Model):
    """Requirements on one machine; `gpu` None and `disk` None are no requirement. `shm_size` is in gigabytes."""

    cpu: CPUSpec = CPUSpec()
    memory: AtLeastMemory = FloatRange(min=8.0)
    shm_size: Gigabytes | None = None
    gpu: GPUSpec | None = GPUSpec(count=IntRange(min=0))
    disk: DiskSpec | None = Field(default=DiskSpec(size=FloatRange(min=100.0)))

    def defaulted(self) -> frozenset[str]:
        """Names of the resources whose value is the default, which never drops a person's own machine."""
        default = ResourcesSpec()
        gpu_without_vendor = self.gpu.model_copy(update={"vendor": None}) if self.gpu else None
        same = {
            "cpu": self.cpu.count == default.cpu.count,
            "memory": self.memory == default.memory,
            "gpu": gpu_without_vendor == default.gpu,
            "disk": self.disk == default.disk,
        }
        return frozenset(name for name in RESOURCE_NAMES if same[name])

    def pretty(self) -> str:
        """For instance `cpu=2.. mem=8GB.. disk=100GB.. gpu=A100:40GB:2`."""
        parts = [f"cpu={self.cpu.pretty()}", f"mem={_memory_text(self.memory)}"]
        if self.disk:
            parts.append(f"disk={_memory_text(self.disk.size)}")
        if self.gpu:
            parts.append(f"gpu={self.gpu.pretty()}")
        return " ".join(parts)


def _memory_text(size: FloatRange) -> str:
    return format_range(size.min, size.max, format_memory, single="at-least")
