"""Sending the `files` of a configuration: packed, compared by hash, sent when the server has them not, with a bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from dstack.api.client import Client
from dstack.cli.applying import Prepared
from dstack.cli.packing import Archive, pack
from dstack.cli.terminal import StatusLine
from dstack.errors import ConfigurationError

Json = dict[str, Any]

BAR_FROM_BYTES = 4 * 1024 * 1024  # what is smaller is there before anybody has read the bar
REDRAW_S = 0.1
BAR_WIDTH = 24


def upload_files(client: Client, prepared: Prepared, limit_bytes: int) -> list[Json]:
    """The archives as a specification names them. Raises ConfigurationError naming the line of the file."""
    mappings = []
    for number, file in enumerate(getattr(prepared.configuration, "files", ())):
        try:
            archive = pack(file.local_path, file.path, prepared.folder, limit_bytes)
        except ConfigurationError as error:
            raise ConfigurationError(prepared.at("files", number) + error.message, hint=error.hint) from None
        id_ = client.files.find(archive.sha256) or _sent(client, archive, file.local_path)
        mappings.append({"id": id_, "path": archive.path, "hash": archive.sha256})
    return mappings


def _sent(client: Client, archive: Archive, name: str) -> str:
    bar = Bar(f"Uploading {name}", len(archive.data))
    try:
        return client.files.upload(archive.data, archive.sha256, bar.show)["id"]
    finally:
        bar.clear()


class Bar:
    """How much of `total` bytes is sent: redrawn on a terminal; elsewhere one line tells of something large."""

    def __init__(self, what: str, total: int):
        self._what = what
        self._total = total
        self._line = StatusLine()
        self._live = sys.stderr.isatty()
        self._drawn_at = 0.0
        if total >= BAR_FROM_BYTES and not self._live:
            self._line.tell(f"{what} ({total / 1048576:.1f}MB)")

    def show(self, sent: int) -> None:
        if self._total < BAR_FROM_BYTES or not self._live:
            return
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_S and sent < self._total:
            return
        self._drawn_at = now
        full = BAR_WIDTH * sent // self._total
        bar = "█" * full + "░" * (BAR_WIDTH - full)
        self._line.tell(f"{self._what} {bar} {sent / 1048576:.0f}/{self._total / 1048576:.0f}MB")

    def clear(self) -> None:
        self._line.clear()
