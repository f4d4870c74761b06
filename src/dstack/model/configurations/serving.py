"""What a service says of its traffic: the model behind it, scaling, rate limits, probes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dstack.model.base import TEXT, Integer, Model, Number, one_of, read_all_by, read_by
from dstack.model.profile import Duration
from dstack.values.duration import parse_duration
from dstack.values.grammar import Invalid, show

METRICS = ("rps", "concurrency", "queue")
WINDOWS_S = (30, 60, 300)
MIN_RPS = 1 / 60
MAX_PROBES = 10
MAX_URL = 2048

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}", re.ASCII)
_WITHOUT_BODY = ("get", "head")


def path_of_url(value: Any) -> str:
    """A path on the service's own host, as it stands behind the host name."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise Invalid(f"{show(value)} is not a path, expected it to start with `/`")
    if len(value) > MAX_URL or not value.isprintable() or any(char.isspace() for char in value):
        raise Invalid(f"{show(value)} is not a path, expected up to {MAX_URL} printable characters without blanks")
    return value


class OpenAIChatModel(Model):
    """A model whose service speaks OpenAI's API below `prefix`."""

    SHORT_FORMS = (TEXT,)

    type: Literal["chat"] = "chat"
    name: Annotated[str, Field(min_length=1)]
    format: Literal["openai"] = "openai"
    prefix: Annotated[str, read_by(path_of_url)] = "/v1"


class TGIChatModel(Model):
    """A model whose service speaks the API of text-generation-inference; the proxy translates."""

    type: Literal["chat"] = "chat"
    name: Annotated[str, Field(min_length=1)]
    format: Literal["tgi"] = "tgi"
    chat_template: str | None = None
    eos_token: str | None = None


def _model(value: Any) -> Any:
    return {"name": value, "format": "openai"} if isinstance(value, (str, int, float)) else value


def _model_form(value: Any) -> str:
    format_ = value.get("format") if isinstance(value, dict) else getattr(value, "format", None)
    return "~tgi" if format_ == "tgi" else "~openai"


ChatModel = Annotated[
    Annotated[OpenAIChatModel, Tag("~openai")] | Annotated[TGIChatModel, Tag("~tgi")],
    Discriminator(_model_form),
    one_of("format", ("openai", "tgi"), "openai"),
    read_by(_model),
]


def _window(value: Any) -> int:
    seconds = parse_duration(value)
    if seconds not in WINDOWS_S:
        raise Invalid(f"{show(value)} is not a window, expected `30s`, `60s` or `5m`")
    return seconds


class ScalingSpec(Model):
    """Replicas follow `metric`: as many as keep it at `target` each, looked at over `window` seconds."""

    metric: Literal["rps", "concurrency", "queue"]
    target: Annotated[Number, Field(gt=0)]
    window: Annotated[int | None, read_by(_window, TEXT)] = None
    scale_up_delay: Duration = 300
    scale_down_delay: Duration = 600


class IPAddressPartitioningKey(Model):
    type: Literal["ip_address"] = "ip_address"


def _header_name(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise Invalid(f"{show(value)} is not the name of a header, expected for instance `X-Api-Key`")
    return value


class HeaderPartitioningKey(Model):
    type: Literal["header"] = "header"
    header: Annotated[str, read_all_by(_header_name)]


def _key_form(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "~header" if kind == "header" else "~address"


class RateLimit(Model):
    """`rps` requests a second, and `burst` more at once, for each client and all paths below `prefix`."""

    prefix: Annotated[str, read_by(path_of_url)] = "/"
    key: Annotated[
        Annotated[IPAddressPartitioningKey, Tag("~address")] | Annotated[HeaderPartitioningKey, Tag("~header")],
        Discriminator(_key_form),
        one_of("type", ("ip_address", "header"), "ip_address"),
    ] = IPAddressPartitioningKey()
    rps: Annotated[Number, Field(ge=MIN_RPS)]
    burst: Annotated[Integer, Field(ge=0)] = 0


def _header_value(value: Any) -> str:
    # Not shown in messages: authorization stands in headers.
    text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > 2048 or not (text.isprintable() or text == ""):
        raise Invalid("is not the value of a header, expected up to 2048 characters on one line")
    return text


class HTTPHeaderSpec(Model):
    name: Annotated[str, read_all_by(_header_name)]
    value: Annotated[str, read_all_by(_header_value)] = Field(repr=False)


Method = Literal["get", "post", "put", "delete", "patch", "head"]


class ProbeConfig(Model):
    """A request that a replica answers with 2xx when it is ready; None: `/`, get, 10s, 15s, 1, false."""

    type: Literal["http"]
    url: Annotated[str | None, read_by(path_of_url)] = None
    method: Annotated[
        Method | None, read_by(lambda value: value.lower() if isinstance(value, str) else value, TEXT)
    ] = None
    headers: Annotated[tuple[HTTPHeaderSpec, ...], Field(max_length=16)] = ()
    body: Annotated[str, Field(max_length=2048)] | None = Field(default=None, repr=False)
    timeout: Annotated[int, read_by(parse_duration, TEXT), Field(ge=1, le=300)] | None = None
    interval: Annotated[int, read_by(parse_duration, TEXT), Field(ge=1)] | None = None
    ready_after: Annotated[Integer, Field(ge=1)] | None = None
    until_ready: bool | None = None

    @model_validator(mode="after")
    def _body_is_sent(self) -> Self:
        method = self.method or "get"
        if self.body is not None and method in _WITHOUT_BODY:
            raise Invalid(f"is not sent by `{method}`, expected another `method`, for instance `post`", at=("body",))
        return self


def check_limits(limits: tuple[RateLimit, ...]) -> None:
    """Refuse two limits for one prefix."""
    prefixes = [limit.prefix for limit in limits]
    for index, prefix in enumerate(prefixes):
        if prefixes.index(prefix) != index:
            raise Invalid(f"`{prefix}` is used twice, expected one limit for each", at=("rate_limits", index, "prefix"))


def check_probes(probes: tuple[ProbeConfig, ...]) -> None:
    """Refuse too many probes, and the same one twice."""
    if len(probes) > MAX_PROBES:
        raise Invalid(f"has {len(probes)} probes, expected {MAX_PROBES} at most", at=("probes",))
    for index, probe in enumerate(probes):
        if probes.index(probe) != index:
            raise Invalid("is the same as one before it, expected each probe once", at=("probes", index))
