"""Dev environments, volumes and gateways: what they may say, and what is said of what they may not."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse, read
from dstack.model.configurations.support import executed


def refused_with(data):
    with pytest.raises(ConfigurationError) as refused:
        parse(data, "c")
    return refused.value.message.removeprefix("c: ")


def dev(**fields):
    return {"type": "dev-environment", **fields}


def volume(**fields):
    return {"type": "volume", "name": "v", **fields}


def gateway(**fields):
    return {"type": "gateway", "backend": "aws", "region": "eu", **fields}


@pytest.mark.parametrize("ide", [None, "vscode", "cursor", "windsurf", "zed"])
def test_a_dev_environment_has_one_of_the_known_editors_or_none(ide):
    assert parse(dev(ide=ide), "").ide == ide


@pytest.mark.parametrize(
    ("written", "seconds"), [("2h", 7200), (90, 90), ("off", None), (False, None), (True, None), (None, None)]
)
def test_the_inactivity_of_a_dev_environment_is_limited_or_not(written, seconds):
    assert parse(dev(inactivity_duration=written), "").inactivity_duration == seconds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ide": "vim"}, "ide: `vim` is not legal, expected one of `vscode`, `cursor`, `windsurf`, `zed`"),
        ({"version": "1"}, "version: `version` requires `ide` to be set"),
        ({"ide": "windsurf", "version": "1.2"}, "version: `1.2` is not a version of windsurf"),
        ({"entrypoint": "sh"}, "entrypoint: is not supported for a dev environment"),
        ({"dstack": True, "inactivity_duration": "1h"}, "inactivity_duration: `dstack` and `inactivity_duration`"),
        ({"commands": ["a"]}, "commands: unknown key"),
    ],
)
def test_what_a_dev_environment_may_not_say_is_named(fields, message):
    assert refused_with(dev(**fields)).startswith(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": "aws", "region": "eu", "size": "100GB", "availability_zone": "eu-1a"},
        {"backend": "gcp", "region": "eu", "volume_id": "disk-1"},
        {"backend": "runpod", "region": "eu", "size": 100},
        {"backend": "kubernetes", "size": "1TB", "storage_class_name": "fast", "access_modes": ["ReadWriteMany"]},
        {"backend": "kubernetes", "claim_name": "pvc", "read_only": True},
        {"backend": "daytona"},
        {"backend": "lium", "volume_id": "x"},
        {},  # a directory that the hosts keep under this name
    ],
)
def test_a_volume_says_what_its_backend_knows(fields):
    configuration = parse(volume(**fields), "")
    assert parse(configuration.model_dump(mode="json"), "") == configuration


@pytest.mark.parametrize("disk", ["500GB", "500GB..", {"size": "500GB"}, 500])
def test_the_old_size_of_a_volume_is_read_with_a_notice(disk):
    text = f"type: volume\nname: v\nbackend: aws\nregion: r\nresources: {{disk: {str(disk).replace(chr(39), '')}}}\n"
    reading = read(text, "t.yml")
    assert reading.configuration.size == 500
    assert reading.notices == (
        f"t.yml:5:1: `resources` is an old form, write `size: {500 if disk == 500 else '500GB'}`",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "azure"}, "backend: `azure` is not legal, expected one of `aws`"),
        ({"backend": "aws", "size": 1}, "volume: has no `region`, which aws needs"),
        ({"backend": "aws", "region": "r"}, "volume: has neither `size` nor `volume_id`"),
        ({"backend": "kubernetes"}, "volume: has neither `size` nor `claim_name`"),
        ({"backend": "lium", "size": 1}, "size: is not known to lium"),
        ({"region": "r"}, "region: is not known to a volume without `backend`"),
        ({"name": None}, "volume: has no `name`, which a volume without `backend` needs"),
        ({"backend": "aws", "region": "r", "volume_id": "x", "auto_cleanup_duration": "1h"}, "auto_cleanup_duration:"),
        ({"backend": "aws", "region": "r", "resources": {"gpu": 1}}, "resources.gpu: is not known to a volume"),
        ({"backend": "aws", "region": "r", "resources": "1GB"}, "resources: `1GB` is not legal in a volume"),
        ({"backend": "aws", "region": "r", "resources": {"disk": "x"}}, "resources: `x` is not a size"),
        (
            {"backend": "aws", "region": "r", "size": 1, "resources": {"disk": 2}},
            "resources: is the old form of",
        ),
    ],
)
def test_what_a_volume_may_not_say_is_named(fields, message):
    assert refused_with(volume(**fields)).startswith(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"domain": "example.com", "default": True, "instance_type": "t3.small", "tags": {"a": "b"}},
        {"domain": "${{ run.project_name }}.example.com"},
        {"certificate": {"type": "acm", "arn": "arn:aws:x"}, "load_balancer": {"type": "alb"}, "replicas": 3},
        {"certificate": {"type": "gcp-cm", "name": "c"}, "public_ip": False},
        {"certificate": None, "public_ip": False, "replicas": 2},
        {"certificate": {}},
    ],
)
def test_a_gateway_has_a_domain_and_a_certificate(fields):
    configuration = parse(gateway(**fields), "")
    assert parse(configuration.model_dump(mode="json"), "") == configuration


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"region": None}, "region: has no value, expected text"),
        ({"backend": "aw"}, "backend: `aw` is not a backend (did you mean `aws`?)"),
        ({"domain": "https://example.com"}, "domain: `https://example.com` is not a domain"),
        ({"domain": "${{ run.name }}.x.com"}, "domain: Failed to interpolate due to missing vars: ['run.name']; only"),
        ({"public_ip": False}, "public_ip: `lets-encrypt` certificates need a public address"),
        ({"replicas": 2}, "replicas: `lets-encrypt` certificates are for one replica"),
        ({"certificate": {"type": "own"}}, "certificate.type: `own` is not legal, expected `lets-encrypt` or `acm`"),
        ({"certificate": {"type": "acm"}}, "certificate.arn: is missing"),
    ],
)
def test_what_a_gateway_may_not_say_is_named(fields, message):
    assert refused_with(gateway(**fields)).startswith(message)


@pytest.mark.parametrize(
    "data", [volume(), gateway(), {"type": "service", "port": 80, "image": "a"}], ids=lambda data: data["type"]
)
def test_a_type_that_is_not_executed_yet_is_refused_by_its_name(data):
    with pytest.raises(ConfigurationError) as refused:
        executed(parse(data, ""), "t.yml:1:7: ")
    expected = f"t.yml:1:7: type: {data['type']} is not supported yet by this server; supported: "
    assert refused.value.message == expected + "task, dev-environment, fleet"


@pytest.mark.parametrize(
    ("lines", "type_"),
    [
        ("port: 80", "service"), ("ide: zed", "dev-environment"), ("commands: [a]", "task"), ("nodes: 1", "fleet"),
        ("ssh_config: {}", "fleet"), ("domain: a.b", "gateway"), ("size: 1GB", "volume"), ("name: a", "task"),
    ],
)  # fmt: skip
def test_a_missing_type_is_guessed_from_what_else_is_written(lines, type_):
    with pytest.raises(ConfigurationError) as refused:
        read(lines, "t.yml")
    assert refused.value.hint == f"add a line `type: {type_}`"
