"""A person's ssh-agent inside the container: a socket in a folder that both sides see, relayed to the one of sshd."""

from __future__ import annotations

import os
import socket
import threading


class Relay:
    """Serves until `close`; `path_inside` is where the container finds the socket."""

    def __init__(self, place: dict, target: str):
        self._target = target
        name = "agent-%d" % os.getpid()
        self._path = os.path.join(place["sockets"], name)
        self.path_inside = place["sockets_inside"] + "/" + name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        here = os.getcwd()
        os.chdir(place["sockets"])  # an address holds about 100 bytes, folders may be deeper
        mask = os.umask(0o177)
        try:
            if os.path.lexists(name):
                os.unlink(name)
            self._socket.bind(name)
            os.chown(name, place["uid"], place["gid"])
        finally:
            os.umask(mask)
            os.chdir(here)
        self._socket.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            pass  # gone with the task
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._socket.accept()
                outer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                outer.connect(self._target)
            except OSError:
                return
            for source, sink in ((inner, outer), (outer, inner)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # either side is gone
