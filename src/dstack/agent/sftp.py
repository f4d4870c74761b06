"""An SFTP server, version 3, with the extensions that OpenSSH's clients use. It serves what this process may see."""

from __future__ import annotations

import errno
import os
import stat
import struct

from dstack.agent.sftp_packets import (
    ATTRS,
    BAD_MESSAGE,
    CLOSE,
    DATA,
    EOF,
    EXTENDED,
    EXTENDED_REPLY,
    F_APPEND,
    F_CREATE,
    F_EXCLUSIVE,
    F_READ,
    F_TRUNCATE,
    F_WRITE,
    FSETSTAT,
    FSTAT,
    HANDLE,
    INIT,
    LSTAT,
    MKDIR,
    NAME,
    OK,
    OP_UNSUPPORTED,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    READLINK,
    REALPATH,
    REMOVE,
    RENAME,
    RMDIR,
    SETSTAT,
    STAT,
    SYMLINK,
    VERSION,
    WRITE,
    BadMessage,
    Reader,
    attributes,
    failure,
    listing,
    packet,
    status,
    string,
)

MAX_PACKET = 256 * 1024 + 1024
MAX_PIECE = 255 * 1024
MAX_HANDLES = 1000
ENTRIES_AT_ONCE = 100
INPUT_BYTES = 1024 * 1024
EXTENSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
}


class Folder:
    def __init__(self, path: bytes):
        self.path = path
        self.names = [b".", b"..", *sorted(os.listdir(path))]


