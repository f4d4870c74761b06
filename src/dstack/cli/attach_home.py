"""What attaching keeps on this machine: keys, the generated SSH configuration, and where they go if they must not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from dstack.errors import DstackError
from dstack.ssh.config import SshConfig, included, make_private, replace

Json = dict[str, Any]

KEYGEN_S = 20.0


class AttachHome:
    """`notes` tell what could not be written; `arguments` are what `ssh` needs beside the name of the run."""

    def __init__(self, home: Path | None = None):
        self.home = home or Path.home()
        self.notes: list[str] = []
        self._temporary: Path | None = None
        self.config = SshConfig(self._folder())
        self.arguments = self._arguments()

    def identity(self, me: Json, token: str, given: str | None) -> Path:
        """The file of the key to log in with. Raises DstackError."""
        if given is not None:
            path = Path(given).expanduser()
            if not path.is_file():
                raise DstackError(f"--ssh-identity {given}: there is no such file")
            return path.absolute()
        private, public = me.get("ssh_private_key"), me.get("ssh_public_key")
        if not private or not public:
            raise DstackError("The server has no SSH key of yours", hint="--ssh-identity names a key of your own")
        path = self.config.folder / hashlib.sha1(token.encode(), usedforsecurity=False).hexdigest()[:8]
        _keep(path, private.strip() + "\n")
        _keep(path.with_suffix(".pub"), public.strip() + "\n")
        return path

    def close(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _folder(self) -> Path:
        folder = self.home / ".dstack" / "ssh"
        try:
            make_private(folder)
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".try-")
            os.close(descriptor)
            os.unlink(name)
            return folder
        except OSError as e:
            self._temporary = Path(tempfile.mkdtemp(prefix="dstack-ssh-"))
            self.notes.append(f"{folder} cannot be written ({e.strerror}): what SSH needs is in {self._temporary}")
            return self._temporary

    def _arguments(self) -> list[str]:
        """With the person's own configuration where it includes ours, so that it counts for login nodes, too."""
        own = self.home / ".ssh" / "config"
        if self._temporary is None:
            try:
                included(own, self.config.path)
                return [] if own == Path("~/.ssh/config").expanduser() == _where_ssh_looks() else ["-F", str(own)]
            except OSError as e:
                self.notes.append(f"{own} cannot be changed ({e.strerror}), so plain `ssh RUN` does not work")
        return ["-F", str(self.config.path)]


def public_key_of(identity: str) -> str:
    """The public half of a private key: the file beside it, or what ssh-keygen makes of it. Raises DstackError."""
    path = Path(identity).expanduser()
    beside = path.with_name(f"{path.name}.pub")
    if beside.is_file():
        return beside.read_text(errors="replace").strip()
    if not path.is_file():
        raise DstackError(f"--ssh-identity {identity}: there is no such file")
    command = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=KEYGEN_S)
    except (OSError, subprocess.TimeoutExpired):
        raise DstackError(f"--ssh-identity {identity}: ssh-keygen cannot be run") from None
    if done.returncode:
        raise DstackError(
            f"--ssh-identity {identity}: not a private key, or one with a passphrase",
            hint=f"`ssh-keygen -y -f {identity} > {identity}.pub` writes its public half beside it",
        )
    return done.stdout.strip()


def _keep(path: Path, text: str) -> None:
    """Readable by the person alone; written only when it is another one. Raises DstackError."""
    try:
        if path.exists() and path.read_text() == text and path.stat().st_mode & 0o077 == 0:
            return
        replace(path, text.encode())
    except (OSError, UnicodeDecodeError) as e:
        raise DstackError(f"{path} cannot be written: {getattr(e, 'strerror', e)}") from None


def _where_ssh_looks() -> Path:
    """OpenSSH goes by the account's home and not by HOME."""
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh" / "config"
    except KeyError:
        return Path("~/.ssh/config").expanduser()
