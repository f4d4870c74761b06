"""What people may do whose role alone does not say it: the settings' rules, applied to a person."""

from __future__ import annotations

from dstack.server.auth.identity import Access, User
from dstack.server.settings import Rules


def quota(rules: Rules, user: User) -> int | None:
    """How many projects the user may own; None: any number."""
    if user.is_admin:
        return None
    if not rules.non_admins_create_projects:
        return 0
    return rules.projects_per_user if user.projects_quota is None else user.projects_quota


def creates_projects(rules: Rules, user: User) -> bool:
    return quota(rules, user) != 0


def manages_secrets(rules: Rules, access: Access) -> bool:
    return access.administers or (access.role == "manager" and rules.managers_manage_secrets)


def manages_ssh_fleets(rules: Rules, access: Access) -> bool:
    return access.administers or (access.role is not None and rules.non_admins_manage_ssh_fleets)
