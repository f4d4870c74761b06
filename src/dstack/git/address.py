"""Addresses of Git repositories: reading them, and the HTTPS and SSH forms of the same one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from dstack.errors import DstackError

PROTOCOLS = ("https", "http", "ssh", "git")
_SCP = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>(?!/?/)[^\s:]\S*)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([\w.-]*)|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", re.ASCII)


class BadAddress(DstackError):
    """Text that is no address of a repository that others can reach."""


@dataclass(frozen=True)
class Address:
    """`path` without slash in front. Credentials that were part of the text are apart, and never part of `url`."""

    scheme: str
    host: str
    path: str
    user: str = ""
    port: int | None = None
    password: str = ""  # of an HTTP address

    @property
    def url(self) -> str:
        """As git takes it, without credentials."""
        user = f"{self.user}@" if self.scheme == "ssh" and self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{host}{port}/{quote(self.path, safe='/~@+=,!$&()*;:')}"

    @property
    def name(self) -> str:
        """The last part of the path: `repo` of `https://host/org/repo.git`."""
        last = self.path.rstrip("/").removesuffix(".git").rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9._-]", "-", last)[:60] or "repo"

    @property
    def id(self) -> str:
        """The same for all forms of the address of one repository."""
        port = self.port if self.scheme != "ssh" else None
        same = f"{self.host.lower()}{f':{port}' if port else ''}/{self.path.rstrip('/').removesuffix('.git')}"
        return f"{self.name}-{hashlib.sha256(same.encode()).hexdigest()[:8]}"

    @property
    def over_http(self) -> Address | None:
        """The address for a token or for everybody; None when nothing is known of it."""
        if self.scheme in ("https", "http"):
            return Address(self.scheme, self.host, self.path, port=self.port)
        # A port of its own says that this is no usual host: what answers HTTPS there is unknown.
        return None if self.port else Address("https", self.host, self.path)

    @property
    def over_ssh(self) -> Address | None:
        """The address for a private key."""
        if self.scheme == "ssh":
            return self
        return None if self.port else Address("ssh", self.host, self.path, user="git")


def parse_address(text: str) -> Address:
    """`https://`, `http://`, `ssh://`, `git://` or `user@host:path`. Raises BadAddress; its message holds no secret."""
    text = text.strip()
    if "://" not in text:
        match = _SCP.fullmatch(text)
        if match is None or len(match["host"]) < 2:  # one letter is a drive of Windows
            raise BadAddress("not an address of a Git repository", hint=f"expected one of {', '.join(PROTOCOLS)}")
        return _checked(Address("ssh", match["host"], match["path"], match["user"] or "git"))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadAddress("not an address of a Git repository") from None
    scheme = parts.scheme.lower()
    if scheme not in PROTOCOLS:
        raise BadAddress(f"{scheme}:// is not supported", hint=f"expected one of {', '.join(PROTOCOLS)}")
    if parts.query or parts.fragment:
        raise BadAddress("an address of a Git repository has no `?` and no `#`")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme == "ssh":
        user, password = user or "git", ""
    return _checked(Address(scheme, parts.hostname or "", unquote(parts.path).lstrip("/"), user, port, password))


def _checked(address: Address) -> Address:
    """What begins with a dash would be an option of git or ssh."""
    plain = all(c.isprintable() and c != " " for c in address.path + address.user + address.password)
    if not plain or not _HOST.fullmatch(address.host) or not address.path or address.user.startswith("-"):
        raise BadAddress("not an address of a Git repository")
    return address
