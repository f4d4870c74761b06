"""Volumes: storage of a backend that outlives runs, or a named directory that hosts keep."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from dstack.model.base import Model, read_all_by
from dstack.model.configurations.parts import Name
from dstack.model.profile import IdleDuration
from dstack.model.resources import Gigabytes
from dstack.values.grammar import Invalid
from dstack.values.names import parse_tags


class _Kind(NamedTuple):
    """What a volume of one backend may say beside name, tags and clean-up; `existing` names one that is there."""

    existing: str | None
    fields: frozenset[str]
    required: tuple[str, ...] = ()


_ZONED = _Kind("volume_id", frozenset({"region", "availability_zone", "size", "volume_id"}), ("region",))
_BY_ID = _Kind("volume_id", frozenset({"volume_id"}))
_CLAIM_FIELDS = ("region", "size", "claim_name", "storage_class_name", "access_modes", "read_only")
_KINDS: dict[str | None, _Kind] = {
    "aws": _ZONED,
    "gcp": _ZONED,
    "runpod": _ZONED,
    "kubernetes": _Kind("claim_name", frozenset(_CLAIM_FIELDS)),
    "daytona": _BY_ID,
    "lium": _BY_ID,
    # A directory that the agent keeps on each host under this name.
    None: _Kind(None, frozenset({"size"}), ("name",)),
}
_OF_SOME = frozenset().union(*(kind.fields for kind in _KINDS.values()))


class VolumeConfiguration(Model):
    """`size` is in gigabytes; `volume_id` and `claim_name` register what is there. No `backend`: kept by the hosts."""

    type: Literal["volume"] = "volume"
    name: Name | None = None
    backend: Literal["aws", "gcp", "runpod", "kubernetes", "daytona", "lium"] | None = None
    region: Annotated[str, Field(min_length=1)] | None = None
    availability_zone: Annotated[str, Field(min_length=1)] | None = None
    size: Gigabytes | None = None
    volume_id: Annotated[str, Field(min_length=1)] | None = None
    claim_name: Annotated[str, Field(min_length=1)] | None = None
    storage_class_name: Annotated[str, Field(min_length=1)] | None = None
    access_modes: tuple[str, ...] | None = None
    read_only: bool | None = None
    auto_cleanup_duration: IdleDuration = None
    tags: Annotated[dict[str, str] | None, read_all_by(parse_tags)] = None

    @property
    def external(self) -> bool:
        """The volume was there before, and stays when it is deleted here."""
        return self.volume_id is not None or self.claim_name is not None

    @model_validator(mode="after")
    def _fits_its_backend(self) -> Self:
        kind, where = _KINDS[self.backend], self.backend or "a volume without `backend`"
        for field in sorted(_OF_SOME - kind.fields):
            if getattr(self, field) is not None:
                raise Invalid(f"is not known to {where}", at=(field,))
        for field in kind.required:
            if getattr(self, field) is None:
                raise Invalid(f"has no `{field}`, which {where} needs")
        if self.size == 0:
            raise Invalid("is zero, expected a size such as `100GB`", at=("size",))
        if "size" in kind.fields and kind.existing and self.size is None and not self.external:
            raise Invalid(f"has neither `size` nor `{kind.existing}` (a volume that is there), expected one of them")
        if self.external and (self.auto_cleanup_duration or -1) >= 0:
            raise Invalid(
                "is not for volumes that were there before: those are never deleted", at=("auto_cleanup_duration",)
            )
        return self
