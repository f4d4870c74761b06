"""What a service may say, and what is said of what it may not."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse, read
from dstack.model.configurations.service import ServiceConfiguration, replica_bounds
from dstack.model.resources import IntRange

SCALING = {"metric": "rps", "target": 10}
PROBE = {"type": "http", "url": "/health"}


def service(**fields):
    configuration = parse({"type": "service", "port": 8000, "commands": ["serve"], **fields}, "service")
    assert isinstance(configuration, ServiceConfiguration)
    return configuration


def grouped(*groups, **fields):
    return parse({"type": "service", "port": 8000, "groups": list(groups), **fields}, "service")


def test_a_service_in_full_is_read_back_from_its_json():
    text = """type: service
name: llama
port: 80:8000
gateway: other/public
strip_prefix: false
model: {type: chat, name: a/b, format: tgi, chat_template: t, eos_token: e}
https: auto
auth: false
replicas: 0..4
scaling: {metric: queue, target: 2.5, window: 5m, scale_up_delay: 1m, scale_down_delay: 90}
rate_limits:
  - {prefix: /v1, rps: 0.5, burst: 3}
  - {rps: 4, key: {type: header, header: X-Api-Key}}
probes:
  - {type: http, url: '/v1/chat?a=b', method: POST, headers: [{name: A, value: "Bearer ${{ env.T }}"}], body: "{}",
     timeout: 30s, interval: 1m, ready_after: 2, until_ready: true}
