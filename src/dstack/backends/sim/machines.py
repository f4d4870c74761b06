"""The machines of a simulated cloud, a file each: what exists does so whatever is restarted."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dstack.backends.sim.misfortune import write_json
from dstack.model.instance import ProvisioningData


@dataclass(frozen=True)
class Machine:
    """`ready_at`: its agent answers from then on, never when `deaf`. `taken_at`: the provider takes it back then."""

    token: str
    id: str
    name: str
    offer: str  # the key of its offer
    instance_type: str
    run: str  # process | pretend, as it was configured when the machine was ordered
    created_at: float
    made_at: float
    ready_at: float
    taken_at: float | None = None
    preempted: bool = False
    deaf: bool = False
    gone_at: float | None = None  # set when it was asked to terminate

    @property
    def data(self) -> ProvisioningData:
        return ProvisioningData(backend_id=self.id, hostname=self.id, internal_ip="127.0.0.1", username="root")

    def taken(self, now: float) -> bool:
        return self.taken_at is not None and self.taken_at <= now


class Machines:
    """`folder` holds `<token>.json` for each. `shared`: other processes make and change some, too."""

    def __init__(self, folder: Path, shared: bool = False):
        self._folder = folder
        self._shared = shared
        self._found: dict[str, Machine] | None = None

    def get(self, token: str) -> Machine | None:
        if not self._shared:
            return self._all().get(token)
        try:
            return _read(self._file(token))
        except FileNotFoundError:
            return None

    def all(self) -> list[Machine]:
        if self._shared:
            self._found = None
        return list(self._all().values())

    def put(self, machine: Machine) -> Machine:
        write_json(self._file(machine.token), asdict(machine))
        self._all()[machine.token] = machine
        return machine

    def change(self, machine: Machine, **fields: object) -> Machine:
        return self.put(replace(machine, **fields))  # type: ignore[arg-type]

    def remove(self, token: str) -> None:
        self._file(token).unlink(missing_ok=True)
        self._all().pop(token, None)

    def _all(self) -> dict[str, Machine]:
        if self._found is None:
            files = sorted(self._folder.glob("[!.]*.json")) if self._folder.exists() else []
            self._found = {}
            for file in files:
                with suppress(FileNotFoundError):  # removed meanwhile by another process
                    self._found[file.stem] = _read(file)
        return self._found

    def _file(self, token: str) -> Path:
        return self._folder / f"{token}.json"


def _read(file: Path) -> Machine:
    return Machine(**json.loads(file.read_text()))
