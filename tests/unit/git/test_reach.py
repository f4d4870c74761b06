"""From where the server fetches repositories, by whatever way git gets there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dstack.git.access import Access
from dstack.git.failures import GitFailed
from dstack.git.gate import gate
from dstack.git.reach import Forbidden, addresses, refusal
from dstack.git.tree import Bounds, Wanted, fetch
from support.git_hosts import bare_repo, over_http, serving


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.0.9", "100.64.0.1", "fd12::1", "8.8.8.8"])
def test_private_and_public_networks_are_fetched_from(address: str):
    assert refusal(address, loopback=False) == ""


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "0.0.0.0",
        "::",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_metadata_and_what_is_no_host_are_never_fetched_from(address: str):
    assert refusal(address, loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_the_servers_own_machine_is_fetched_from_where_it_is_allowed(address: str):
    assert refusal(address, loopback=True) == ""
    assert refusal(address, loopback=False) == "the server's own machine"


async def test_a_name_of_this_machine_is_refused_with_what_allows_it():
    with pytest.raises(Forbidden) as refused:
        await addresses("localhost", 80, loopback=False)
    assert refused.value.message.startswith("localhost (")
    assert "DSTACK_SERVER_REPO_LOOPBACK=1" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/a.git",
        "https://[fe80::1]/a.git",
        "git://127.0.0.1/a.git",
        "ssh://git@localhost/a.git",
        "http://2130706433/a.git",
        "http://0x7f.1/a.git",
    ],
)
async def test_no_form_of_an_address_gets_past(url: str, tmp_path: Path):
    with pytest.raises(Forbidden):
        await fetched(tmp_path, url, loopback=False)


async def test_a_redirect_to_where_nothing_is_fetched_from_leads_nowhere(tmp_path: Path):
    def redirect(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("302 Found", [("Location", "http://169.254.169.254/latest/info/refs")])
        return [b""]

    with serving(redirect) as url, pytest.raises(GitFailed) as refused:
        await fetched(tmp_path, f"{url}/lab.git", loopback=True)
    assert "169.254.169.254 is an address for the machine itself" in refused.value.message


async def test_an_administrators_own_proxy_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def proxy(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked.append(environ["PATH_INFO"])
        start("404 Not Found", [])
        return [b""]

    with serving(proxy) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(GitFailed, match="does not exist"):
            await fetched(tmp_path, "http://127.0.0.9/lab.git", loopback=True)
    assert asked


async def test_what_is_allowed_arrives_whole(tmp_path: Path):
    bare = bare_repo(tmp_path / "hosted")
    with over_http(bare.parent) as url:
        found = await fetched(tmp_path, f"{url}/lab.git", loopback=True)
    assert found.branch == "main"


async def test_the_way_out_answers_nothing_but_orders_to_connect():
    async with gate(loopback=True) as way:
        for words in (b"GET / HTTP/1.0\r\n\r\n", b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"):
            reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
            writer.write(words)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 30)
            assert answer in (b"", b"\x05\x00\x05\x07\x00\x01" + bytes(6))
            writer.close()


async def fetched(tmp_path: Path, url: str, *, loopback: bool) -> Wanted:
    bounds = Bounds(time.monotonic() + 60, 1024**3)
    return await fetch(tmp_path / "cache.git", Wanted(url), Access(url), tmp_path / "known", bounds, loopback=loopback)
