"""The agent's command line, and its assembly from parts."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from typing import List, Optional

import dstack
from dstack.agent import daemon
from dstack.agent.gpus import Gpus
from dstack.agent.health import HEALTH_EVERY_S, watch_health
from dstack.agent.host import HostFactsReader
from dstack.agent.http import HttpServer
from dstack.agent.leases import Leases
from dstack.agent.nodes import NodeDoors
from dstack.agent.routes import Routes
from dstack.agent.runtimes import Runtimes
from dstack.agent.session import Sessions
from dstack.agent.session_account import JumpAccount, NoAccount
from dstack.agent.session_guard import Guard
from dstack.agent.session_log import PORT as LOG_PORT
from dstack.agent.session_program import unpack
from dstack.agent.store import Store
from dstack.agent.tasks import Tasks, cancel
from dstack.agentapi.wire import AUTO, DOCKER, PROCESS, to_json

log = logging.getLogger("dstack.agent")


def main(argv: List[str]) -> int:
    options = _parse(argv)
    if options.command == "version":
        sys.stdout.write(dstack.__version__ + "\n")
        return 0
    if options.command == "leave":
        return _leave(options)
    if options.command == "facts":
        return asyncio.run(_facts(options, os.path.abspath(options.state)))
    state = os.path.abspath(options.state)
    readiness = daemon.Readiness()
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        if options.daemon:
            readiness = daemon.detach()
        return _serve(options, state, readiness)
    except (daemon.AlreadyServed, OSError) as e:
        readiness.failed("dstack-agent: %s" % e)
        sys.stderr.write("dstack-agent: %s\n" % e)
        return 1


def _parse(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dstack-agent", description="Runs dstack's tasks on this machine.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    serve = commands.add_parser("serve", help="serve the agent's protocol on a Unix socket")
    serve.add_argument("--state", required=True, metavar="DIR", help="folder for tasks, logs and blobs")
    serve.add_argument("--socket", metavar="PATH", help="where to listen (default: DIR/agent.sock)")
    serve.add_argument("--socket-owner", type=int, metavar="UID", help="who may open the socket, beside root")
    serve.add_argument("--runtime", choices=(AUTO, DOCKER, PROCESS), default=AUTO, help="what `auto` tasks run on")
    serve.add_argument("--docker-host", default="", metavar="URL", help="unix:///path or tcp://host:port")
    serve.add_argument("--daemon", action="store_true", help="go to the background when ready; log to DIR/agent.log")
    serve.add_argument("--health-every", type=float, default=HEALTH_EVERY_S, metavar="SECONDS", help=argparse.SUPPRESS)
    serve.add_argument("--guard", action="store_true", help="keep containers from this machine and metadata (root)")
    serve.add_argument("--jump-account", default="", metavar="NAME", help="account that leads people to tasks (root)")
    serve.add_argument("--jump-home", default="", metavar="DIR", help="its folder (default: /home/NAME)")
    serve.add_argument("--log-port", type=int, default=LOG_PORT, metavar="PORT", help=argparse.SUPPRESS)
    leave = commands.add_parser("leave", help="take off this machine what `--guard` and `--jump-account` made")
    leave.add_argument("--jump-account", default="", metavar="NAME")
    leave.add_argument("--jump-home", default="", metavar="DIR")
    facts = commands.add_parser("facts", help="print what this machine has, as JSON")
    facts.add_argument("--state", required=True, metavar="DIR", help="folder whose disk counts")
    facts.add_argument("--runtime", choices=(AUTO, DOCKER, PROCESS), default=AUTO)
    facts.add_argument("--docker-host", default="", metavar="URL")
    commands.add_parser("version", help="print the version")
    return parser.parse_args(argv)


async def _facts(options: argparse.Namespace, state: str) -> int:
    store = Store(state)
    gpus = Gpus()
    facts = await HostFactsReader(store, Runtimes(options.runtime, options.docker_host, state, gpus), gpus).read()
    sys.stdout.write(json.dumps(to_json(facts)) + "\n")
    return 0


def _jump_account(options: argparse.Namespace) -> Optional[JumpAccount]:
    if not options.jump_account:
        return None
    return JumpAccount(options.jump_account, options.jump_home or "/home/" + options.jump_account)


def _made_account(options: argparse.Namespace) -> Optional[JumpAccount]:
    """None also where it cannot be made: tasks run all the same."""
    account = _jump_account(options)
    if account is not None:
        try:
            account.make()
        except NoAccount as e:
            log.error("the account %s is not there, so nobody reaches tasks through it: %s", account.name, e)
            return None
    return account


def _leave(options: argparse.Namespace) -> int:
    Guard().remove()
    account = _jump_account(options)
    try:
        if account is not None:
            account.remove()
    except (NoAccount, OSError) as e:
        sys.stderr.write("dstack-agent: %s\n" % e)
        return 1
    return 0


def _serve(options: argparse.Namespace, state: str, readiness: daemon.Readiness) -> int:
    lock = daemon.lock(state)
    daemon.allow_open_files()
    _set_up_log(os.path.join(state, "agent.log") if options.daemon else None)
    daemon.write_pid(state)
    store = Store(state)
    sock = daemon.bind(options.socket or os.path.join(state, "agent.sock"), options.socket_owner)
    os.chdir("/")  # hold no file system busy
    try:
        asyncio.run(_run(options, store, sock, readiness))
    finally:
        os.close(lock)
    return 0


def _set_up_log(path: Optional[str]) -> None:
    handler = daemon.BoundedLog(path) if path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    log.setLevel(logging.INFO)


async def _run(options: argparse.Namespace, store: Store, sock, readiness: daemon.Readiness) -> None:
    gpus = Gpus()
    runtimes = Runtimes(options.runtime, options.docker_host, store.root, gpus)
    tasks = Tasks(store, runtimes.choose, run=os.urandom(8).hex(), leases=Leases(gpus.facts))
    facts = HostFactsReader(store, runtimes, gpus)
    guard = Guard() if options.guard else None
    program = unpack(store.root)
    sessions = Sessions(tasks, runtimes.docker_client, program, _made_account(options), guard, options.log_port)
    server = HttpServer(Routes(tasks, store, facts.read, sessions.apply_keys, sessions.tell, sessions.tell_stop))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store.drop_old_blobs()
    tasks.adopt()
    await server.start(sock)
    log.info("agent %s serves %s, pid %d", dstack.__version__, store.root, os.getpid())
    readiness.ready()
    cleaning = asyncio.ensure_future(runtimes.remove_orphans(tasks))
    watching = asyncio.ensure_future(watch_health(gpus, tasks.tell_health, options.health_every))
    entering = asyncio.ensure_future(sessions.run())
    joining = asyncio.ensure_future(NodeDoors(tasks, runtimes.docker_client, program).run())
    await stop.wait()
    log.info("agent stops; its tasks go on")
    await cancel(cleaning, watching, entering, joining)
    await server.close()
    await tasks.close()
