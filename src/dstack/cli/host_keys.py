"""The keys of an SSH fleet's hosts, read on the person's machine and put beside the names of their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dstack.errors import ConfigurationError, DstackError
from dstack.model.configurations.fleet import FleetConfiguration, SSHKey

At = Callable[..., str]  # `FILE:LINE:COL: ` of a path in the configuration
Path_ = tuple[str | int, ...]


def with_keys(configuration: FleetConfiguration, folder: Path, at: At) -> FleetConfiguration:
    """The configuration with `ssh_key` wherever `identity_file` stands. Relative files are looked for in `folder`.

    Raises ConfigurationError with a line `FILE:LINE:COL: FIELD: ...` for each key that cannot be used.
    """
    ssh = configuration.ssh_config
    if ssh is None:
        return configuration
    reader = _Reader(folder, at)
    common = reader.proxied(ssh, ("ssh_config",))
    hosts = tuple(reader.proxied(host, ("ssh_config", "hosts", index)) for index, host in enumerate(ssh.hosts))
    if reader.problems:
        raise ConfigurationError("\n".join(reader.problems), hint=reader.hint)
    return configuration.model_copy(update={"ssh_config": common.model_copy(update={"hosts": hosts})})


class _Reader:
    """Reads each file once, and collects what is wrong."""

    def __init__(self, folder: Path, at: At):
        self._folder = folder
        self._at = at
        self._keys: dict[str, SSHKey | str] = {}
        self.problems: list[str] = []
        self.hint: str | None = None

    def proxied(self, params: Any, path: Path_) -> Any:
        """The parameters of a fleet or host with their key, and that of their login node."""
        params = self._keyed(params, path)
        if params.proxy_jump is None:
            return params
        proxy = self._keyed(params.proxy_jump, (*path, "proxy_jump"))
        return params.model_copy(update={"proxy_jump": proxy})

    def _keyed(self, params: Any, path: Path_) -> Any:
        if params.identity_file is None or params.ssh_key is not None:
            return params
        file = params.identity_file
        if file not in self._keys:
            self._keys[file] = self._read(file)
        key = self._keys[file]
        if isinstance(key, SSHKey):
            return params.model_copy(update={"ssh_key": key})
        where = (*path, "identity_file")
        self.problems.append(f"{self._at(*where)}{_field(where)}: {key}")
        return params

    def _read(self, file: str) -> SSHKey | str:
        """The key, or what is wrong with it."""
        from dstack.ssh.keys import private_key, public_line  # a quarter of a second that only these fleets cost

        try:
            text = (self._folder / Path(file).expanduser()).read_text()
            key = private_key(text)
        except OSError as e:
            return f"Unable to read the SSH key at {file}: {e.strerror}"
        except UnicodeDecodeError:
            return f"Unable to read the SSH key at {file}: it is not text"
        except RuntimeError as e:  # no such user in `~user`
            return f"Unable to read the SSH key at {file}: {e}"
        except DstackError as e:
            self.hint = e.hint or self.hint
            return f"Unable to use the SSH key at {file}: {e.message}"
        return SSHKey(public=public_line(key), private=text)


def _field(path: Path_) -> str:
    """`ssh_config.hosts[0].identity_file`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
