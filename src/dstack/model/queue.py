"""The queue of one project: the resource whose decision is placement."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from dstack.model.row import Row, table


class QueueStatus(StrEnum):
    ACTIVE = "active"
    CLOSED = "closed"


class Queue(Row):
    kind: ClassVar[str] = "queue"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {QueueStatus.ACTIVE: {QueueStatus.CLOSED}, QueueStatus.CLOSED: set()}
    )

    status: QueueStatus = QueueStatus.ACTIVE