commands: [serve]
"""
    configuration = read(text, "f").configuration
    assert isinstance(configuration, ServiceConfiguration)
    assert parse(configuration.model_dump(mode="json"), "") == configuration
    assert configuration.gateway.model_dump() == {"project": "other", "name": "public"}
    assert (configuration.port.container_port, configuration.replicas) == (8000, IntRange(min=0, max=4))
    assert (configuration.scaling.window, configuration.scaling.scale_up_delay) == (300, 60)
    assert (configuration.probes[0].method, configuration.probes[0].timeout) == ("post", 30)


def test_a_model_in_short_is_an_openai_model_below_v1():
    assert service(model="meta/llama").model.model_dump() == {
        "type": "chat", "name": "meta/llama", "format": "openai", "prefix": "/v1",
    }  # fmt: skip


def test_what_is_not_written_is_the_documented_default():
    scaling = service(replicas="1..2", scaling=SCALING).scaling
    assert (scaling.window, scaling.scale_up_delay, scaling.scale_down_delay) == (None, 300, 600)
    configuration = service()
    assert (configuration.auth, configuration.strip_prefix, configuration.https, configuration.gateway) == (
        True, True, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("replicas", "bounds"), [(None, (1, 1)), (3, (3, 3)), ("..4", (0, 4)), ("0..1", (0, 1)), ({"max": 2}, (0, 2))]
)
def test_replicas_have_a_least_and_a_greatest_number(replicas, bounds):
    assert replica_bounds(service(replicas=replicas, scaling=SCALING).replicas) == bounds


@pytest.mark.parametrize("gateway", [True, False])
def test_a_gateway_can_be_demanded_or_declined(gateway):
    assert service(gateway=gateway).gateway is gateway


def test_a_probe_may_leave_everything_to_the_defaults():
    unset = dict.fromkeys(("url", "method", "body", "timeout", "interval", "ready_after", "until_ready"))
    assert service(probes=[{"type": "http", **unset}]).probes == service(probes=[{"type": "http"}]).probes


def test_no_probes_are_something_else_than_probes_nobody_wrote():
    assert (service().probes, service(probes=[]).probes) == (None, ())


def test_groups_have_replicas_images_and_a_router_of_their_own():
    configuration = grouped(
        {"name": "router", "image": "a", "router": {"type": "sglang"}},
        {"replicas": "1..4", "scaling": SCALING, "commands": ["b"], "resources": {"gpu": 1}, "spot_policy": "spot"},
    )
    assert configuration.groups[0].router.type == "smg"
    assert replica_bounds(configuration.groups[0].replicas) == (1, 1)


def test_the_old_list_of_replicas_with_counts_becomes_groups_with_a_notice():
    text = "type: service\nport: 80\nreplicas:\n  - {count: 2, commands: [a]}\n"
    reading = read(text, "t.yml")
    assert reading.configuration.groups[0].replicas == IntRange(min=2, max=2)
    assert reading.notices[0].startswith("t.yml:3:1: `replicas` is an old form, write `groups: ")


def test_an_error_in_the_old_list_is_at_its_place():
    with pytest.raises(ConfigurationError) as refused:
        read("type: service\nport: 80\nreplicas:\n  - {count: 2, comands: [a]}\n", "t.yml")
    assert refused.value.message == "t.yml:4:16: replicas[0].comands: unknown key"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": None}, "port: `null` is not a port"),
        ({"commands": []}, "service: has neither `commands` nor `image`"),
        ({"replicas": "1.."}, "replicas: has no maximum, expected for instance `1..4`"),
        ({"replicas": "1..4"}, "replicas: is a range, expected `scaling` beside it"),
        ({"replicas": 0}, "replicas: has a maximum of 0, expected at least 1"),
        ({"scaling": {"metric": "rpm", "target": 1}}, "scaling.metric: `rpm` is not legal, expected one of `rps`"),
        ({"scaling": {"metric": "rps", "target": 0}}, "scaling.target: `0` is out of range, expected more than 0"),
        ({"scaling": {"metric": "rps"}}, "scaling.target: is missing"),
        ({"scaling": SCALING | {"window": "2m"}}, "scaling.window: `2m` is not a window, expected `30s`, `60s`"),
        ({"model": {"name": "a", "format": "x"}}, "model.format: `x` is not legal, expected `openai` or `tgi`"),
        ({"model": {"name": "a", "format": "openai", "eos_token": "x"}}, "model.eos_token: unknown key"),
        ({"model": {"name": "a", "format": "openai", "prefix": "v1"}}, "model.prefix: `v1` is not a path"),
        ({"https": "maybe"}, "https: "),
        ({"rate_limits": [{"rps": 1}, {"rps": 2}]}, "rate_limits[1]: `/` is used twice"),
        ({"rate_limits": [{"rps": 0.01}]}, "rate_limits[0].rps: `0.01` is out of range, expected at least 0.0166667"),
        ({"rate_limits": [{"rps": 1, "key": {"type": "ip"}}]}, "rate_limits[0].key.type: `ip` is not legal, expected"),
        ({"rate_limits": [{"rps": 1, "key": {"type": "header"}}]}, "rate_limits[0].key.header: is missing"),
        ({"probes": [PROBE, PROBE]}, "probes[1]: is the same as one before it"),
        ({"probes": [PROBE | {"url": f"/{n}"} for n in range(11)]}, "probes: has 11 probes, expected 10 at most"),
        ({"probes": [{"url": "/"}]}, "probes[0].type: is missing"),
        ({"probes": [PROBE | {"url": "health"}]}, "probes[0].url: `health` is not a path, expected it to start"),
        ({"probes": [PROBE | {"url": "/" + "a" * 2048}]}, "probes[0].url: `/a"),
        ({"probes": [PROBE | {"body": "x"}]}, "probes[0].body: is not sent by `get`"),
        ({"probes": [PROBE | {"timeout": "6m"}]}, "probes[0].timeout: `6m` is out of range, expected at most 300"),
        ({"probes": [PROBE | {"interval": 0}]}, "probes[0].interval: `0` is out of range, expected at least 1"),
        ({"probes": [PROBE | {"headers": [{"name": "a b", "value": "c"}]}]}, "probes[0].headers[0].name: `a b` is not"),
        ({"probes": [PROBE | {"headers": [{"name": "a", "value": "c"}] * 17}]}, "probes[0].headers: is too long"),
        ({"schedule": {"cron": "0 0 * * *"}, "replicas": "0..1", "scaling": SCALING}, "schedule: starts a service"),
    ],
)  # fmt: skip
def test_what_a_service_may_not_say_is_named_with_what_was_expected(fields, message):
    with pytest.raises(ConfigurationError) as refused:
        service(**fields)
    assert refused.value.message.startswith(f"service: {message}")


@pytest.mark.parametrize(
    ("groups", "fields", "message"),
    [
        ([], {}, "groups: is empty, expected at least one group"),
        ([{}], {}, "groups[0]: has no `commands`"),
        ([{"commands": ["a"]}], {"commands": ["b"]}, "commands: is not allowed beside `groups`"),
        ([{"commands": ["a"]}], {"scaling": SCALING}, "scaling: is not allowed beside `groups`"),
        ([{"commands": ["a"], "image": "i"}], {"image": "j"}, "groups[0].image: `image` is given at the top too"),
        ([{"commands": ["a"], "docker": True, "privileged": False}], {}, "groups[0].privileged: `docker` needs"),
        ([{"commands": ["a"], "image": "i", "python": "3.12"}], {}, "groups[0].python: `image` and `python` exclude"),
        ([{"commands": ["a"], "name": "1"}, {"commands": ["a"]}], {}, "groups[1]: `1` is used twice"),
        ([{"commands": ["a"], "router": {}}] * 2, {}, "groups[1]"),
        ([{"commands": ["a"], "router": {}, "replicas": 2}], {}, "groups[0].replicas: is more or less than one"),
        ([{"commands": ["a"], "router": {"type": "dynamo"}}], {"retry": True}, "retry: is not possible with a router"),
        ([{"commands": ["a"], "replicas": "1..2"}], {}, "groups[0].replicas: is a range, expected `scaling`"),
    ],
)
def test_what_groups_of_replicas_may_not_say_is_named(groups, fields, message):
    with pytest.raises(ConfigurationError) as refused:
        grouped(*groups, **fields)
    assert refused.value.message.startswith(f"service: {message}")


def test_the_value_of_a_header_is_not_shown():
    with pytest.raises(ConfigurationError) as refused:
        service(probes=[PROBE | {"headers": [{"name": "Authorization", "value": "top\nsecret"}]}])
    assert "secret" not in str(refused.value)
