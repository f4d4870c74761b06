"""The flags that commands about offers share (`apply`, `plan`, `offer`), and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dstack.cli.applying import Options
from dstack.cli.forwards import LOCALHOST
from dstack.cli.names import fleet_names
from dstack.cli.overrides import Overrides
from dstack.cli.repo_flags import repo_flags, repos_field
from dstack.cli.session import project_option
from dstack.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_FILE: tuple[Decorator, ...] = (
    click.option("-f", "--file", metavar="FILE", help="The configuration file, `-` for stdin [default: .dstack.yml]"),
    click.option("-n", "--name", metavar="NAME", help="Name of the run or fleet, instead of that in the file"),
    click.option(
        "-e",
        "--env",
        "env",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="An environment variable; the value is taken from yours without `=VALUE`",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Show all properties in the plan"),
)
_OFFERS: tuple[Decorator, ...] = (
    click.option("--full-offers", is_flag=True, help="Show whole machines, not the blocks that the run would take"),
    click.option("--unallocated", is_flag=True, help="Show all that is free of machines, not only what the run takes"),
)
_RESOURCES: tuple[Decorator, ...] = (
    click.option("--cpu", metavar="SPEC", help="Cores, for instance `4..8`"),
    click.option("--gpu", metavar="SPEC", help="GPUs, for instance `A100:2` or `24GB..`"),
    click.option("--memory", metavar="SIZE", help="Memory, for instance `32GB..`"),
    click.option("--disk", metavar="SIZE", help="Disk, for instance `200GB..`"),
)
_PROFILE: tuple[Decorator, ...] = (
    click.option("--profile", metavar="NAME", help="A profile of profiles.yml [env: DSTACK_PROFILE]"),
    click.option("--no-profile", is_flag=True, help="Use no profile, the default one neither [env: DSTACK_NO_PROFILE]"),
)
_WHERE: tuple[Decorator, ...] = (
    click.option(
        "-b",
        "--backend",
        "backends",
        multiple=True,
        metavar="NAME",
        help="Only this backend; may be given several times",
    ),
    click.option(
        "-r", "--region", "regions", multiple=True, metavar="NAME", help="Only this region; may be given several times"
    ),
    click.option(
        "--instance-type",
        "instance_types",
        multiple=True,
        metavar="NAME",
        help="Only this instance type; may be given several times",
    ),
    click.option(
        "--fleet",
        "fleets",
        multiple=True,
        metavar="NAME",
        help="Only this fleet; may be given several times",
        shell_complete=fleet_names,
    ),
    click.option("-R", "--reuse", is_flag=True, help="Use an instance that is there, create none"),
    click.option("--dont-destroy", is_flag=True, help="Keep an instance that is created for the run"),
    click.option("--max-price", type=float, metavar="DOLLARS", help="Per hour and instance"),
    click.option("--spot", "spot", flag_value="spot", help="Only spot instances"),
    click.option("--on-demand", "spot", flag_value="on-demand", help="Only on-demand instances"),
    click.option("--spot-auto", "spot", flag_value="auto", help="Spot and on-demand instances"),
    click.option(
        "--spot-policy",
        type=click.Choice(["spot", "on-demand", "auto"]),
        metavar="NAME",
        help="The same as one option: spot, on-demand or auto",
    ),
)
_WHEN: tuple[Decorator, ...] = (
    click.option("--max-duration", metavar="DURATION", help="How long the run may run, for instance `2h`, or `off`"),
    click.option("--idle-duration", metavar="DURATION", help="How long it is kept idle, for instance `1h`"),
    click.option("--retry", is_flag=True, help="Try again when there is no capacity, after interruptions and errors"),
    click.option("--no-retry", is_flag=True, help="Do not try again"),
    click.option("--retry-duration", metavar="DURATION", help="Try again for this long"),
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else")


def _max_offers(default: int) -> Decorator:
    return click.option(
        "--max-offers",
        type=click.IntRange(1, 10000),
        default=default,
        show_default=True,
        metavar="N",
        help="How many offers to show",
    )


CREDENTIAL_FLAGS: tuple[Decorator, ...] = (
    click.option("-t", "--token", metavar="TOKEN", help="A token that may read the repo over HTTPS"),
    click.option("--git-identity", metavar="FILE", help="A private key that may read the repo over SSH"),
)
_REPO: tuple[Decorator, ...] = (
    click.option("-P", "--repo", metavar="REPO", help="The Git repo, a directory or an address, instead of `repos`"),
    click.option("--repo-branch", metavar="NAME", help="This branch of it"),
    click.option("--repo-hash", metavar="COMMIT", help="This commit of it"),
    click.option("--no-repo", is_flag=True, help="Bring no repo along, whatever the file says"),
    *CREDENTIAL_FLAGS,
)
_SESSION: tuple[Decorator, ...] = (
    click.option(
        "-p",
        "--port",
        "ports",
        multiple=True,
        metavar="MAPPING",
        help="A local port for a port of the run, `8502:8501` or `*:8501`; may be given several times",
    ),
    click.option(
        "--host", metavar="ADDRESS", default=LOCALHOST, show_default=True, help="Where forwarded ports listen here"
    ),
    click.option("--ssh-identity", metavar="FILE", help="The key to log in with, instead of your own of dstack"),
)


def _with(*decorators: Decorator) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _sections(**decorators: tuple[Decorator, ...]) -> dict[str, str]:
    """For each option the heading under which it is listed; a keyword's `_` is a space in it."""
    found = {}
    for heading, group in decorators.items():
        bearer: Any = click.command(_with(*group)(lambda **_: None))
        found |= {option.name: heading.replace("_", " ") for option in bearer.params}
    return found


