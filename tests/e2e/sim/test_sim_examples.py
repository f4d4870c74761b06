"""The examples of the simulated cloud run as they stand, and the built-in catalogue with them."""

from __future__ import annotations

import shutil

from support.product import ROOT, Product

FOLDER = ROOT / "examples" / "sim"


def test_the_examples_of_the_simulated_cloud_run_as_they_stand(product: Product):
    product.server_dir.mkdir(parents=True)
    shutil.copy(FOLDER / "server-config.yaml", product.server_dir / "config.yml")
    product.start()
    product.cli("apply", "-y", "-f", str(FOLDER / "fleet.dstack.yml")).ok()
    plan = product.cli("plan", "-f", str(FOLDER / "train.dstack.yml")).ok().out
    assert "L4:24GB (spot)" in plan and "$0.28" in plan
    said = product.cli("apply", "-y", "-f", str(FOLDER / "train.dstack.yml")).ok()
    assert "trained" in said.out
    product.cli("apply", "-y", "-f", str(FOLDER / "cluster.dstack.yml")).ok()
    said = product.cli("apply", "-y", "-f", str(FOLDER / "rendezvous.dstack.yml")).ok()
    assert "met node 1" in said.out
    assert "A10G" in product.cli("offer", "--gpu", "A10G").ok().out
