"""What shapes of answers are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from dstack.model.profile import BACKEND_NAMES

# Ours alone: they are sent as `remote`, which is what released clients can read.
_HIDDEN = ("local", "sim", "ssh")


class Answer(BaseModel):
    """An object of an answer. Fields that begin with `x_` are ours, beyond the public API; clients may ignore them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


Backend = Annotated[str, WithJsonSchema({"type": "string", "enum": [n for n in BACKEND_NAMES if n not in _HIDDEN]})]
OwnBackend = Annotated[str, Field(description="The backend as this server calls it: also `local`, `sim` and `ssh`")]
# Data of a version that is not ours to say more about.
Plain = dict[str, Any]


class Span(Answer):
    """Both ends count."""

    min: float | None
    max: float | None
