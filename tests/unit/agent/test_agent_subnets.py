"""Networks for tasks: which are free, who has the others, and what is set aside for them."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dstack.agent import subnets
from dstack.agent.subnets import Taken

RANGE = [IPv4Network("172.29.0.0/24")]
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000080\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0
tun1\t00001DAC\t00000000\t0001\t0\t0\t0\t80FFFFFF\t0\t0\t0
"""
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 10.8.0.6
        /32 host LOCAL
     |-- 10.8.0.255
        /32 link BROADCAST
"""


def taken(*networks: str) -> list[Taken]:
    return [Taken(IPv4Network(text), f"the owner of {text}") for text in networks]


def test_a_free_network_collides_with_none_that_is_taken_larger_or_smaller():
    got = subnets.choose(RANGE, taken("172.29.0.0/27", "172.29.0.37/32", "172.29.0.64/26", "10.0.0.0/8"))
    assert got == "172.29.0.48/28"


def test_networks_are_found_until_all_addresses_of_the_range_are_in_use():
    have: list[Taken] = []
    for n in range(16):
        have += taken(subnets.choose(RANGE, have, start=7 * n))
    assert len({one.network for one in have}) == 16
    assert subnets.choose(RANGE, have) == ""


def test_another_range_is_used_when_the_first_one_is_full():
    ranges = [*RANGE, IPv4Network("10.9.0.0/24")]
    assert subnets.choose(ranges, taken("172.16.0.0/12")) == "10.9.0.0/28"


def test_a_refusal_names_who_has_the_addresses_and_where_to_give_others():
    words = subnets.refusal(RANGE, taken("172.16.0.0/12", "10.0.0.0/8"))
    assert "172.29.0.0/24 is taken by the owner of 172.16.0.0/12 (172.16.0.0/12)" in words
    assert "10.0.0.0/8" not in words and subnets.FILE in words


def test_routes_addresses_and_name_servers_of_the_machine_are_taken_but_not_ways_out(tmp_path: Path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text(ROUTES)
    (tmp_path / "net/fib_trie").write_text(TRIE)
    (tmp_path / "resolv.conf").write_text("# by hand\nnameserver 10.1.2.3\nnameserver fe80::1\nsearch local\n")
    found = {str(one.network): one.by for one in subnets.of_machine(str(tmp_path), [str(tmp_path / "resolv.conf")])}
    assert found == {
        "172.29.0.0/25": "the route of tun1",
        "10.8.0.6/32": "an address of this machine",
        "10.1.2.3/32": "a name server of this machine",
    }


def test_a_system_that_does_not_tell_of_its_network_leaves_everything_free(tmp_path: Path):
    assert subnets.of_machine(str(tmp_path), [str(tmp_path / "none")]) == []


def test_the_pools_that_an_engine_was_told_to_use_are_used():
    pools = [
        {"Base": "10.214.0.0/16", "Size": 24},
        {"Base": "fd00::/48", "Size": 64},
        {"Base": "10.1.1.0/30", "Size": 30},
    ]
    assert subnets.of_pools(pools) == [IPv4Network("10.214.0.0/16")]


def test_what_is_set_aside_is_read_from_a_file_with_remarks(tmp_path: Path):
    file = tmp_path / "subnets"
    assert subnets.configured({}, str(file)) == []
    file.write_text("# asked the network people\n10.77.0.0/16, 10.78.0.0/20 # the second floor\n")
    assert subnets.configured({}, str(file)) == [IPv4Network("10.77.0.0/16"), IPv4Network("10.78.0.0/20")]
    assert subnets.configured({subnets.VARIABLE: "10.9.0.0/16"}, str(file)) == [IPv4Network("10.9.0.0/16")]


@pytest.mark.parametrize("word", ["10.0.0.0/33", "10.0.0.1/16", "lots", "10.0.0.0/29"])
def test_a_network_that_is_none_or_too_small_is_named_with_where_it_stands(tmp_path: Path, word: str):
    (tmp_path / "subnets").write_text(word)
    with pytest.raises(ValueError) as failure:
        subnets.configured({}, str(tmp_path / "subnets"))
    assert str(tmp_path / "subnets") in str(failure.value) and word.partition("/")[0] in str(failure.value)
