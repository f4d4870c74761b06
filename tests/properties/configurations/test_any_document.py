"""Whatever a document holds, it is either understood or refused in our words, at a place inside it."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse, read

DOCUMENTS = (
    """type: task
name: train
python: 3.11
env:
  - TOKEN
  - A=1
commands:
  - "echo a: b"
  - |
    x
    y
ports: [8501, '80:80']
resources:
  gpu: A100:40GB:2
  cpu: {arch: x86, count: 4..}
  disk: 200GB
retry: true
""",
    """type: task
image: ubuntu
groups:
  - name: a
    nodes: 2
    commands: [x]
    resources: &r {gpu: 24GB.., cpu: 2}
  - commands: [y]
    resources: *r
volumes: ['v:/x', {instance_path: /a, path: /b}]
max_duration: off
""",
    """type: task
commands: [a]
pool_name: p
retry_policy: {retry: true, limit: 1h}
termination_idle_time: 5m
registry_auth: {username: u, password: p}
schedule: {cron: '0 0 * * *'}
instances: [i, {hostname: h}, {fleet: f, instance: 1}]
tags: {a: b}
""",
    """type: fleet
name: my-fleet
nodes: {min: 1, target: 2, max: 3}
resources: {gpu: {name: [A, B], count: 1..2}}
spot_policy: auto
idle_duration: 5m
backends: [aws, gcp]
blocks: auto
retry: {on_events: [error]}
""",
    """type: fleet
ssh_config:
  user: ubuntu
  identity_file: ~/.ssh/id
  hosts:
    - 10.0.0.1
    - hostname: b
      proxy_jump: {hostname: h, user: u, identity_file: k}
  network: 10.0.0.0/8
env: {A: 1}
""",
)
TOKENS = (
    *(
        "",
        ":",
        ": ",
        "- ",
        "\t",
        "\n",
        "  ",
        "'",
        '"',
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "|",
        ">",
        "#",
    ),
    *("%", "---\n", "...\n", "? ", "~", "null", "true", "off", "0", "-1", "1e999", ".nan", "\0", "\ud800", "é"),
    *('"\\ud800"', '"\\0"', "type", "gpu", "9" * 5000, "nodes: 1\n", "foo: bar\n"),
)

OURS = re.compile(r"t\.yml:[1-9][0-9]*:[1-9][0-9]*: \S.*")
NOT_OURS = re.compile(
    r"pydantic|validation error|Extra inputs|Input (should|tag)|Field required|Value error|Unable to|type="
    r"|should be a valid|Traceback|object at 0x|found character|expected <|while (scanning|parsing)"
    r"|~(volume|instance|rule|flag|name|fleet)",
)

edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(TOKENS)), min_size=1, max_size=4)


def edited(text, changes):
    for where, cut, token in changes:
        start = int(where * len(text))
        text = text[:start] + token + text[start + cut :]
    return text


@settings(max_examples=400)
@given(st.sampled_from(DOCUMENTS), edits)
def test_a_damaged_document_is_understood_or_refused_in_our_words(document, changes):
    text = edited(document, changes)
    try:
        reading = read(text, "t.yml")
    except ConfigurationError as error:
        lines = error.message.splitlines()
        assert lines
        assert all(OURS.fullmatch(line) for line in lines), error.message
        assert not NOT_OURS.search(f"{error.message} {error.hint}"), error.message
        assert all(int(line.split(":")[1]) <= text.count("\n") + 2 for line in lines)
        f"{error.message} {error.hint}".encode()
    else:
        data = reading.configuration.model_dump(mode="json")
        assert parse(data, "").model_dump(mode="json") == data


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_document_are_refused(data):
    with pytest.raises(ConfigurationError) as refused:
        read(data, "t.yml")
    lines = refused.value.message.splitlines()
    assert lines and all(OURS.fullmatch(line) for line in lines), refused.value.message
    assert not NOT_OURS.search(f"{refused.value.message} {refused.value.hint}"), refused.value.message


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from(["off", "auto", "1..2", "24GB", "a:/b", "-1", "5m", "\0", "\ud800", 10**400, "x" * 200]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["min", "max", "name", "path", "count", "size", "key", "fleet", "hostname", "instance_path", "foo"]
    ), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(data, path=()):
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


BODIES = tuple(read(document, "t.yml").configuration.model_dump(mode="json") for document in DOCUMENTS)


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_request_is_understood_or_refused_in_our_words(data):
    body = copy.deepcopy(data.draw(st.sampled_from(BODIES)))
    *parents, last = data.draw(st.sampled_from([path for path in places(body) if path]))
    target = body
    for part in parents:
        target = target[part]
    target[last] = data.draw(values)
    try:
        configuration = parse(body, "body")
    except ConfigurationError as error:
        lines = error.message.splitlines()
        assert lines and all(line.startswith("body: ") for line in lines), error.message
        assert not NOT_OURS.search(f"{error.message} {error.hint}"), error.message
        f"{error.message} {error.hint}".encode()
    else:
        dumped = configuration.model_dump(mode="json")
        assert parse(dumped, "").model_dump(mode="json") == dumped
        configuration.model_dump_json()
