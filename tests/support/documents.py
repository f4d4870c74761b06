"""Documents that people might write by mistake: shown ones with edits of their text and of their values."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dstack.errors import ConfigurationError
from dstack.model.configurations.profiles import read_profiles
from dstack.model.configurations.reading import parse, read
from dstack.model.configurations.server_config import read_server_config

FILE = "t.yml"
LINE_OF_OURS = re.compile(rf"{re.escape(FILE)}:[1-9][0-9]*:[1-9][0-9]*: \S.*")
NOT_OURS = re.compile(
    r"pydantic|validation error|Extra inputs|Input (?:should|tag)|Field required|Value error|Unable to"
    r"|should be a valid|Traceback|object at 0x|found character|expected <"
    r"|while (?:scanning|parsing)|~(?:volume|instance|rule|flag|name)"
)

_CORPUS = Path(__file__).parents[1] / "corpus" / "configurations.yml"
_PROFILES = """profiles:
  - name: cheap
    default: true
    max_price: 1.5
    spot_policy: auto
    retry: {on_events: [error], duration: 1h}
    pool_name: p
  - {name: other, schedule: {cron: '0 0 * * *'}, instances: [i, {fleet: f, instance: 1}], tags: {a: b}}
"""
_SERVER = """projects:
  - name: main
    backends:
      - {type: aws, creds: {type: default}, regions: [us-east-1]}
encryption:
  keys: [{type: aes, name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}, {type: identity}]
default_permissions: {allow_non_admins_create_projects: false}
plugins: [a]
"""
_GATEWAY = (
    "type: gateway\nname: g\nbackend: aws\nregion: r\ndomain: x.org\ncertificate: {type: acm, arn: a}\nreplicas: 2\n"
)
_GROUPS = """type: service
port: 80
groups:
  - {name: r, router: {type: smg}, commands: [a]}
  - {count: 2, commands: [b], resources: {gpu: {name: [A], memory: 24GB..}}, docker: true}
probes: [{type: http, url: /x, headers: [{name: A, value: b}], timeout: 10s}]
rate_limits: [{prefix: /a, rps: 1, key: {type: header, header: X}}]
schedule: {cron: ['0 0 * * *']}
utilization_policy: {min_gpu_utilization: 5, time_window: 10m}
"""
_NODES = """type: task
groups:
  - {name: m, nodes: 1, commands: ['echo ${{ groups[0].nodes[0].IP_ADDRESS }}'], ports: ['*:80']}
  - {nodes: 2, commands: [b], resources: {cpu: 'arm:4..', disk: {size: 1TB}}}
volumes: ['v:/x', {instance_path: /a, path: /b}]
repos: [{url: 'https://x.org/y', if_exists: skip}]
user: 1000:1000
"""
_FRAGMENTS = (
    "", ":", ": ", "- ", "\t", "\n", "  ", "'", '"', "[", "]", "{", "}", "&a ", "*a", "<<: ", "!!int ", "!x ", "|", ">",
    "#", "%", "---\n", "...\n", "? ", "~", "null", "true", "off", "0", "-1", "1e999", ".nan", ".inf", "\0", "\ud800",
    "é", "\u2028", '"\\ud800"', '"\\0"', "type", "9" * 400, "nodes: 1\n", "foo: bar\n", "${{ x", "..", "1..", "a..b",
    "24GB", "5m", "1h30m", "http://", "@", "`", "\r", "\ufeff", "env:\n", "- name: x\n", "replicas: 1..2\n",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", " ", "off", "auto", "1..2", "2..1", "..",
    "24GB", "a:/b", "-1", "5m", "\0", "\ud800", "x" * 3000, [], {}, [[]], [None], {"": 1}, {"min": 2, "max": 1},
    {"name": 1}, {"type": "x"}, {"key": "K"}, ["a", "a"], "${{", "${{ env.X }}", (), {1: 2}, {None: 1}, b"x",
)  # fmt: skip


class Reader(NamedTuple):
    """How documents of one kind are read."""

    name: str
    read: Callable[[str], Any]
    documents: tuple[str, ...]


def readers() -> tuple[Reader, ...]:
    shown = [case["text"] for case in yaml.safe_load(_CORPUS.read_text())]
    return (
        Reader("configuration", lambda text: read(text, FILE), (*shown, _GATEWAY, _GROUPS, _NODES)),
        Reader("profiles", lambda text: read_profiles(text, FILE), (_PROFILES,)),
        Reader("server", lambda text: read_server_config(text, FILE), (_SERVER,)),
    )


def edited(text: str, dice: random.Random) -> str:
    """The text with one to four places cut out, filled in, repeated or moved."""
    for _ in range(dice.randint(1, 4)):
        start = dice.randint(0, len(text))
        kind = dice.random()
        if kind < 0.6:
            text = text[:start] + dice.choice(_FRAGMENTS) + text[start + dice.randint(0, 12) :]
        elif kind < 0.8:
            lines = text.splitlines(keepends=True)
            lines.insert(dice.randint(0, len(lines)), dice.choice(lines or [""]))
            text = "".join(lines)
        else:
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if dice.random() > 0.15)
    return text


def damaged(data: Any, dice: random.Random) -> Any:
    """The data with some of its values and keys replaced."""
    if dice.random() < 0.12:
        return dice.choice(_VALUES)
    if isinstance(data, dict):
        items = {key: damaged(item, dice) for key, item in data.items()}
        if dice.random() < 0.05:
            items[dice.choice(["foo", "type", "name", "", "gpu", "min"])] = dice.choice(_VALUES)
        return items
    return [damaged(item, dice) for item in data] if isinstance(data, list) else data


def trouble(seed: int, known: tuple[Reader, ...]) -> str | None:
    """Play one seed: None when the document was understood or refused in our words, else what happened."""
    dice = random.Random(seed)
    reader = dice.choices(known, weights=[8, 1, 1])[0]
    document = dice.choice(reader.documents)
    if reader.name == "configuration" and dice.random() < 0.4:
        return _of_data(damaged(yaml.safe_load(document), dice))
    text = edited(document, dice)
    try:
        reader.read(text)
    except ConfigurationError as error:
        return next(_complaints(error, text), None)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{text!r}"
    return None


def _complaints(error: ConfigurationError, text: str) -> Iterator[str]:
    shown = f"{error.message}\n{error.hint}"
    if not all(LINE_OF_OURS.fullmatch(line) for line in error.message.splitlines()) or not error.message:
        yield f"a line without its place: {error.message}\n{text!r}"
    if found := NOT_OURS.search(shown):
        yield f"not our words ({found[0]}): {shown}\n{text!r}"
    try:
        shown.encode()
    except UnicodeEncodeError:
        yield f"a message that cannot be printed: {shown!r}\n{text!r}"


def _of_data(data: Any) -> str | None:
    try:
        configuration = parse(data, "body")
        dumped = configuration.model_dump(mode="json")
        if parse(dumped, "").model_dump(mode="json") != dumped:
            return f"read back as something else: {data!r}"
        configuration.model_dump_json()
    except ConfigurationError as error:
        if NOT_OURS.search(f"{error.message} {error.hint}"):
            return f"not our words: {error.message}\n{data!r}"
        f"{error.message} {error.hint}".encode()
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{data!r}"
    return None
