"""Staying with a run until its end: what it does, its log, Ctrl-C, and a server that goes away meanwhile."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dstack.api.client import Client
from dstack.api.logs import LogPiece
from dstack.cli.ending import EXITED, decisive, exit_code, never_ran, was_placed
from dstack.cli.entrance import Entrance, News
from dstack.cli.follow import Away, Back, Broken, Changed, LogEnd, Logged, follow_log, watch_run
from dstack.cli.joblogs import JobLogs
from dstack.cli.prompts import confirm
from dstack.cli.render import runs as words
from dstack.cli.terminal import StatusLine, mute_stdout, put_bytes, say, style
from dstack.cli.tunnel import Barred, Detour, Entered, Lost
from dstack.errors import DstackError

Json = dict[str, Any]

INTERRUPTED = 130
ENDED_BY_PEOPLE = ("stopped", "aborted")
LAST_LOG_S = 20.0  # how long the rest of a log may take after the end of the run


class Attached:
    """One run, followed by threads (its state, the log of each job, the way into it) and shown by this one.

    `stays`: to leave is the usual end, and no interruption. `since`: what of the log is old, seconds since the epoch.
    """

    def __init__(
        self,
        client: Client,
        run: Json,
        *,
        assume_yes: bool,
        show_log: bool = True,
        stays: bool = False,
        since: float | None = None,
    ):
        self.run = run
        self.events: queue.Queue[Any] = queue.Queue(maxsize=1000)
        self.entrance: Entrance | None = None
        self.tell: Callable[[str], None] | None = None  # how to say what leads into the run; None: as all talk
        self._stays = stays
        self._since = since
        self._client = client
        self._assume_yes = assume_yes
        self._show_log = show_log
        self._name = words.name(run)
        self._stop = threading.Event()
        self._status = StatusLine()
        self._logs = JobLogs()
        self._told = ""
        self._last_byte = b"\n"
        self._was_running = run["status"] == "running"  # before this command: no news to anybody
        self._ending = False

    def follow(self) -> int:
        """Show the run to its end; the exit code of the command."""
        try:
            try:
                self._start(watch_run, self.run["id"])
                self._changed(self.run)
                self._until_finished()
            except KeyboardInterrupt:
                return self._interrupted()
            return self._finished()
        except SystemExit:
            raise
        except BaseException as end:
            if not isinstance(end, (Exception, KeyboardInterrupt)):  # SIGTERM
                self._talk("Detached")
            raise
        finally:
            self._stop.set()
            self._status.clear()
            if self.entrance is not None:
                self.entrance.close()

    def _start(self, target: Any, *arguments: Any) -> None:
        """A thread that ends with the command; what it fails with fails here."""

        def guarded(client: Client) -> None:
            try:
                target(client, *arguments, self.events, self._stop)
            except Exception as error:
                self.events.put(Broken(error))

        threading.Thread(target=guarded, args=(self._client.fork(),), daemon=True).start()

    def _until_finished(self) -> None:
        deadline: float | None = None
        while True:
            if words.finished(self.run) and deadline is None:
                if not was_placed(self.run):
                    return  # there is no log
                deadline = time.monotonic() + LAST_LOG_S
            if deadline is not None and not self._logs.any_open:
                return
            if deadline is not None and time.monotonic() >= deadline:
                return self._talk("The rest of the log did not come in time; `dstack logs` may have it later")
            try:
                event = self.events.get(timeout=None if deadline is None else max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                continue
            self._handle(event)

    def _handle(self, event: Any) -> None:
        match event:
            case Logged(submission_id=submission_id, piece=piece):
                self._log(submission_id, piece)
            case Changed(run=run):
                self._changed(run)
            case LogEnd(submission_id=submission_id):
                self._put(self._logs.end(submission_id))
                self._follow_newest()
            case Away(error=error, patience_s=patience_s):
                self._talk(f"{error.message}; trying again for {patience_s / 60:g} minutes, the run goes on meanwhile")
            case Back():
                self._talk("The server answers again")
            case Entered() | Lost() | Detour() | Barred():
                self._show_way(event)
            case Broken(error=error):
                raise error

    def _changed(self, run: Json | None) -> None:
        if run is None:
            raise DstackError(f"Run {self._name} was deleted")
        self.run = run
        self._follow_newest()
        if not words.finished(run):
            self._show_state(run)
        for line in self.entrance.changed(run) if self.entrance is not None else ():
            self._talk(line)

    def _show_way(self, news: News) -> None:
        """How to get in is what the command is for: `tell` may put it where data goes."""
        assert self.entrance is not None
        lines = self.entrance.told(news)
        tell = self.tell if isinstance(news, Entered) and not news.again else None
        if tell is None:
            for line in lines:
                self._talk(line)
            return
        self._status.clear()
        for line in [*lines, *(["Press Ctrl+C to detach..."] if self._stays else [])]:
            tell(line)

    def _follow_newest(self) -> None:
        """Follow the log of the newest submission of each job."""
        for start in self._logs.newest(self.run):
            if start.again:
                self._was_running = False
            if self._show_log:
                self._start(follow_log, start.submission_id)
            else:
                self._logs.end(start.submission_id)

    def _show_state(self, run: Json) -> None:
        waiting = run.get("x_waiting_for")
        text = f"{self._name}: {words.status(run)}{f' (waiting for {waiting})' if waiting else ''}"
        if text == self._told:
            return
        self._told = text
        if run["status"] == "running":
            self._show_running()
        elif never_ran(run):
            return  # it never had a machine, and how it ended is told when it has ended
        elif self._was_running and not self._ending:
            return  # older news than that of the log, or the end, which is told when it is there
        elif self._last_byte == b"\n":
            self._status.tell(text)
        else:
            self._talk(text)

    def _show_running(self) -> None:
        """Once, before the first line of the log, which may come before the news that the job runs."""
        if not self._was_running:
            self._talk(f"{self._name} provisioning completed (running)")
        self._was_running = True

    def _log(self, submission_id: str, piece: LogPiece) -> None:
        if self._since is not None and piece.at is not None and piece.at < self._since:
            return
        self._status.clear()
        if data := self._logs.shown(submission_id, piece.data):
            self._show_running()
            self._put(data)
        if piece.lost:
            self._talk(f"{piece.lost} bytes of the log are missing")

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self._last_byte = data[-1:]
        try:
            put_bytes(data)
        except BrokenPipeError:
            if not self._ending:
                raise
            mute_stdout()  # Ctrl-C ended the reader of our pipe, too; the run is still to be stopped

    def _talk(self, text: str) -> None:
        """A line of talk that stays, on a line of its own."""
        self._status.clear()
        if self._last_byte != b"\n" and sys.stdout.isatty():
            put_bytes(b"\n")
        self._last_byte = b"\n"
        say(text)

    def _finished(self) -> int:
        code = exit_code(self.run)
        state = words.status(self.run)
        self._talk(style(state[:1].upper() + state[1:], "green" if code == 0 else "red", stream=sys.stderr))
        by_itself = (decisive(self.run) or {}).get("termination_reason") == EXITED
        reason = words.error_text(self.run)
        # The bare exit code says all there is to say; that it was the memory, or an unknown command, it does not.
        if code and reason and not (by_itself and reason == f"Exited with status {code}"):
            say(reason)
        if code and not by_itself and state not in ENDED_BY_PEOPLE:
            say(f"hint: `dstack why {self._name}` tells more, `dstack event --target-run {self._name}` what happened")
        return code

    def _interrupted(self) -> int:
        self._ending = True
        self._talk("")
        if self._stays:
            say("Detached")
            return 0
        if not self._assume_yes and self._wants_stop():
            return self._stop_and_wait()
        say("Detached")
        say(f"hint: the run goes on; {self._way_back()}, `dstack stop {self._name}` ends it")
        return INTERRUPTED

    def _way_back(self) -> str:
        configuration = self.run["run_spec"]["configuration"]
        if configuration.get("type") == "dev-environment" or configuration.get("ports"):
            return f"`dstack attach {self._name}` gets back into it"
        return f"`dstack logs -f {self._name}` shows its log"

    def _wants_stop(self) -> bool:
        try:
            return confirm(f"Stop the run {self._name} before detaching?", hint="no answer: the run goes on")
        except KeyboardInterrupt:
            return False

    def _stop_and_wait(self) -> int:
        """Ctrl-C while it stops aborts it; one more leaves it alone."""
        for outcome, abort in (("Stopped", False), ("Aborted", True)):
            try:
                self._client.runs.stop([self._name], abort=abort)
                self._until_finished()
                self._talk(outcome)
                return INTERRUPTED
            except KeyboardInterrupt:
                self._talk("" if abort else "\nAborting")
        say("Detached")
        return INTERRUPTED
