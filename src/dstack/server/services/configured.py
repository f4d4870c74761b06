"""The settings together with what the server's own file says."""

from __future__ import annotations

import base64
from dataclasses import replace

from dstack.model.configurations.server_config import AESKey, ServerConfig
from dstack.server.auth.cipher import KEY_FILE
from dstack.server.settings import Settings


def with_file(settings: Settings, config: ServerConfig) -> Settings:
    """The settings with what the server's file says of encryption and permissions; its keys come after the others."""
    given = config.encryption.keys if config.encryption else ()
    keys = tuple(base64.b64decode(key.secret) if isinstance(key, AESKey) else KEY_FILE for key in given)
    rules, said = settings.rules, config.default_permissions
    if said is not None:
        rules = replace(
            rules,
            non_admins_create_projects=said.allow_non_admins_create_projects,
            non_admins_manage_ssh_fleets=said.allow_non_admins_manage_ssh_fleets,
            managers_manage_secrets=said.allow_managers_manage_secrets,
        )
    return replace(settings, rules=rules, encryption_keys=(*settings.encryption_keys, *keys))
