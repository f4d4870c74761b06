"""The keeper: two processes per container that take what the job prints into the task's log, whoever else dies.

Both hold the master of the terminal that the job's shell prints to: one works, the other only starts a new worker when
that one died, so neither death alone takes the job's terminal away. The worker also follows what the engine itself
recorded (what went to the container's own terminal; everything, where the job has no shell of ours). It takes orders,
one a line, from the FIFO `control`: `tail PATH`, `give` when an agent wants the terminal, too, and `end` when the
container has ended; each may come again. The agent has the other end of the FIFO `wake`: a byte says that something
changed, end of file that both are gone. A job that prints faster than the disk takes it waits, as on any terminal; one
that exceeds its quota is told by the file `over_quota`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Callable, NoReturn

from dstack.agent.docker_logs import JsonFileTail, LogSink
from dstack.agent.logfile import NO_SPACE
from dstack.agent.notices import Notices
from dstack.agent.terminal import open_named, read_batch

OVER_QUOTA = "over_quota"
INBOX = "terminal.sock"  # where an agent waits for the terminal
LOOK_S = 5.0  # at whether the task's folder is still there
LOOK_UNTOLD_S = 0.05  # at the engine's file where the kernel does not tell of changes
DRAIN_S = 10.0  # without a word: after the container's end nobody but strangers holds its terminal any more
OTHERS_BYTES = 1024**2  # what comes after so many is theirs: far less of the container's own is on the way
AGAIN_S, AGAIN_MOST_S = 0.05, 5.0  # between a worker's death and the next one's start
WORKED_S = 60.0  # one that lived so long did not die of what it found at its start
TROUBLE_BYTES = 64 * 1024  # of what they say as they die
KEPT_ALIVE = -900  # out of memory: the job goes first


def main(argv: list[str]) -> int:
    """`argv` is the task's folder, then inherited descriptors: `wake`, and master and slave of a terminal, if any."""
    os.chdir(argv[0])
    descriptors = [int(number) for number in argv[1:]]
    for fd in descriptors:
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _be_spared()
    quota = json.loads(sys.stdin.buffer.read().decode())["log_quota_bytes_per_hour"]
    wake, master, slave = (*descriptors, -1, -1)[:3]
    _work_until_done(lambda held: Keeper(quota, wake, master, held).run(), slave)
    return 0


class Keeper:
    def __init__(self, quota_bytes_per_hour: int, wake: int, master: int, slave: int):
        self._sink = LogSink(".", quota_bytes_per_hour)
        self._wake = wake
        # Opened for both directions: with the keeper itself as a writer there is never an end of file on it.
        self._control = os.open("control", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._master = master
        self._slave = slave  # held until the end: between two programs nobody else may hold it
        self._tail: JsonFileTail | None = None
        self._notices: Notices | None = None
        self._more = False  # of the engine's record, most likely
        self._orders = b""
        self._ending = False
        self._told_quota = False

    def run(self) -> None:
        self._poke()  # orders are taken from here on
        while not self._ending:
            if not self._turn() and not os.path.exists("control"):
                return  # the task was removed, or the whole agent
        self._drain()
        self._sink.finish()
        self._sink.close()

    def _turn(self) -> bool:
        """False when nothing happened for a while."""
        watched = [self._control]
        timeout_s = LOOK_S
        if self._master >= 0:
            watched.append(self._master)
        if self._notices is not None:
            watched.append(self._notices.fd)
        elif self._tail is not None:
            timeout_s = LOOK_UNTOLD_S
        ready, _, _ = select.select(watched, [], [], 0.0 if self._more else timeout_s)
        if self._master in ready:
            self._copy_terminal()
        if self._notices is not None and self._notices.fd in ready:
            self._notices.drain()
            self._more = True
        if self._more or self._notices is None:
            self._more = self._step()
        if self._control in ready:
            self._obey()
        return bool(ready) or self._more

    def _obey(self) -> None:
        *lines, self._orders = (self._orders + os.read(self._control, 65536)).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"end":
                self._ending = True
            elif word == b"give" and self._master >= 0:
                _give(self._master)
            elif word == b"tail" and self._tail is None:
                path = os.fsdecode(rest)
                self._notices = Notices.of_folder(os.path.dirname(path))  # before the first look: nothing is missed
                self._tail, self._more = JsonFileTail(path, self._sink), True

    def _copy_terminal(self) -> tuple[int, bool]:
        """(how many bytes; whether nobody can print to it any more)."""
        data, closed = read_batch(self._master)
        if data:
            self._sink.take(data, time.time())
            self._poke()
        return len(data), closed

    def _step(self) -> bool:
        """A piece of the engine's record; False when there was none."""
        if self._tail is None or not self._tail.step():
            return False
        self._poke()
        return True

    def _drain(self) -> None:
        """The container has ended: what it printed is on the way, and nothing follows."""
        if self._master >= 0:
            os.close(self._slave)
            left = OTHERS_BYTES
            while left > 0 and select.select([self._master], [], [], DRAIN_S)[0]:
                size, closed = self._copy_terminal()
                if closed:
                    break
                left -= size
        while self._step():
            pass

    def _poke(self) -> None:
        if self._sink.over_quota and not self._told_quota:
            self._tell_quota()
        try:
            os.write(self._wake, b".")
        except (BlockingIOError, BrokenPipeError):
            pass  # a full pipe wakes the agent just as well, and a dead agent looks for itself when it is back

    def _tell_quota(self) -> None:
        try:
            os.close(os.open(OVER_QUOTA, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._told_quota = True
        except OSError as e:
            if e.errno not in NO_SPACE:
                raise  # else told with the next piece


def _give(master: int) -> None:
    """To the agent that asked for it; one that does not listen any more gets nothing."""
    import array  # these are here for few
    import socket

    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outbox:
        outbox.setblocking(False)
        try:
            outbox.sendmsg([b"."], rights, 0, INBOX)
        except OSError:
            pass


def _work_until_done(work: Callable[[int], None], slave: int) -> None:
    """Do it in a child, and again in another when that died: it goes on from what is committed in the log's folder.

    Only the child holds `slave`: it is told of the end of the output when nobody else does.
    """
    terminal = os.ttyname(slave) if slave >= 0 else ""
    pause_s = AGAIN_S
    while True:
        began = time.monotonic()
        worker = os.fork()
        if not worker:
            _work(work, slave)
        if terminal:
            os.close(slave)
        _, status = os.waitpid(worker, 0)
        if not status:
            return
        pause_s = AGAIN_S if time.monotonic() - began > WORKED_S else min(pause_s * 2, AGAIN_MOST_S)
        time.sleep(pause_s)
        if terminal:
            slave = open_named(terminal)


def _work(work: Callable[[int], None], slave: int) -> NoReturn:
    try:
        work(slave)
        os._exit(0)
    except BaseException:
        if os.fstat(2).st_size < TROUBLE_BYTES:  # the next one will say the same
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(1)


def _be_spared() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write(str(KEPT_ALIVE))
    except OSError:
        pass  # no Linux, or not root: as any other process
