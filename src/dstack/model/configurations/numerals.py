"""Numbers of a YAML document where no grammar of ours reads the text: in the settings of backends."""

from __future__ import annotations

import re
from typing import Any

from dstack.model.configurations.document import Path, Positions

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,11})\.[0-9]{1,12}", re.ASCII)


def with_numbers(value: Any, positions: Positions, path: Path = ()) -> Any:
    """The part of a document at `path` with numbers where one was written without quotes.

    What a number could not say the same way (`3.10`, `007`) stays text, so nothing is lost.
    """
    if isinstance(value, dict):
        return {key: with_numbers(item, positions, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item, positions, (*path, index)) for index, item in enumerate(value)]
    return _number(value) if isinstance(value, str) and path in positions.plain else value


def _number(text: str) -> int | float | str:
    if _INTEGER.fullmatch(text):
        number: int | float = int(text)
    elif _DECIMAL.fullmatch(text):
        number = float(text)
    else:
        return text
    return number if str(number) == text else text