class Server:
    def __init__(self, source: int, sink: int, home: str):
        self._source = source
        self._sink = sink
        self._home = os.fsencode(home)
        self._handles: dict[bytes, int | Folder] = {}
        self._next = 0
        self._answers: list[bytes] = []
        self._table = {
            OPEN: self._open, CLOSE: self._close, READ: self._read, WRITE: self._write, LSTAT: self._lstat,
            FSTAT: self._fstat, SETSTAT: self._setstat, FSETSTAT: self._fsetstat, OPENDIR: self._opendir,
            READDIR: self._readdir, REMOVE: self._remove, MKDIR: self._mkdir, RMDIR: self._rmdir,
            REALPATH: self._realpath, STAT: self._stat, RENAME: self._rename, READLINK: self._readlink,
            SYMLINK: self._symlink, EXTENDED: self._extended,
        }  # fmt: skip
        self._extensions = {
            b"posix-rename@openssh.com": self._posix_rename, b"hardlink@openssh.com": self._hardlink,
            b"fsync@openssh.com": self._fsync, b"statvfs@openssh.com": self._statvfs,
            b"fstatvfs@openssh.com": self._fstatvfs, b"lsetstat@openssh.com": self._lsetstat,
            b"limits@openssh.com": self._limits, b"expand-path@openssh.com": self._expand_path,
        }  # fmt: skip

    def run(self) -> None:
        """Serve until the other side is gone, or speaks no SFTP."""
        pending = b""
        while True:
            try:
                data = os.read(self._source, INPUT_BYTES)
                if not data:
                    return
                pending = self._serve(pending + data if pending else data)
                self._flush()
            except (BadMessage, BrokenPipeError, ConnectionResetError):
                return

    def _serve(self, data: bytes) -> bytes:
        """Answer all whole packets; the rest. Raises BadMessage."""
        view, at = memoryview(data), 0
        while len(data) - at >= 5:
            size = int.from_bytes(view[at : at + 4], "big")
            if not 1 <= size <= MAX_PACKET:
                raise BadMessage
            end = at + 4 + size
            if end > len(data):
                break
            self._answer(view[at + 4], Reader(view[at + 5 : end]))
            at = end
            if sum(map(len, self._answers)) > INPUT_BYTES:
                self._flush()
        return data[at:]

    def _flush(self) -> None:
        view = memoryview(b"".join(self._answers))
        self._answers.clear()
        while view:
            view = view[os.write(self._sink, view) :]

    def _answer(self, kind: int, fields: Reader) -> None:
        number = fields.u32()
        if kind == INIT:
            pairs = b"".join(string(name) + string(version) for name, version in EXTENSIONS.items())
            self._answers.append(struct.pack(">IBI", 5 + len(pairs), VERSION, 3) + pairs)
            return
        handler = self._table.get(kind)
        try:
            answer = handler(number, fields) if handler else status(number, OP_UNSUPPORTED, "Operation unsupported")
        except OSError as e:
            answer = failure(number, e)
        except (BadMessage, ValueError, OverflowError):
            answer = status(number, BAD_MESSAGE, "Bad message")
        self._answers.append(answer or status(number, OK))

    # Files.

    def _open(self, number: int, f: Reader) -> bytes:
        path, wanted, attrs = f.string(), f.u32(), f.attributes()
        flags = {F_READ: os.O_RDONLY, F_WRITE: os.O_WRONLY, F_READ | F_WRITE: os.O_RDWR}.get(wanted & 3, os.O_RDONLY)
        for ours, theirs in ((F_CREATE, os.O_CREAT), (F_TRUNCATE, os.O_TRUNC), (F_EXCLUSIVE, os.O_EXCL)):
            flags |= theirs if wanted & ours else 0
        if wanted & F_APPEND:
            flags |= os.O_APPEND
        # The rules about devices that hold in the container do not hold for this process: it opens plain files only.
        _refuse_special(path)
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, attrs.get("mode", 0o666))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
            os.close(fd)
            raise OSError(
                errno.EISDIR if is_folder else errno.EACCES, "Is a directory" if is_folder else "No plain file"
            )
        return self._keep(number, fd)

    def _close(self, number: int, f: Reader) -> None:
        handle = self._handles.pop(f.string(), None)
        if handle is None:
            raise OSError(errno.EBADF, "No such handle")
        if isinstance(handle, int):
            os.close(handle)

    def _read(self, number: int, f: Reader) -> bytes:
        fd, offset, size = self._file(f), f.u64(), f.u32()
        data = os.pread(fd, min(size, MAX_PIECE), offset)
        return packet(DATA, number, struct.pack(">I", len(data)), data) if data else status(number, EOF, "End of file")

    def _write(self, number: int, f: Reader) -> None:
        fd, offset, data = self._file(f), f.u64(), f.view()
        while data:
            written = os.pwrite(fd, data, offset)
            data, offset = data[written:], offset + written

    def _fsync(self, number: int, f: Reader) -> None:
        os.fsync(self._file(f))

    def _fstat(self, number: int, f: Reader) -> bytes:
        return packet(ATTRS, number, attributes(os.fstat(self._file(f))))

    def _fsetstat(self, number: int, f: Reader) -> None:
        _set(self._file(f), f.attributes())

    # Paths.

    def _stat(self, number: int, f: Reader) -> bytes:
        return packet(ATTRS, number, attributes(os.stat(f.string())))

    def _lstat(self, number: int, f: Reader) -> bytes:
        return packet(ATTRS, number, attributes(os.lstat(f.string())))

    def _setstat(self, number: int, f: Reader) -> None:
        path = f.string()
        attrs = f.attributes()
        if "size" in attrs:
            _refuse_special(path)
        _set(path, attrs)

    def _lsetstat(self, number: int, f: Reader) -> None:
        path, attrs = f.string(), f.attributes()
        if "owner" in attrs:
            os.chown(path, *attrs["owner"], follow_symlinks=False)
        if "times" in attrs:
            os.utime(path, attrs["times"], follow_symlinks=False)
        if "mode" in attrs and not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, attrs["mode"])

    def _remove(self, number: int, f: Reader) -> None:
        os.unlink(f.string())

    def _mkdir(self, number: int, f: Reader) -> None:
        path = f.string()
        os.mkdir(path, f.attributes().get("mode", 0o777))

    def _rmdir(self, number: int, f: Reader) -> None:
        os.rmdir(f.string())

    def _realpath(self, number: int, f: Reader) -> bytes:
        return _name(number, os.path.realpath(f.string() or b"."))

    def _expand_path(self, number: int, f: Reader) -> bytes:
        path = f.string()
        if path == b"~" or path.startswith(b"~/"):
            path = self._home + path[1:]
        return _name(number, os.path.realpath(path))

    def _readlink(self, number: int, f: Reader) -> bytes:
        return _name(number, os.readlink(f.string()))

    def _symlink(self, number: int, f: Reader) -> None:
        target, link = f.string(), f.string()  # in OpenSSH's order, which is not that of the draft
        os.symlink(target, link)

    def _hardlink(self, number: int, f: Reader) -> None:
        os.link(f.string(), f.string(), follow_symlinks=False)

    def _rename(self, number: int, f: Reader) -> None:
        """Never over something that is there: that is what `posix-rename` is for."""
        old, new = f.string(), f.string()
        if os.path.lexists(new):
            raise OSError(errno.EEXIST, "File exists")
        os.rename(old, new)

    def _posix_rename(self, number: int, f: Reader) -> None:
        os.rename(f.string(), f.string())

    # Folders.

    def _opendir(self, number: int, f: Reader) -> bytes:
        return self._keep(number, Folder(f.string()))

    def _readdir(self, number: int, f: Reader) -> bytes:
        folder = self._handles.get(f.string())
        if not isinstance(folder, Folder):
            raise OSError(errno.EBADF, "No such handle")
        found = []
        while folder.names and len(found) < ENTRIES_AT_ONCE:
            name = folder.names.pop(0)
            try:
                s = os.lstat(os.path.join(folder.path, name))
            except OSError:
                continue  # removed meanwhile
            found.append(string(name) + string(listing(name, s)) + attributes(s))
        if not found:
            return status(number, EOF, "End of file")
        return packet(NAME, number, struct.pack(">I", len(found)), *found)

    # Extensions.

    def _extended(self, number: int, f: Reader) -> bytes | None:
        handler = self._extensions.get(f.string())
        return handler(number, f) if handler else status(number, OP_UNSUPPORTED, "Operation unsupported")

    def _statvfs(self, number: int, f: Reader) -> bytes:
        return _space(number, os.statvfs(f.string()))

    def _fstatvfs(self, number: int, f: Reader) -> bytes:
        return _space(number, os.fstatvfs(self._file(f)))

    def _limits(self, number: int, f: Reader) -> bytes:
        return packet(EXTENDED_REPLY, number, struct.pack(">QQQQ", MAX_PACKET, MAX_PIECE, MAX_PIECE, MAX_HANDLES))

    # Handles.

    def _keep(self, number: int, handle: int | Folder) -> bytes:
        if len(self._handles) >= MAX_HANDLES:
            if isinstance(handle, int):
                os.close(handle)
            raise OSError(errno.EMFILE, "Too many open files")
        self._next += 1
        name = b"%d" % self._next
        self._handles[name] = handle
        return packet(HANDLE, number, string(name))

    def _file(self, f: Reader) -> int:
        handle = self._handles.get(f.string())
        if not isinstance(handle, int):
            raise OSError(errno.EBADF, "No such handle")
        return handle


def _refuse_special(path: bytes) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # the opening says what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EACCES, "No plain file")


def _set(target, attrs: dict) -> None:
    """Attributes of a path or a descriptor, in the order that lets the later ones succeed."""
    if "size" in attrs:
        os.truncate(target, attrs["size"])
    if "mode" in attrs:
        os.chmod(target, attrs["mode"])
    if "times" in attrs:
        os.utime(target, attrs["times"])
    if "owner" in attrs:
        os.chown(target, *attrs["owner"])


def _name(number: int, path: bytes) -> bytes:
    return packet(NAME, number, struct.pack(">I", 1), string(path), string(path), struct.pack(">I", 0))


def _space(number: int, s: os.statvfs_result) -> bytes:
    flags = (1 if s.f_flag & os.ST_RDONLY else 0) | (2 if s.f_flag & os.ST_NOSUID else 0)
    values = (s.f_bsize, s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_favail)
    return packet(EXTENDED_REPLY, number, struct.pack(">11Q", *values, getattr(s, "f_fsid", 0), flags, s.f_namemax))
