"""Old forms of configurations and profiles, turned into the present ones, each with a notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show


class Modern(NamedTuple):
    """Data in present terms; `origins` tells from which old key a present one came, `notices` is by old key."""

    data: dict[str, Any]
    origins: dict[str, str]
    notices: dict[str, str]


def modernize(data: dict[str, Any]) -> Modern:
    """Rewrite the old top-level keys; Invalid when an old and a present key say the same thing."""
    result = Modern(dict(data), {}, {})
    for old, (new, rewrite) in _REPLACED.items():
        if old in data:
            del result.data[old]
            _put(result, old, new, rewrite(data[old]))
    _rewrite_termination(data, result)
    if data.get("type") == "volume":
        _rewrite_size(data, result)
    if data.get("type") == "service" and isinstance(data.get("replicas"), (list, tuple)):
        del result.data["replicas"]
        _put(result, "replicas", "groups", data["replicas"])
    for old, words in _STILL_UNDERSTOOD.items():
        if data.get(old) not in (None, [], "/root"):
            result.notices[old] = words
    return result


def _put(result: Modern, old: str, new: str, value: Any) -> None:
    if result.data.get(new) is not None:
        raise Invalid(f"is the old form of `{new}`, which is given too, expected `{new}` alone", at=(old,))
    if value is not None:
        result.data[new] = value
        result.origins[new] = old
    result.notices[old] = f"`{old}` is an old form, write {_example(new, value)}"


def _example(new: str, value: Any) -> str:
    if value is None:
        return f"`{new}`, or leave it out"
    return show(f"{new}: {_flow(value)}", limit=100)


def _flow(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items())}}}"
    return str(value)


def _rewrite_termination(data: dict[str, Any], result: Modern) -> None:
    policy, time = data.get("termination_policy"), data.get("termination_idle_time")
    if policy not in (None, "dont-destroy", "destroy-after-idle"):
        raise Invalid(f"{show(policy)} is not legal, expected `idle_duration` instead", at=("termination_policy",))
    present = [key for key in ("termination_policy", "termination_idle_time") if key in data]
    for key in present:
        del result.data[key]
    if present:
        # The time comes last: an error in it is an error of its key.
        source = "termination_policy" if policy == "dont-destroy" else present[-1]
        _put(result, source, "idle_duration", "off" if policy == "dont-destroy" else time)
        for key in present:
            result.notices.setdefault(key, f"`{key}` is an old form, write `idle_duration`")


def _rewrite_size(data: dict[str, Any], result: Modern) -> None:
    """`resources: {disk: 500GB}` of a volume."""
    if "resources" not in data:
        return
    resources = data["resources"]
    unknown = next((key for key in resources if key != "disk"), None) if isinstance(resources, dict) else None
    if unknown is not None:
        raise Invalid("is not known to a volume, expected `size` alone", at=("resources", unknown))
    if resources is not None and not isinstance(resources, dict):
        raise Invalid(f"{show(resources)} is not legal in a volume, expected `size` instead", at=("resources",))
    size = (resources or {}).get("disk")
    if isinstance(size, dict) and size.keys() == {"size"}:
        size = size["size"]
    if isinstance(size, str):
        size = size.strip().removesuffix("..")
    del result.data["resources"]
    _put(result, "resources", "size", size)


def _retry_policy(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    at = ("retry_policy",)
    if not isinstance(value, dict):
        raise Invalid(f"{show(value)} is not legal, expected `retry` instead", at=at)
    unknown = [key for key in value if key not in ("retry", "limit")]
    if unknown:
        raise Invalid("unknown key, expected `retry` instead of `retry_policy`", at=(*at, unknown[0]))
    if value.get("retry") not in (None, True, False):
        raise Invalid(f"{show(value['retry'])} is not `true` or `false`", at=(*at, "retry"))
    if value.get("retry") is False:
        return False
    return True if value.get("limit") is None else {"duration": value["limit"]}


def _listed(value: Any) -> Any:
    return None if value is None else [value]


_REPLACED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "repo": ("repos", _listed),
    "pool_name": ("fleets", _listed),
    "instance_name": ("instances", _listed),
    "retry_policy": ("retry", _retry_policy),
}
_STILL_UNDERSTOOD = {
    "home_dir": "`home_dir` is an old form, which sets `HOME`; write `HOME=...` in `env`",
    "setup": "`setup` is an old form, whose commands run first; write them first in `commands`",
}
# Each old key of runs and profiles with the present one that it becomes.
OLD_KEYS = {old: new for old, (new, _) in _REPLACED.items()} | {
    "termination_policy": "idle_duration",
    "termination_idle_time": "idle_duration",
}
