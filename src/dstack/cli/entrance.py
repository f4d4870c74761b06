"""Getting into a run while it is followed: the connection to one of its jobs, its ports here, and what to type."""

from __future__ import annotations

import queue
import shlex
from dataclasses import dataclass
from typing import Any

from dstack.api.client import Client
from dstack.cli import forwards
from dstack.cli.attach_home import AttachHome
from dstack.cli.forwards import LOCALHOST, Forward
from dstack.cli.ide import links
from dstack.cli.render.runs import jobs_of, no_such_job
from dstack.cli.tunnel import Barred, Detour, Entered, Lost, Tunnel
from dstack.cli.way_in import Way, way_in
from dstack.errors import DstackError

Json = dict[str, Any]

News = Entered | Lost | Detour | Barred


@dataclass(frozen=True)
class Wish:
    """What a person asked for. `replica_num` None is any that runs; `host` is where forwarded ports listen here.

    `aside`: the run is followed for its own sake, and how to get in is only told where there is something to see.
    """

    ports: tuple[str, ...] = ()
    host: str = LOCALHOST
    job_num: int = 0
    replica_num: int | None = None
    identity: str | None = None
    aside: bool = False
    log_shown: bool = False  # which has the links of a dev environment


class Entrance:
    """`events` get what the tunnel has to tell; `told` says it in words. Belongs to one thread."""

    def __init__(self, client: Client, wish: Wish, events: queue.Queue[Any]):
        self._client, self._wish, self._events = client, wish, events
        self._home: AttachHome | None = None
        self._tunnel: Tunnel | None = None
        self._job: Json | None = None
        self._run: Json = {}
        self._closed_door = ""
        self._barred = False

    def changed(self, run: Json) -> list[str]:
        """Follow the job to where it is now; lines that a person should read. Raises DstackError."""
        self._run = run
        job = self._chosen(run)
        if job is None:
            return []
        self._job, way = job, way_in(run, job)
        if way is None:
            if self._tunnel is not None:
                self._tunnel.lead_to(None)
            return self._why_closed(job)
        notes = self._open_or_note() if self._tunnel is None else []
        if self._tunnel is not None:
            self._tunnel.lead_to(way)
        return notes

    def told(self, news: News) -> list[str]:
        """What happened, in lines for people; the first time it is all that they need to get in.

        Raises the error that ends all tries, unless the run is followed for its own sake.
        """
        if self._ends() and not isinstance(news, Entered):
            return []  # the door closes behind the last one: that is no news
        if isinstance(news, Barred):
            if not self._wish.aside or not isinstance(news.error, DstackError):
                raise news.error
            return self._visible([f"note: {news.error.message}"])
        if isinstance(news, Detour):
            return self._visible([f"The connection goes through the server: {news.reason}"])
        if isinstance(news, Lost):
            reason = f" ({news.reason})" if news.reason else ""
            return self._visible([f"The connection to the run is lost{reason}; connecting again"])
        if news.again:
            return self._visible(["Connected to the run again"])
        return self._visible(self._welcome(news))

    def close(self) -> None:
        """End the connection and leave nothing behind. May be called again."""
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close()
        if self._home is not None:
            self._home.close()

    def _visible(self, lines: list[str]) -> list[str]:
        """To a task without ports nobody needs to get in: `ssh RUN` works, and that is all."""
        ports = self._run["run_spec"]["configuration"].get("ports") or self._wish.ports
        shown = not self._wish.aside or self._of_dev_environment() or ports
        return lines if shown else []

    def _of_dev_environment(self) -> bool:
        return self._run["run_spec"]["configuration"].get("type") == "dev-environment"

    def _ends(self) -> bool:
        return self._job is not None and self._job["job_submissions"][-1]["status"] == "terminating"

    def _open_or_note(self) -> list[str]:
        """A run that is followed for its own sake goes on without a way in, a full disk for instance."""
        if self._barred:
            return []
        try:
            return self._open()
        except DstackError as error:
            if not self._wish.aside:
                raise
            self._barred = True
            return self._visible([f"note: no `ssh {self._run['run_spec']['run_name']}`: {error.message}"])

    def _open(self) -> list[str]:
        self._home = home = AttachHome()
        me = self._client.users.me()
        identity = home.identity(me, (me.get("creds") or {}).get("token") or me["username"], self._wish.identity)
        project = self._client.project
        self._tunnel = Tunnel(home, identity, project, self._forwards, self._wish.host, self._events)
        return self._visible(list(home.notes))

    def _forwards(self, way: Way, through_server: bool) -> list[Forward]:
        assert self._job is not None
        ports = forwards.wanted(self._job["job_spec"], self._wish.ports)
        return forwards.chosen(ports, self._wish.host, same_machine=way.same_machine(through_server))

    def _welcome(self, news: Entered) -> list[str]:
        assert self._home is not None
        way = news.way
        lines = [f"Attached to run {way.run} (replica={way.replica_num} job={way.job_num})"]
        if news.forwards:
            lines.append("Forwarded ports (local -> remote):")
            lines += [f"  - {self._wish.host}:{each.local} -> {each.remote}" for each in news.forwards]
        if not self._wish.log_shown:
            lines += links(self._run, way)
        if self._wish.log_shown and self._of_dev_environment() and not self._home.arguments:
            return lines  # its log has the command, too
        command = shlex.join(["ssh", *self._home.arguments, way.alias])
        return [*lines, f"To connect to the run via SSH, use `{command}`."]

    def _chosen(self, run: Json) -> Json | None:
        jobs = [job for job in jobs_of(run, self._wish.job_num, self._wish.replica_num) if job["job_submissions"]]
        if not jobs and run.get("jobs"):
            raise no_such_job(run, self._wish.job_num, self._wish.replica_num)
        if self._job is not None and any(_same(job, self._job) for job in jobs):
            jobs = [job for job in jobs if _same(job, self._job)]
        return next((job for job in jobs if way_in(run, job)), jobs[0] if jobs else None)

    def _why_closed(self, job: Json) -> list[str]:
        attach = job["job_submissions"][-1].get("x_attach") or {}
        message = attach.get("message") or ""
        if not message or message == self._closed_door:
            return []
        self._closed_door = message
        return self._visible([message])


def _same(one: Json, other: Json) -> bool:
    keys = ("job_num", "replica_num")
    return [one["job_spec"].get(key) for key in keys] == [other["job_spec"].get(key) for key in keys]
