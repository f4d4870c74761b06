"""`dstack schema`: the JSON schema of configuration files, for editors."""

from __future__ import annotations

import click

from dstack.cli.command import Command
from dstack.cli.terminal import put_json
from dstack.errors import UsageError


@click.command(cls=Command, epilog="Example: dstack schema task > task.schema.json")
@click.argument("type_", metavar="[TYPE]", required=False)
def schema(type_: str | None) -> None:
    """Print the JSON schema of one type, or of a file of any type.

    TYPE is dev-environment, task, service, fleet, volume or gateway, or one of the other files: profiles, server.
    """
    from dstack.model.configurations.schema import TYPES, json_schema, nearest_type

    if type_ is not None and type_ not in TYPES:
        hint = nearest_type(type_) or f"expected one of: {', '.join(TYPES)}"
        raise UsageError(f"{type_} is not a type of configuration", hint=hint)
    put_json(json_schema(type_))
