"""YAML text to plain data with the place of every key and value; whatever is wrong is said in our words.

Numbers stay text as written (`3.10` is not 3.1, `22:22` is not 1342): each field's grammar reads its own text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from dstack.errors import ConfigurationError
from dstack.values.grammar import show

Path = tuple[str | int, ...]

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000

_TOO_LARGE = "too large once its anchors and aliases are expanded"
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + name for name in ("str", "int", "float")}
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class Position(NamedTuple):
    """Both counted from 1."""

    line: int
    column: int


@dataclass
class Positions:
    """Where each key and value of a document stands, by its path. `plain`: text that was written without quotes."""

    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    plain: set[Path] = field(default_factory=set)

    def of(self, path: Path, *, key: bool = False) -> Position:
        """The place of a value (or of its key); for what is not written, that of the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Position(1, 1))


class Document(NamedTuple):
    """Plain data: mappings with text keys, lists, text, booleans and None."""

    data: Any
    positions: Positions


def load(text: str | bytes, filename: str) -> Document:
    """The one document of the text; ConfigurationError with file, line and column when it cannot be read."""
    try:
        return _load(_decode(text))
    except _Bad as bad:
        raise ConfigurationError(f"{filename}:{bad.line}:{bad.column}: {bad}", hint=bad.hint) from None


_START = yaml.Mark("", 0, 0, 0, None, 0)


class _Bad(Exception):
    def __init__(self, message: str, line: int = 1, column: int = 1, hint: str | None = None):
        super().__init__(message)
        self.line, self.column, self.hint = line, column, hint

    @classmethod
    def at(cls, mark: Any, message: str, hint: str | None = None) -> _Bad:
        return cls(message, mark.line + 1, mark.column + 1, hint)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader up to the nodes, with a limit of depth, and with only null, booleans and `<<` being special."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Bad.at(self.peek_event().start_mark, f"nested more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile(r"(?:yes|no|true|false|on|off)$", re.IGNORECASE), list("yYnNtTfFoO")
)
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<$"), ["<"])


def _decode(text: str | bytes) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = text[: error.start]
            column = error.start - before.rfind(b"\n")
            raise _Bad("is not UTF-8 text", before.count(b"\n") + 1, column, "save the file as UTF-8") from None
    if len(text) > MAX_CHARACTERS:
        raise _Bad(f"is longer than {MAX_CHARACTERS // 1024} KiB, which no configuration needs")
    return text.removeprefix("\ufeff")


def _load(text: str) -> Document:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_node() if loader.check_node() else None
        if node is not None and loader.check_node():
            raise _Bad.at(loader.peek_event().start_mark, "a second document starts here, expected one to a file")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n")
        code = error.character if isinstance(error.character, int) else 0
        raise _Bad(f"character U+{code:04X} is not text", before.count("\n") + 1, column) from None
    except yaml.MarkedYAMLError as error:
        raise _explained(error) from None
    except (ValueError, OverflowError):
        raise _Bad.at(loader.get_mark() if loader else _START, "broken escape in text") from None
    if node is None:
        return Document(None, Positions())
    return _Walk().document(node)


class _Walk:
    """Nodes to data; aliases are expanded here, so this is where their number is limited."""

    def __init__(self) -> None:
        self.positions = Positions()
        self.seen = 0
        self.nesting = 0

    def document(self, node: yaml.Node) -> Document:
        return Document(self.value(node, ()), self.positions)

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.seen += 1
        if self.seen > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _Bad.at(node.start_mark, _TOO_LARGE)
        self.positions.values[path] = Position(node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            (self.positions.plain.add if node.style is None else self.positions.plain.discard)(path)
            return _scalar(node)
        raise _Bad.at(node.start_mark, f"the YAML tag {show(node.tag.removeprefix(_TAG))} is not understood")

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self.nesting += 1
        if self.nesting > MAX_DEPTH:
            raise _Bad.at(node.start_mark, _TOO_LARGE)
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if key_node.tag == _TAG + "merge":
                merged = self.merged(value_node, path) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Bad.at(mark, "a list or mapping is used as a key, expected text before the `:`")
            key = key_node.value
            if key in lines:
                raise _Bad.at(mark, f"{show(key)} is given twice, in lines {lines[key]} and {mark.line + 1}")
            lines[key] = mark.line + 1
            self.positions.keys[*path, key] = Position(mark.line + 1, mark.column + 1)
            data[key] = self.value(value_node, (*path, key))
        self.nesting -= 1
        return merged | data

    def merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What `<<` brings in: the first of several mappings wins, and keys written out win over all."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        data: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise _Bad.at(node.start_mark, "`<<` merges something else than a mapping")
            data = self.mapping(source, path) | data
        return data


def _scalar(node: yaml.ScalarNode) -> Any:
    if node.tag == _TAG + "null":
        return None
    if node.tag == _TAG + "bool":
        value = _BOOLEANS.get(node.value.lower())
        if value is not None:
            return value
    if node.tag in _TEXT_TAGS:
        return node.value
    raise _Bad.at(node.start_mark, f"the YAML tag {show(node.tag.removeprefix(_TAG))} is not understood")


# What PyYAML says (the beginning of it) -> what we say. `{line}` is the line in which the construct began.
_WORDS = (
    (
        "mapping values are not allowed",
        "a `:` where none can be; check the indentation, and put text that holds `: ` in quotes",
    ),
    ("found character '\\t'", "a tab is used for indentation, expected spaces"),
    ("found a tab character", "a tab is used for indentation, expected spaces"),
    ("found character", "a value cannot start with this character; put it in quotes"),
    ("could not find expected ':'", "a key without its `:`"),
    ("found unexpected end of stream", "the quoted text that starts in line {line} is not closed"),
    ("found unexpected document separator", "the quoted text that starts in line {line} is not closed"),
    ("found unknown escape character", "an unknown escape in double quotes; use single quotes or `\\\\`"),
    ("expected escape sequence", "a broken escape in double quotes; use single quotes or `\\\\`"),
    ("expected ',' or ']'", "the `[` of line {line} is not closed, expected `,` or `]`"),
    ("expected ',' or '}'", "the {{ of line {line} is not closed, expected `,` or `}}`"),
    ("expected <block end>", "the indentation does not fit the lines above, which begin in line {line}"),
    ("sequence entries are not allowed", "a list item `- ` where none can be; check the indentation"),
    ("mapping keys are not allowed", "a key where none can be; check the indentation"),
    ("found undefined alias", "an alias whose anchor (`&name`) is not there"),
    ("found duplicate anchor", "an anchor of a name that is already used"),
    ("found incompatible YAML document", "a YAML version that is not supported, expected 1.1 or 1.2"),
    ("expected a comment or a line break", "text behind a block marker (`|` or `>`), expected it in the next line"),
    ("expected indentation indicator", "a block marker with an indentation that is not legal"),
)


def _explained(error: yaml.MarkedYAMLError) -> _Bad:
    mark = error.problem_mark or error.context_mark or _START
    began = (error.context_mark or mark).line + 1
    if (error.problem or "").startswith("could not find expected ':'"):
        mark = error.context_mark or mark  # what follows the key is found first, often lines below
    for prefix, words in _WORDS:
        if (error.problem or "").startswith(prefix):
            return _Bad.at(mark, words.format(line=began))
    return _Bad.at(
        mark, "is not YAML here", hint="check the indentation, the quotes and the brackets around this place"
    )
