"""Matching the GPUs of a machine with what is asked: vendor, name, count, memory class, total, compute capability."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from dstack.control.scheduling.nominal import COMPUTE_CAPABILITY, gpu_key, nominal_gpu_gb
from dstack.control.scheduling.reasons import Miss
from dstack.model.offer import Gpu
from dstack.model.resources import GPUSpec


@lru_cache(maxsize=8192)  # few kinds of wishes meet few kinds of machines, very often
def gpu_miss(spec: GPUSpec, gpus: tuple[Gpu, ...]) -> Miss | None:
    """The first thing about the GPUs that does not fit. All GPUs of a machine are alike."""
    least = spec.count.min or 0
    if not gpus:
        return None if least == 0 else _miss(spec, gpus, 1.0)
    gpu = gpus[0]
    for check in (_kind, _count, _memory, _total, _capability):
        distance = check(spec, gpu, len(gpus))
        if distance > 0:
            return _miss(spec, gpus, distance)
    return None


def text(gpus: tuple[Gpu, ...]) -> str:
    """`A100:80GB:2`, or `no GPU`."""
    if not gpus:
        return "no GPU"
    kinds = Counter((g.name, nominal_gpu_gb(g.name, g.memory_mib)) for g in gpus)
    return " ".join(f"{name}:{gb}GB:{count}" for (name, gb), count in kinds.items())


def _kind(spec: GPUSpec, gpu: Gpu, count: int) -> float:
    if spec.name is not None and gpu_key(gpu.name) not in {gpu_key(n) for n in spec.name}:
        return 0.9
    # A range that starts at 0 and names no GPU is content with none: whose GPU stands idle does not matter.
    if spec.vendor is not None and gpu.vendor != spec.vendor and (spec.count.min or 0) > 0:
        return 0.95
    return 0.0


def _count(spec: GPUSpec, gpu: Gpu, count: int) -> float:
    low, high = spec.count.min or 0, spec.count.max
    if count < low:
        return (low - count) / low * 0.5
    return 0.0 if high is None or count <= high else min((count - high) / max(high, 1), 1.0) * 0.5


def _memory(spec: GPUSpec, gpu: Gpu, count: int) -> float:
    if spec.memory is None or nominal_gpu_gb(gpu.name, gpu.memory_mib) in spec.memory:
        return 0.0
    return 0.4


def _total(spec: GPUSpec, gpu: Gpu, count: int) -> float:
    if spec.total_memory is None or nominal_gpu_gb(gpu.name, gpu.memory_mib) * count in spec.total_memory:
        return 0.0
    return 0.3


def _capability(spec: GPUSpec, gpu: Gpu, count: int) -> float:
    known = COMPUTE_CAPABILITY.get(gpu_key(gpu.name))
    return 0.2 if spec.compute_capability is not None and known is not None and known < spec.compute_capability else 0.0


def _miss(spec: GPUSpec, gpus: tuple[Gpu, ...], distance: float) -> Miss:
    has = text(gpus)
    hint = f"set `gpu: {has}`" if gpus else "set `gpu: 0..`"
    if gpus and distance == 0.4 and spec.memory is not None and spec.memory.min == spec.memory.max:
        hint = f"set `gpu: {spec.memory.min:g}GB..:{len(gpus)}` for that much or more" if _more(spec, gpus) else hint
    return Miss("gpu", f"needs {spec.pretty()}", distance, nearest=has, hint=hint)


def _more(spec: GPUSpec, gpus: tuple[Gpu, ...]) -> bool:
    asked = spec.memory.min if spec.memory else None
    return asked is not None and nominal_gpu_gb(gpus[0].name, gpus[0].memory_mib) > asked
