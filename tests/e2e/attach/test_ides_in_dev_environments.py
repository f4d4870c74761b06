"""Dev environments that get the server of their IDE while they start, from hosts of our own on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.ide_hosts import COMMIT, NUMBER, IdeHosts, ide_hosts
from support.product import Product, eventually, product_in_temporary_folder

WAIT_S = 60.0


@pytest.fixture(scope="module")
def hosts() -> Iterator[IdeHosts]:
    with ide_hosts({"aarch64": "arm64"}.get(os.uname().machine, "x64")) as found:
        yield found


@pytest.fixture(scope="module")
def developing(hosts: IdeHosts) -> Iterator[Product]:
    """A product whose server fetches from these hosts, for a person who has VS Code."""
    with product_in_temporary_folder(DSTACK_SERVER_IDE_MIRROR=hosts.address) as product:
        code = product.folder / "bin" / "code"
        code.parent.mkdir()
        code.write_text(f"#!/bin/sh\nprintf '{NUMBER}\\n{COMMIT}\\nx64\\n'\n")
        code.chmod(0o755)
        product.env["PATH"] = f"{code.parent}:{product.env['PATH']}"
        product.start()
        product.fleet()
        yield product


def developed(product: Product, name: str, *lines: str) -> None:
    file = product.write("\n".join(("type: dev-environment", f"name: {name}", *lines, "")), f"{name}.dstack.yml")
    product.cli("apply", "-f", file, "-y", "-d").ok()
    product.wait_status(name, "running", deadline_s=WAIT_S)


def logged(product: Product, name: str, text: str) -> str:
    """The log once it has the text."""
    log = ""

    def told() -> bool:
        nonlocal log
        log = product.cli("logs", name).out
        return text in log

    eventually(told, WAIT_S, lambda: f"the log of {name} is {log!r}")
    return log


def stopped(product: Product, name: str) -> None:
    product.cli("stop", name, "-x", "-y").ok()


def test_the_server_of_the_ide_on_this_machine_is_there_before_anybody_connects(developing: Product):
    developed(developing, "dev", "ide: vscode", "init: ['echo prepared']")
    log = logged(developing, "dev", "need not fetch it")
    assert f"VS Code server {NUMBER}: is in place, the first connection need not fetch it\n" in log.replace("\r", "")
    assert "prepared" in log
    root = developing.folder / ".vscode-server"  # its jobs are processes of the person
    assert os.access(root / "cli" / "servers" / f"Stable-{COMMIT}" / "server" / "node", os.X_OK)
    assert os.access(root / f"code-{COMMIT}", os.X_OK)
    stopped(developing, "dev")


def test_the_server_of_windsurf_is_there_by_the_version_in_the_file(developing: Product):
    developed(developing, "surf", "ide: windsurf", f"version: {NUMBER}@{COMMIT}")
    logged(developing, "surf", f"Windsurf server {NUMBER}: is in place, where Windsurf is taken to look for it")
    assert os.access(developing.folder / ".windsurf-server" / "bin" / COMMIT / "node", os.X_OK)
    stopped(developing, "surf")


def test_hosts_that_do_not_answer_hold_up_nothing(developing: Product, hosts: IdeHosts):
    hosts.open.clear()
    developed(developing, "slow", "ide: cursor", f"version: {NUMBER}@{COMMIT}", "init: ['echo prepared']")
    log = logged(developing, "slow", "To connect via SSH")
    assert "prepared" in log and "Cursor server" not in log
    hosts.open.set()
    logged(developing, "slow", f"Cursor server {NUMBER}: is in place")
    stopped(developing, "slow")


def test_a_version_that_its_vendor_does_not_have_is_told_and_fails_nothing(developing: Product):
    developed(developing, "none", "ide: cursor", f"version: 9.9.9@{'f' * 40}")
    log = logged(developing, "none", "Cursor server")
    assert "Cursor server 9.9.9: not put in beforehand: " in log and "404" in log
    assert developing.run("none")["status"] == "running"
    stopped(developing, "none")
