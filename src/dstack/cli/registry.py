"""The names of all commands, where each lives and what it is for; no command is imported here."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """`target` is `module:attribute` below `dstack.cli.commands`."""

    name: str
    target: str
    summary: str


COMMANDS = (
    Entry("server", "server:server", "Start a server on this machine"),
    Entry("init", "init:init", "Register how your runs fetch a private Git repo"),
    Entry("project", "project:project", "Servers and projects that this machine knows"),
    Entry("apply", "apply:apply", "Run a task or dev environment, create a fleet: what the file says"),
    Entry("plan", "plan:plan", "Show what apply would do, and do nothing"),
    Entry("offer", "offer:offer", "List what backends offer, with prices"),
    Entry("ps", "ps:ps", "List runs"),
    Entry("attach", "attach:attach", "Get into a run: `ssh RUN`, its ports, its log"),
    Entry("logs", "logs:logs", "Show the logs of a run"),
    Entry("metrics", "metrics:metrics", "Show how much of its machine a run uses"),
    Entry("stop", "stop:stop", "Stop a run"),
    Entry("delete", "delete:delete", "Delete a finished run, or a fleet"),
    Entry("run", "run:run", "Details of a run"),
    Entry("fleet", "fleet:fleet", "Fleets and their instances"),
    Entry("volume", "volume:volume", "Volumes of the project"),
    Entry("gateway", "gateway:gateway", "Gateways of the project"),
    Entry("event", "event:event", "What happened, and who did it"),
    Entry("secret", "secret:secret", "Values that runs may use and nobody sees"),
    Entry("schema", "schema:schema", "The JSON schema of configuration files, for editors"),
    Entry("why", "why:why", "Why a run or a fleet is where it is"),
    Entry("login", "login:login", "Sign in through the single sign-on of a server"),
    Entry("export", "sharing:export", "What the project shares with others"),
    Entry("import", "sharing:import_", "What others share with the project"),
    Entry("completion", "completion:completion", "A script that makes a shell complete commands and names"),
)
HIDDEN = (Entry("ssh-stdio", "ssh_stdio:ssh_stdio", "A run's sshd on stdin and stdout, through the server"),)
ALIASES = {"destroy": "delete"}
# Commands of older releases and the words that people try first.
FORMER = {
    "pool": "pools are fleets now: `dstack fleet` lists them, `dstack apply -f fleet.dstack.yml` makes one",
    "config": "`dstack project add` replaces it",
    "status": "`dstack ps` lists runs",
    "list": "`dstack ps` lists runs, `dstack fleet` lists fleets",
    "up": "`dstack apply -f FILE` submits a run",
    "submit": "`dstack apply -f FILE` submits a run",
}
EXAMPLE = """\
  dstack server                       start a server, once
  dstack apply -f fleet.dstack.yml    say where runs may go, once
  dstack apply -f task.dstack.yml     run a task, see its logs
  dstack ps                           what runs now"""


def root_help() -> str:
    """What `dstack --help` prints. Here and not in click, whose import takes longer than all else together."""
    width = max(len(entry.name) for entry in COMMANDS) + 2
    rows = "\n".join(f"  {entry.name:<{width}}{entry.summary}" for entry in COMMANDS)
    return (
        "Usage: dstack [-h] [-v] COMMAND ...\n\n"
        "Provision machines and run containers on them.\n\n"
        f"Commands:\n{rows}\n\n"
        "Options:\n  -v, --version  Show the version\n  -h, --help     Show this text\n\n"
        f"Example:\n{EXAMPLE}\n\n"
        "`dstack COMMAND --help` tells more about each."
    )


def find(name: str) -> Entry | None:
    """The command of that name or alias."""
    name = ALIASES.get(name, name)
    return next((entry for entry in (*COMMANDS, *HIDDEN) if entry.name == name), None)
