"""Private keys of SSH fleets on their way in: sealed while a plan is looked at, taken out before a spec is kept."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable

from dstack.errors import DstackError
from dstack.model.configurations.fleet import SSHHostParams, SSHKey, SSHParams, SSHProxyParams
from dstack.model.fleet import FleetSpec
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.identity import Access
from dstack.ssh.host import Credentials

# Clients send the specification of a plan back when they apply it. The answer of the plan must not hold private keys,
# so it holds them sealed: of use to this server alone, for this person and project.
_SEALED = "sealed:"


def sealed(spec: FleetSpec, cipher: Cipher, access: Access) -> FleetSpec:
    """The spec as the answer of a plan may show it."""

    def seal(key: str) -> str:
        if key.startswith(_SEALED):
            return key
        text = json.dumps([access.user.id, access.project.id, key])
        return _SEALED + base64.b64encode(cipher.encrypt(text.encode())).decode()

    return _with_private(spec, seal)


def opened(spec: FleetSpec, cipher: Cipher, access: Access) -> FleetSpec:
    """The spec with its private keys in clear. Raises DstackError when they were sealed for others."""

    def unseal(key: str) -> str:
        if not key.startswith(_SEALED):
            return key
        try:
            user, project, text = json.loads(cipher.decrypt(base64.b64decode(key[len(_SEALED) :], validate=True)))
        except (DstackError, ValueError, binascii.Error):
            raise DstackError("The keys of this plan cannot be opened; make the plan again") from None
        if (user, project) != (access.user.id, access.project.id):
            raise DstackError("The keys of this plan were sent by somebody else, or for another project")
        return text

    return _with_private(spec, unseal)


def public_only(spec: FleetSpec) -> FleetSpec:
    """The spec as it is kept and shown."""
    return _with_private(spec, lambda key: None)


def credentials(spec: FleetSpec) -> dict[str, Credentials | None]:
    """By RemoteHost.key; None where the private key of the host, or of its login node, was not sent."""
    ssh = spec.configuration.ssh_config
    if ssh is None:
        return {}
    return {remote.key: _of_host(ssh, host) for remote, host in zip(spec.hosts, ssh.hosts, strict=True)}


def check(found: Credentials) -> None:
    """Raises DstackError when a key cannot be used: protected by a passphrase, public, or no key at all."""
    from dstack.ssh.keys import private_key  # a quarter of a second that only those wait who bring hosts

    private_key(found.private_key)
    if found.proxy_private_key is not None:
        private_key(found.proxy_private_key)


def _of_host(ssh: SSHParams, host: SSHHostParams) -> Credentials | None:
    own = _private(host.ssh_key) if host.ssh_key is not None or host.identity_file else _private(ssh.ssh_key)
    proxy = host.proxy_jump or ssh.proxy_jump
    through = None if proxy is None else _private(proxy.ssh_key)
    if own is None or (proxy is not None and through is None):
        return None
    return Credentials(own, through)


def _private(key: SSHKey | None) -> str | None:
    return None if key is None else key.private


def _with_private(spec: FleetSpec, change: Callable[[str], str | None]) -> FleetSpec:
    ssh = spec.configuration.ssh_config
    if ssh is None:
        return spec

    def key(one: SSHKey | None) -> SSHKey | None:
        if one is None or one.private is None:
            return one
        return one.model_copy(update={"private": change(one.private)})

    def proxy(one: SSHProxyParams | None) -> SSHProxyParams | None:
        return None if one is None else one.model_copy(update=_set("ssh_key", one.ssh_key, key))

    def host(one: SSHHostParams) -> SSHHostParams:
        fields = _set("ssh_key", one.ssh_key, key) | _set("proxy_jump", one.proxy_jump, proxy)
        return one.model_copy(update=fields)

    fields = _set("ssh_key", ssh.ssh_key, key) | _set("proxy_jump", ssh.proxy_jump, proxy)
    changed = ssh.model_copy(update={**fields, "hosts": tuple(host(one) for one in ssh.hosts)})
    configuration = spec.configuration.model_copy(update={"ssh_config": changed})
    return spec.model_copy(update={"configuration": configuration})


def _set(name: str, value, change: Callable) -> dict:
    """Only what is there, so that fields which nobody wrote stay unset."""
    return {} if value is None else {name: change(value)}
