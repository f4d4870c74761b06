"""What differs between the run or fleet that is there and the one that is wanted, in words."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_SPEC_NAMES = {
    "repo_id": "Repo ID",
    "file_archives": "Files",
    "repo_code_hash": "Repo state (local changes)",
    "repo_data": "Repo state (branch, commit, or other)",
    "ssh_key_pub": "Public SSH key",
}
_NOT_CHANGES = (
    "configuration",
    "profile",
    "configuration_path",
    "merged_profile",
    "run_name",
    "ssh_key_pub",
    "autocreated",
)


def differences(old: Json, new: Json) -> list[str]:
    """Bullets for the specification of a run or fleet; empty when nothing differs."""
    before, after = old.get("configuration") or {}, new.get("configuration") or {}
    properties = sorted(key for key in before.keys() | after.keys() if _differ(before.get(key), after.get(key)))
    bullets = ["- Configuration properties:", *(f"  - {key}" for key in properties)] if properties else []
    for key in sorted(old.keys() | new.keys()):
        if key not in _NOT_CHANGES and _differ(_content(key, old), _content(key, new)):
            bullets.append(f"- {_SPEC_NAMES.get(key, key)}")
    profile = [key for key in _profile_keys(old, new) if _differ(_profile(old).get(key), _profile(new).get(key))]
    return bullets + (["- Profile properties:", *(f"  - {key}" for key in profile)] if profile else [])


def _content(key: str, spec: Json) -> Any:
    """Archives are the same when their bytes are, whatever id the upload got."""
    value = spec.get(key)
    if key == "repo_data":
        return [(value or {}).get(name) for name in ("repo_branch", "repo_hash")]
    if key == "file_archives":
        return [(item.get("hash") or item.get("id"), item.get("path")) for item in value or []]
    return value


def _profile(spec: Json) -> Json:
    return spec.get("profile") or {}


def _profile_keys(old: Json, new: Json) -> list[str]:
    return sorted((_profile(old).keys() | _profile(new).keys()) - {"name", "default"})


def _differ(before: Any, after: Any) -> bool:
    """Absent, null and empty are the same."""
    return (
        (before or None) != (after or None)
        if not isinstance(before, bool) or not isinstance(after, bool)
        else before != after
    )
