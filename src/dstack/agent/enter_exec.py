"""A session in a container: a command by the engine's `exec`, its streams, its terminal, its end."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
import tty

from dstack.agent import enter_hangup, processes
from dstack.agent.enter_command import FAILED, CannotEnter, command_line, passed_variables
from dstack.agent.enter_engine import EngineSays, hijack, request
from dstack.agent.enter_streams import Frames, Outgoing

PIECE = 256 * 1024
MAX_BUFFERED = 512 * 1024
LOOK_S = 1.0  # after it began, what a session's streams are is remembered
PID_S = 5.0
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


def run(place: dict, command: str | None) -> int:
    """Returns the command's exit code."""
    session = ExecSession(place, command)
    code = session.run()
    session.close()
    return code


class ExecSession:
    def __init__(self, place: dict, command: str | None):
        self._place = place
        self._engine = place["engine"]
        self._command = command
        self._tty = os.isatty(0)
        self._mode: list | None = None
        self._relay = None
        self._hung_up = False
        self._resized = False
        self._streams: set[str] = set()
        self._looked = False
        self._input_open = True
        self._to_person = {fd: Outgoing(fd) for fd in (1, 2)}
        self._frames = Frames(self._to_person[1], self._to_person[2])

    def run(self) -> int:
        self._exec = self._create()
        start = {"Detach": False, "Tty": self._tty}
        if self._tty:
            self._watch_terminal()
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, self._on_hangup)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._socket, early = hijack(self._engine, "/exec/%s/start" % self._exec, start)
        if self._tty:
            self._resize(tries=20)
        for fd in (0, 1, 2):
            os.set_blocking(fd, False)
        self._socket.setblocking(False)
        self._to_command = Outgoing(self._socket.fileno())
        self._take(early)
        if self._pump():
            return self._exit_code()
        self._end_it()
        return FAILED

    def close(self) -> None:
        for fd in (0, 1, 2):
            try:
                os.set_blocking(fd, True)
            except OSError:
                pass  # closed by the other side
        if self._mode is not None:
            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self._mode)
            except termios.error:
                pass  # the terminal is gone
        if self._relay is not None:
            self._relay.close()

    # Beginning.

    def _create(self) -> str:
        place = self._place
        env = {**place["env"], **passed_variables()}
        if "SSH_AUTH_SOCK" in os.environ and place["sockets"]:
            from dstack.agent.enter_keyagent import Relay

            self._relay = Relay(place, os.environ["SSH_AUTH_SOCK"])
            env["SSH_AUTH_SOCK"] = self._relay.path_inside
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": self._tty,
            "Cmd": command_line(place["shell"], self._command),
            "Env": ["%s=%s" % item for item in env.items()],
            "User": place["user"],
            "WorkingDir": place["cwd"],
        }
        try:
            return request(self._engine, "POST", "/containers/%s/exec" % place["container"], body)["Id"]
        except EngineSays as e:
            if e.status in (404, 409):
                raise CannotEnter("the job does not run any more") from None
            raise

    def _watch_terminal(self) -> None:
        self._mode = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
        signal.signal(signal.SIGWINCH, self._on_resize)

    def _on_resize(self, *_) -> None:
        self._resized = True

    def _on_hangup(self, *_) -> None:
        self._hung_up = True

    def _resize(self, tries: int = 1) -> None:
        try:
            rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))
        except OSError:
            return
        if not rows or not columns:
            return
        for left in range(tries, 0, -1):
            try:
                request(self._engine, "POST", "/exec/%s/resize?h=%d&w=%d" % (self._exec, rows, columns))
                return
            except CannotEnter:
                if left > 1:
                    time.sleep(0.01)  # it has not quite begun

    # Between.

    def _pump(self) -> bool:
        """Carry the streams; True when the command's came to their end, False when the person has gone."""
        look_at = time.monotonic() + LOOK_S
        poll = select.poll()
        output_open = True
        while output_open or self._unwritten:
            timeout = None if self._looked else max(0.0, look_at - time.monotonic()) * 1000
            ready = self._wait(poll, output_open, timeout)
            if not self._looked and time.monotonic() >= look_at:
                self._look(0.0)
            if self._wake in ready:
                _drain(self._wake)
            if self._resized:
                self._resized = False
                self._resize()
            if self._hung_up or (ready.get(1, 0) & GONE) or not self._write(ready):
                return False
            if self._input_open and ready.get(0) and not self._read_input():
                return False
            number = self._socket.fileno()
            if ready.get(number, 0) & select.POLLOUT and self._to_command.size:
                self._send()
            if ready.get(number, 0) & (select.POLLIN | GONE) and output_open:
                output_open = self._receive()
        return True

    def _wait(self, poll, output_open: bool, timeout) -> dict[int, int]:
        wanted = {self._wake: select.POLLIN, 0: 0, 1: 0, 2: 0, self._socket.fileno(): 0}
        if self._input_open and self._to_command.size < MAX_BUFFERED:
            wanted[0] = select.POLLIN
        for fd, outgoing in self._to_person.items():
            if outgoing.size:
                wanted[fd] = select.POLLOUT
        if output_open and self._unwritten < MAX_BUFFERED:
            wanted[self._socket.fileno()] |= select.POLLIN
        if self._to_command.size:
            wanted[self._socket.fileno()] |= select.POLLOUT
        if not output_open:
            del wanted[self._socket.fileno()]
        if not self._input_open and not self._tty:
            del wanted[0]  # its end would be told again and again
        for fd in (0, 1, 2, self._wake, self._socket.fileno()):
            if fd in wanted:
                poll.register(fd, wanted[fd])
            else:
                try:
                    poll.unregister(fd)
                except KeyError:
                    pass  # it was not there
        return dict(poll.poll(timeout))

    def _read_input(self) -> bool:
        """False when the terminal is gone."""
        try:
            data = os.read(0, PIECE)
        except BlockingIOError:
            return True
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            return False
        if data:
            self._to_command.put(data)
            self._send()
            return True
        if self._tty:
            return False
        self._input_open = False
        self._half_close()
        return True

    @property
    def _unwritten(self) -> int:
        return self._to_person[1].size + self._to_person[2].size

    def _send(self) -> None:
        try:
            self._to_command.flush()
        except OSError:
            self._to_command.drop()  # the command does not read any more
        self._half_close()

    def _half_close(self) -> None:
        if not self._input_open and not self._to_command.size:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has ended meanwhile

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        """A terminal has no frames."""
        if self._tty:
            self._to_person[1].put(data)
        else:
            self._frames.take(data)

    def _write(self, ready: dict[int, int]) -> bool:
        """False when nobody takes the output any more."""
        try:
            for fd, outgoing in self._to_person.items():
                if outgoing.size and ready.get(fd, 0):
                    outgoing.flush()
        except OSError:
            return False
        return True

    # The end.

    def _exit_code(self) -> int:
        """Wait for the command itself: it may have closed its streams before."""
        pause = 0.002
        poll = select.poll()
        poll.register(1, 0)
        while True:
            facts = request(self._engine, "GET", "/exec/%s/json" % self._exec)
            if not facts.get("Running"):
                return int(facts.get("ExitCode") or 0) & 255
            if self._hung_up or poll.poll(pause * 1000):
                self._end_it()
                return FAILED
            pause = min(pause * 2, 0.25)

    def _look(self, patience_s: float) -> int:
        """Remember the command's streams; its number on this machine, 0 when there is none."""
        deadline = time.monotonic() + patience_s
        while True:
            self._looked = True
            facts = request(self._engine, "GET", "/exec/%s/json" % self._exec)
            pid = int(facts.get("Pid") or 0)
            if pid and self._place["pid"]:
                self._streams |= enter_hangup.streams_of(pid)
            if pid or not facts.get("Running", True) or time.monotonic() >= deadline:
                return pid
            time.sleep(0.02)

    def _end_it(self) -> None:
        """The engine leaves a command running whose connection is gone: end what sshd would have ended."""
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            pid = self._look(PID_S)
        except CannotEnter:
            pid = 0
        if not self._place["pid"]:
            from dstack.agent.enter_inside import end_inside

            end_inside(self._place, pid, self._tty)
            return
        space = enter_hangup.space_of(self._place["pid"])
        if not space or space == enter_hangup.space_of(os.getpid()):
            return  # the container has ended
        if self._tty:
            row = processes.find(pid) if pid else None
            if row is not None and enter_hangup.space_of(pid) == space:
                enter_hangup.end_terminal(row.session, space)
        else:
            enter_hangup.end_holders(self._streams, space)


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass  # nothing there
