"""Finished runs do not change any more: each is rendered and encoded once, and listed from then on as it is."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dstack.server.services.wire.encoding import encoded
from dstack.server.services.wire.runs import RunView
from dstack.server.services.wire.runs import run as render

KEPT = 512  # some 6 KiB each


class FinishedRuns:
    """Encoded runs by all that they were made of: the versions of the rows, the names, the form that was asked for."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def encode(self, view: RunView, include_jobs: bool, submissions_limit: int | None) -> bytes:
        """The run as JSON."""
        if not view.run.terminal:
            return encoded(render(view, include_jobs=include_jobs, submissions_limit=submissions_limit))
        rows = tuple((row.id, row.version) for row in (view.run, *view.jobs))
        names = (view.project_name, view.username, view.fleet_name, view.around.images)
        key = (rows, names, include_jobs, submissions_limit)
        known = self._known.get(key)
        if known is None:
            known = encoded(render(view, include_jobs=include_jobs, submissions_limit=submissions_limit))
            self._known[key] = known
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known