SECTIONS = _sections(
    Resources=_RESOURCES,
    Where_and_at_what_price=_WHERE,
    When_and_for_how_long=_WHEN,
    Code=_REPO,
    Ports_and_SSH=_SESSION,
    Profiles=_PROFILE,
)
apply_flags = _with(
    *_FILE,
    _JSON,
    _max_offers(3),
    *_OFFERS,
    *_RESOURCES,
    *_PROFILE,
    *_WHERE,
    *_WHEN,
    *_REPO,
    *_SESSION,
    project_option,
    click.argument("run_args", nargs=-1, type=click.UNPROCESSED),
)
offer_flags = _with(_JSON, _max_offers(50), *_OFFERS, *_RESOURCES, *_PROFILE, *_WHERE, *_WHEN, project_option)


def options_of(values: dict[str, Any], **more: Any) -> Options:
    """The flags of one command line, checked against each other."""
    _exclude(values, "reuse", "dont_destroy", "idle_duration")
    _exclude(values, "retry", "no_retry", "retry_duration")
    _exclude(values, "profile", "no_profile")
    if values["spot"] and values["spot_policy"] and values["spot"] != values["spot_policy"]:
        raise UsageError("--spot-policy contradicts --spot, --on-demand or --spot-auto")
    fields = {key: values.get(key) for key in ("name", "max_price", "max_duration", "idle_duration")}
    fields |= {key: list(values[key]) or None for key in ("backends", "regions", "instance_types", "fleets")}
    fields["spot_policy"] = values["spot_policy"] or values["spot"]
    fields["creation_policy"] = "reuse" if values["reuse"] else None
    if values["dont_destroy"]:
        fields["idle_duration"] = "off"
    fields["retry"] = _retry(values)
    fields["repos"] = repos_field(values)
    resources = {key: values[key] for key in ("cpu", "gpu", "memory", "disk") if values[key]}
    ports = tuple(values.get("ports", ()))
    overrides = Overrides(fields, resources, tuple(values.get("env", ())), tuple(values.get("run_args", ())), ports)
    names = ("file", "verbose", "max_offers", "full_offers", "unallocated", "profile", "no_profile")
    names += ("host", "ssh_identity")
    shared = {key: values[key] for key in names if key in values}
    return Options(json=values["as_json"], overrides=overrides, repo=repo_flags(values), **shared, **more)


def _retry(values: dict[str, Any]) -> Any:
    if values["retry_duration"]:
        return {"duration": values["retry_duration"]}
    return True if values["retry"] else False if values["no_retry"] else None


def _exclude(values: dict[str, Any], *names: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if values[name]]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
