"""After a fleet is deleted nothing of it is left on the machine."""

from support.product import Product, eventually


def test_deleted_fleet_leaves_no_agent_and_no_folder(product: Product):
    product.start()
    product.fleet(nodes="2")
    product.cli("apply", "-y", "-f", product.task("brief", "echo done")).ok()
    instances = product.server_dir / "local"
    assert len(list(instances.iterdir())) == 2
    assert product.processes()

    product.cli("fleet", "delete", "here", "-y").ok()

    eventually(lambda: not product.processes(), 60, lambda: f"still there: {product.processes()}")
    assert list(instances.iterdir()) == []
    assert "here" not in product.cli("fleet").out


def test_fleet_with_a_running_job_is_not_deleted(product: Product):
    product.start()
    product.fleet()
    product.cli("apply", "-y", "-d", "-f", product.task("busy", "echo working; sleep 600")).ok()
    product.wait_status("busy", "running")

    refused = product.cli("fleet", "delete", "here", "-y")

    assert refused.code == 1
    assert "in use" in refused.err
    assert product.run("busy")["status"] == "running"


def test_aborted_job_leaves_none_of_its_processes(product: Product):
    product.start()
    product.fleet()
    product.cli(
        "apply", "-y", "-d", "-f", product.task("tree", "echo up; (sleep 4242 & sleep 4242 & wait) & wait")
    ).ok()
    eventually(lambda: _sleepers(product), 60, lambda: "the job did not start")

    product.cli("stop", "-y", "--abort", "tree").ok()

    eventually(lambda: not _sleepers(product), 60, lambda: f"still there: {product.processes()}")


def _sleepers(product: Product) -> list[int]:
    return [pid for pid, line in product.processes().items() if "sleep 4242" in line]
