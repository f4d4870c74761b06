"""A product whose project has a simulated cloud, configured in the server's file as a person would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.product import Product, product_in_temporary_folder

# Three shapes, two regions: little enough to say what a plan must show.
OFFERS = [
    {"instance_type": "small", "regions": ["east", "west"], "price": 1.0, "spot_price": 0.4, "memory": "32GB"},
    {"instance_type": "l4", "regions": ["east"], "price": 2.0, "spot_price": 0.9, "memory": "32GB", "gpu": "L4:24GB"},
    {"instance_type": "h100", "regions": ["west"], "price": 9.0, "memory": "256GB", "gpu": "H100:80GB:2"},
]
QUICK = {"run": "pretend", "pretend": {"duration": 0.2}, "offers": OFFERS}


class Cloud:
    """What exists at the provider, by its own account."""

    def __init__(self, product: Product):
        self._product = product

    def machines(self) -> list[Path]:
        return sorted(self._product.server_dir.glob("backends/*/sim/machines/[!.]*.json"))


def write_sim(product: Product, **config: Any) -> Cloud:
    """Give the project `main` a simulated cloud; to be followed by a start of the server."""
    backend = {"type": "sim", **QUICK, **config}
    product.server_dir.mkdir(parents=True, exist_ok=True)
    file = {"projects": [{"name": "main", "backends": [backend]}]}
    (product.server_dir / "config.yml").write_text(yaml.safe_dump(file))
    return Cloud(product)


@pytest.fixture
def sim(product: Product) -> Callable[..., Cloud]:
    """Configures the cloud of `product` and starts its server."""

    def start(**config: Any) -> Cloud:
        cloud = write_sim(product, **config)
        product.start()
        return cloud

    return start


@pytest.fixture(scope="session")
def priced() -> Iterator[Product]:
    """A server with a cloud and a fleet of up to three machines, spot or not; nothing fails."""
    with product_in_temporary_folder(DSTACK_SERVER_LOCAL_BACKEND="false") as product:
        write_sim(product)
        product.start()
        fleet(product, "cloud", nodes="0..3", spot_policy="auto")
        yield product


def fleet(product: Product, name: str, **fields: Any) -> None:
    file = product.write(yaml.safe_dump({"type": "fleet", "name": name, "backends": ["sim"], **fields}), f"{name}.yml")
    product.cli("apply", "-f", file, "-y").ok()


def task(product: Product, name: str, **fields: Any) -> str:
    return product.write(yaml.safe_dump({"type": "task", "name": name, "commands": ["true"], **fields}), f"{name}.yml")
