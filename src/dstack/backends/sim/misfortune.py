"""Which calls fail: dice that fall the same way for the same seed, whatever is restarted in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from dstack.backends.sim.config import Failure, FailureKind


class Misfortune:
    """`file` keeps how often each failure was diced for and happened; one that is written anew begins anew."""

    def __init__(self, failures: Iterable[Failure], seed: int, file: Path):
        self._failures = list(enumerate(failures))
        self._seed = seed
        self._file = file
        self._counts: dict[str, list[int]] = _read(file)

    def strikes(self, kind: FailureKind, instance_type: str) -> Failure | None:
        """The failure that happens now; each call is one throw of the dice."""
        for index, failure in self._failures:
            if failure.kind is kind and _concerns(failure, instance_type) and self._falls(index, failure):
                return failure
        return None

    def _falls(self, index: int, failure: Failure) -> bool:
        name = f"{self._seed}:{index}:{failure.model_dump_json()}"
        throws, hits = self._counts.get(name, [0, 0])
        if failure.times is not None and hits >= failure.times:
            return False
        digest = hashlib.blake2b(f"{self._seed}:{index}:{failure.kind}:{throws}".encode(), digest_size=8).digest()
        hit = int.from_bytes(digest, "big") < failure.rate * 2**64
        self._counts[name] = [throws + 1, hits + hit]
        write_json(self._file, self._counts)
        return hit


def write_json(file: Path, data: object) -> None:
    """Replace a small file: whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = file.with_name(f".{file.name}.new")
    new.write_text(json.dumps(data))
    new.replace(file)


def _concerns(failure: Failure, instance_type: str) -> bool:
    return failure.offers is None or any(fnmatchcase(instance_type, pattern) for pattern in failure.offers)


def _read(file: Path) -> dict[str, list[int]]:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
