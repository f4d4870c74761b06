"""What a simulated cloud offers: shapes and prices like those of real ones, or those of its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dstack.backends.sim.config import SimConfig, SimOffer
from dstack.model.offer import Offer, Resources

MIB_PER_GB = 1024
# Prices of a region relative to the first.
REGIONS = {"sim-east": 1.0, "sim-west": 1.08, "sim-europe": 1.15}
# Type, cores, memory in GB, disk in GB, GPUs, $ per hour, $ per hour as spot, regions.
_SHAPES: tuple[tuple[str, int, int, int, str, float, float | None, tuple[str, ...]], ...] = (
    ("cpu-2x8", 2, 8, 100, "", 0.09, 0.03, tuple(REGIONS)),
    ("cpu-8x32", 8, 32, 200, "", 0.36, 0.12, tuple(REGIONS)),
    ("cpu-32x128", 32, 128, 500, "", 1.44, 0.48, tuple(REGIONS)),
    ("t4", 4, 16, 125, "T4:16GB", 0.53, 0.18, tuple(REGIONS)),
    ("l4", 8, 32, 200, "L4:24GB", 0.80, 0.28, tuple(REGIONS)),
    ("l4-4x", 48, 192, 800, "L4:24GB:4", 4.60, 1.61, ("sim-east", "sim-europe")),
    ("a10g", 4, 16, 250, "A10G:24GB", 1.01, 0.40, ("sim-east", "sim-west")),
    ("a10g-4x", 48, 192, 1000, "A10G:24GB:4", 5.67, 2.27, ("sim-east", "sim-west")),
    ("a100-40", 12, 85, 500, "A100:40GB", 2.29, 0.96, ("sim-east", "sim-europe")),
    ("a100-40-8x", 96, 680, 2000, "A100:40GB:8", 18.30, 7.68, ("sim-east",)),
    ("a100-80", 12, 170, 500, "A100:80GB", 2.79, 1.26, ("sim-east", "sim-europe")),
    ("a100-80-8x", 96, 1360, 4000, "A100:80GB:8", 22.30, 10.10, ("sim-east",)),
    ("h100", 26, 225, 1000, "H100:80GB", 3.29, 1.65, ("sim-east", "sim-west")),
    ("h100-8x", 208, 1800, 8000, "H100:80GB:8", 25.90, 13.00, ("sim-east", "sim-west")),
    ("mi300x", 20, 240, 720, "MI300X:192GB", 2.89, None, ("sim-west",)),
    ("mi300x-8x", 160, 1920, 5000, "MI300X:192GB:8", 23.10, None, ("sim-west",)),
    ("v5litepod-1", 24, 48, 100, "tpu:v5litepod-1:16GB", 1.20, 0.60, ("sim-east",)),
    ("v5litepod-8", 224, 400, 200, "tpu:v5litepod-8:128GB", 9.60, 4.80, ("sim-east",)),
)


def catalogue(config: SimConfig) -> list[tuple[Offer, int | None]]:
    """Every offer with its stock, the cheapest first."""
    shapes = list(_built_in()) if config.offers is None else config.offers
    found = [pair for shape in shapes for pair in _offers(shape, config)]
    return sorted(found, key=lambda pair: (pair[0].price, pair[0].key))


def _built_in() -> Iterator[SimOffer]:
    for type_, cpus, memory, disk, gpu, price, spot_price, regions in _SHAPES:
        for region in regions:
            factor = REGIONS[region]
            yield SimOffer.model_validate(
                {
                    "instance_type": type_,
                    "regions": (region,),
                    "price": round(price * factor, 4),
                    "spot_price": None if spot_price is None else round(spot_price * factor, 4),
                    "cpus": cpus,
                    "memory": memory,
                    "disk": disk,
                    "gpu": gpu or (),
                }
            )


def _offers(shape: SimOffer, config: SimConfig) -> Iterable[tuple[Offer, int | None]]:
    allowed = None if config.regions is None else {name.lower() for name in config.regions}
    stock = config.stock if shape.stock is None else shape.stock
    for region in shape.regions:
        if allowed is not None and region.lower() not in allowed:
            continue
        for price, spot in ((shape.price, False), (shape.spot_price, True)):
            if price is not None:
                yield _offer(shape, region, price, spot, config.run), stock


def _offer(shape: SimOffer, region: str, price: float, spot: bool, run: str) -> Offer:
    return Offer(
        backend="sim",
        region=region,
        instance_type=shape.instance_type,
        resources=Resources(
            cpus=shape.cpus,
            memory_mib=round(shape.memory * MIB_PER_GB),
            disk_mib=round(shape.disk * MIB_PER_GB),
            gpus=shape.gpu,
            cpu_arch=shape.arch,
            spot=spot,
        ),
        price=price,
        availability=shape.availability,
        runtime="process" if run == "process" else "docker",
        elastic_disk=True,
    )
