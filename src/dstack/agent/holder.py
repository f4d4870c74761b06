"""The holder: a process per task that owns the job's terminal, so that the job outlives the agent.

It reads how to start the job from its standard input, writes `log` and `log.idx`, enforces the log quota and the
memory limit, takes stop orders from the FIFO `control`, and leaves `holder.json` (who runs) and `exit.json` (how it
ended). The agent holds the other end of the FIFO `wake`: a byte says that something changed, end of file that the
holder is gone. The module has few imports: the time to the first line of a log is mostly the time of its start.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import select
import signal
import sys
import termios
import time

from dstack.agent import processes
from dstack.agent.logfile import NO_SPACE, LogWriter, Quota
from dstack.agent.terminal import open_terminal, read_batch

MEMORY_CHECK_S = 0.5
KILL_PATIENCE_S = 10.0
EXIT_ROOM = 2048  # bytes taken on disk before the job starts, so that its start and end can be told on a full disk
PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """`argv` is the task's folder and the number of the inherited descriptor of `wake`."""
    os.chdir(argv[0])
    wake = int(argv[1])
    os.set_inheritable(wake, False)
    os.set_blocking(wake, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    launch = json.loads(sys.stdin.buffer.read().decode())
    Holder(launch, wake).run()
    return 0


class Holder:
    def __init__(self, launch: dict, wake: int):
        self.launch = launch
        self.wake = wake
        self.log = LogWriter(".")
        self.quota = Quota(launch["log_quota_bytes_per_hour"])
        self.memory_limit = launch["memory_limit_bytes"]
        # Opened for both directions: with the holder itself as a writer there is never an end of file on it.
        self.control = os.open("control", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.job = 0
        self.exit_status: int | None = None
        self.reason = ""
        self.message = ""
        self.kill_at: float | None = None  # monotonic
        self.next_memory_check = 0.0

    def run(self) -> None:
        _reserve("exit.new")
        _reserve("holder.json")
        self._record({"pid": os.getpid(), "job_pid": 0})  # from here on the job may have started
        become_subreaper()
        self.master, self.slave = open_terminal()
        problem = self._start()
        if problem:
            self._finish(None, "start_failed", problem)
            return
        me = processes.find(os.getpid())
        job = processes.find(self.job)
        self._record(
            {
                "pid": os.getpid(),
                "start": me.start if me else "",
                "job_pid": self.job,
                "job_start": job.start if job else "",
                "boot_id": processes.boot_id(),
                "started_at": self.started_at,
            }
        )
        self._poke()
        while self.exit_status is None:
            self._turn()
        self._end()

    def _start(self) -> str:
        """Fork and exec the job; the reason in words when that fails."""
        self.children, child_signal = os.pipe()
        for fd in (self.children, child_signal):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(child_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        trouble, report = os.pipe()
        self.started_at = time.time()
        self.job = os.fork()
        if self.job == 0:
            run_job(self.launch, self.slave, report)
        os.close(report)
        with os.fdopen(trouble, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def _turn(self) -> None:
        now = time.monotonic()
        timeout = None
        if self.kill_at is not None:
            timeout = max(0.0, self.kill_at - now)
        if self.memory_limit:
            timeout = min(MEMORY_CHECK_S, timeout if timeout is not None else MEMORY_CHECK_S)
        ready, _, _ = select.select([self.master, self.control, self.children], [], [], timeout)
        if self.master in ready:
            self._copy_output()
        if self.control in ready:
            self._obey()
        if self.children in ready:
            os.read(self.children, 4096)
            self._reap()
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.kill_at = time.monotonic() + 1.0  # again, should something have been forked meanwhile
            kill_descendants()
        if self.memory_limit and self.exit_status is None:
            self._check_memory()

    def _copy_output(self) -> bool:
        """Move what the job printed into the log; True when the terminal is closed for good."""
        data, closed = read_batch(self.master)
        if data and self.reason != "log_quota":
            self._write(data)
        return closed

    def _write(self, data: bytes) -> None:
        now = time.time()
        allowed = self.quota.take(len(data), now)
        self.log.write(data[:allowed], now)
        self._poke()
        if allowed < len(data):
            self._kill("log_quota", self.quota.message)

    def _check_memory(self) -> None:
        now = time.monotonic()
        if now < self.next_memory_check:
            return
        self.next_memory_check = now + MEMORY_CHECK_S
        rows = processes.descendants(processes.table(), os.getpid())
        used = processes.memory_bytes(rows, suspicious_above=self.memory_limit)
        if used > self.memory_limit:
            self._kill("oom", "The job used %d bytes of memory, its limit is %d bytes" % (used, self.memory_limit))

    def _kill(self, reason: str, message: str) -> None:
        if not self.reason:
            self.reason = reason
            self.message = message
        self.kill_at = time.monotonic()

    def _obey(self) -> None:
        """Orders are lines `SIGNAL GRACE_S`; a later one may only shorten the grace."""
        for line in os.read(self.control, 4096).decode("ascii", "replace").splitlines():
            try:
                number, grace_s = int(line.split()[0]), float(line.split()[1])
            except (ValueError, IndexError):
                continue
            deadline = time.monotonic() + grace_s
            self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)
            if grace_s > 0 and number:
                try:
                    os.killpg(self.job, number)
                except OSError:
                    pass  # it has just ended

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.job:
                self.exit_status = status

    def _end(self) -> None:
        """The job's own process ended: end what it left behind, as a container would, then drain the terminal."""
        os.close(self.slave)
        deadline = time.monotonic() + KILL_PATIENCE_S
        while kill_descendants() and time.monotonic() < deadline:
            self._copy_output()
            self._reap()
            time.sleep(0.005)
        while not self._copy_output() and time.monotonic() < deadline:
            select.select([self.master], [], [], 0.1)
        status = self.exit_status or 0
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self._finish(code, self.reason, self.message)

    def _finish(self, code: int | None, reason: str, message: str) -> None:
        self.log.finish(time.time())
        record = {
            "exit_code": code,
            "reason": reason,
            "message": message[:1000],
            "finished_at": time.time(),
            "log_size": self.log.size,
            "log_lost": self.log.lost,
            "cpu_us": int(sum(os.times()[:4]) * 1_000_000),
        }
        data = json.dumps(record).encode().ljust(EXIT_ROOM)
        while not _replace("exit.new", "exit.json", data):
            time.sleep(1.0)  # the disk is full or broken: the end of the job must not be lost

    def _record(self, record: dict) -> None:
        """In its place, as there may be no room for another file: one that ends here would leave the job to nobody."""
        fd = os.open("holder.json", os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, json.dumps(record).encode().ljust(EXIT_ROOM), 0)
        os.close(fd)

    def _poke(self) -> None:
        try:
            os.write(self.wake, b".")
        except (BlockingIOError, BrokenPipeError):
            pass  # a full pipe wakes the agent just as well, and a dead agent looks for itself when it is back


def run_job(launch: dict, terminal: int, report: int) -> None:
    """In the child: become the job. Never returns; what failed goes to `report`."""
    what = "cannot start the job"
    try:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        # Nobody types: a program that asks a question gets end of file at once instead of waiting for ever.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        if "open_files" in launch:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (launch["open_files"], most))
        if launch["cpus"]:
            os.sched_setaffinity(0, launch["cpus"])
        what = "cannot enter the working directory %s" % launch["cwd"]
        os.chdir(launch["cwd"])
        what = "cannot run %s" % launch["argv"][0]
        os.execvpe(launch["argv"][0], launch["argv"], launch["env"])
    except BaseException as e:
        text = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        os.write(report, ("%s: %s" % (what, text)).encode("utf-8", "replace"))
    finally:
        os._exit(127)


def become_subreaper() -> None:
    """Make orphans of the job children of the holder: a daemon that detached itself is found and ended with the job."""
    if not processes.LINUX:
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass  # a Python without ctypes: detached daemons then outlive the job


def kill_descendants() -> bool:
    """SIGKILL everything below this process; True when there was something alive."""
    alive = [row for row in processes.descendants(processes.table(), os.getpid()) if not row.zombie]
    for row in alive:
        try:
            os.kill(row.pid, signal.SIGKILL)
        except OSError:
            pass  # gone already
    return bool(alive)


def _reserve(name: str) -> None:
    with open(name, "wb") as f:
        f.write(b" " * EXIT_ROOM)


def _replace(source: str, target: str, data: bytes) -> bool:
    try:
        fd = os.open(source, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(source, target)
        return True
    except OSError as e:
        if e.errno in NO_SPACE or e.errno == errno.EIO:
            return False
        raise
