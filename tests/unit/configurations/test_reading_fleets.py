"""What a fleet may say, and what it becomes."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.fleet import FleetConfiguration, FleetNodesSpec
from dstack.model.configurations.reading import parse, read

SSH = {"user": "ubuntu", "identity_file": "~/.ssh/id_rsa", "hosts": ["10.0.0.1"]}


def fleet(**fields):
    return parse({"type": "fleet", **fields}, "fleet")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("0..2", (0, 0, 2)),
        ("1..10", (1, 1, 10)),
        (2, (2, 2, 2)),
        ("2", (2, 2, 2)),
        ("3..", (3, 3, None)),
        ("..4", (0, 0, 4)),
        ("..", (0, 0, None)),
        ({"min": 2, "max": 10, "target": 6}, (2, 6, 10)),
        ({"max": 3}, (0, 0, 3)),
    ],
)
def test_nodes_are_a_number_a_range_or_an_object(nodes, expected):
    spec = fleet(nodes=nodes).nodes
    assert (spec.min, spec.target, spec.max) == expected


@pytest.mark.parametrize("nodes", ["10001", "10001..", {"target": 10001}])
def test_a_fleet_makes_ten_thousand_instances_by_itself_at_most(nodes):
    with pytest.raises(ConfigurationError, match="10001 is out of range, expected at most 10000"):
        fleet(nodes=nodes)


def test_nodes_are_shown_with_all_three_numbers():
    assert FleetNodesSpec(min=0, target=0, max=2).pretty() == "min=0 target=0 max=2"


def test_a_backend_fleet_is_understood():
    text = "type: fleet\nname: my-fleet\nnodes: 0..2\nresources:\n  gpu: 24GB..\nspot_policy: auto\nidle_duration: 5m\n"
    configuration = read(text, "f").configuration
    assert isinstance(configuration, FleetConfiguration)
    assert configuration.resources
    assert configuration.resources.pretty().endswith("gpu=24GB..:1..")
    assert configuration.idle_duration == 300


def test_an_ssh_fleet_takes_hosts_as_text_or_objects():
    configuration = fleet(ssh_config={**SSH, "hosts": ["a", {"hostname": "b", "blocks": "auto", "port": 2222}]})
    assert [(h.hostname, h.blocks, h.port) for h in configuration.ssh_config.hosts] == [
        ("a", None, None),
        ("b", "auto", 2222),
    ]


def test_a_fleet_of_either_kind_may_have_an_environment():
    assert fleet(nodes=1, env=["A=1"]).env == fleet(ssh_config=SSH, env={"A": 1}).env == {"A": "1"}


def test_what_was_written_to_json_is_read_back_the_same():
    for configuration in (fleet(nodes="1..", blocks="auto", retry=True), fleet(ssh_config=SSH)):
        assert parse(configuration.model_dump(mode="json"), "") == configuration


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "fleet: has neither `nodes` (a backend fleet) nor `ssh_config` (your own hosts), expected one of them"),
        ({"nodes": 1, "ssh_config": SSH}, "nodes: `nodes` and `ssh_config` exclude each other, expected one of them"),
        (
            {"ssh_config": SSH, "max_price": 1},
            "max_price: is not allowed in an SSH fleet, expected only beside `nodes`",
        ),
        ({"nodes": -1}, "nodes: `-1` is not a whole number from 0 up"),
        ({"nodes": "2..1"}, "nodes: `2..1` is the wrong way round, expected the lower bound first"),
        ({"nodes": {"min": 2, "target": 1}}, "nodes.target: `target` (1) is less than `min` (2)"),
        ({"nodes": {"min": 2, "max": 1}}, "nodes.max: `max` (1) is less than `min` (2)"),
        ({"nodes": {"target": 3, "max": 1}}, "nodes.max: `max` (1) is less than `target` (3)"),
        (
            {"nodes": 1, "blocks": 0},
            "blocks: `0` is not a number of blocks, expected a whole number from 1 up, or `auto`",
        ),
        (
            {"nodes": 1, "blocks": "²"},
            "blocks: `²` is not a number of blocks, expected a whole number from 1 up, or `auto`",
        ),
        ({"nodes": 1, "placement": "clutser"}, "placement: `clutser` is not legal, expected one of `any`, `cluster`"),
        ({"ssh_config": {**SSH, "hosts": []}}, "ssh_config.hosts: is empty, expected at least one item"),
        ({"ssh_config": {"hosts": ["h"]}}, "ssh_config.hosts[0]: No ssh user specified for host h, expected `user`"),
        (
            {"ssh_config": {"hosts": ["h"], "user": "u"}},
            "ssh_config.hosts[0]: No ssh key specified for host h, expected `identity_file`",
        ),
        (
            {"ssh_config": {**SSH, "network": "8.8.8.0/24"}},
            "ssh_config.network: `8.8.8.0/24` is a public network, expected a private one",
        ),
        (
            {"ssh_config": {**SSH, "network": "x"}},
            "ssh_config.network: `x` is not a network, expected for instance `192.168.0.0/24`",
        ),
        (
            {"ssh_config": {**SSH, "hosts": [{"hostname": "a", "internal_ip": "10.0.0.1"}, "b"]}},
            "ssh_config.hosts[1]: has no `internal_ip`, expected it on all hosts or on none",
        ),
        (
            {"ssh_config": {**SSH, "hosts": [{"hostname": "a", "internal_ip": "10.0.0.1"}], "network": "10.0.0.0/8"}},
            "ssh_config.network: `network` and `internal_ip` exclude each other, expected one of them",
        ),
        (
            {"ssh_config": {**SSH, "proxy_jump": {"hostname": "h", "user": "u"}}},
            "ssh_config.proxy_jump.identity_file: is missing",
        ),
    ],
)
def test_what_a_fleet_may_not_say_is_named_with_what_was_expected(fields, message):
    with pytest.raises(ConfigurationError) as refused:
        fleet(**fields)
    assert refused.value.message == f"fleet: {message}"


def test_a_private_key_does_not_appear_in_a_representation_or_a_message():
    key = {"public": "ssh-ed25519 AAAA", "private": "-----BEGIN SECRET"}
    assert "SECRET" not in repr(fleet(ssh_config={**SSH, "ssh_key": key}))
    with pytest.raises(ConfigurationError) as refused:
        fleet(ssh_config={**SSH, "ssh_key": "-----BEGIN SECRET"})
    assert "SECRET" not in str(refused.value)
