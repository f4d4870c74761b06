"""Packet filter rules that keep containers of tasks from the machine itself and from the cloud's metadata.

Tasks have networks of their own, whose bridges are named `dst-...`; that is what the rules go by.
"""

from __future__ import annotations

import logging
import subprocess
from typing import List, Sequence, Tuple

from dstack.agent.session_sshd import find_program

log = logging.getLogger("dstack.agent")

BRIDGES = "dst-+"
IN, THROUGH = "DSTACK-IN", "DSTACK-THROUGH"
HOOKS = (("INPUT", IN), ("DOCKER-USER", THROUGH))
TOOL_S = 20.0
# Where clouds answer with credentials. Some serve names at the same addresses: port 53 stays open.
METADATA = ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32")

Rule = Sequence[str]


def rules() -> List[Tuple[str, Rule]]:
    """(chain, rule) in their order."""
    known = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN")
    found: List[Tuple[str, Rule]] = []
    for chain in (IN, THROUGH):
        found.append((chain, known))
        found += [(chain, ("-p", kind, "--dport", "53", "-j", "RETURN")) for kind in ("udp", "tcp")]
    found.append((IN, ("-j", "REJECT")))
    found += [(THROUGH, ("-d", network, "-j", "REJECT")) for network in METADATA]
    return found


class Guard:
    def __init__(self) -> None:
        self._said = ""

    def ensure(self) -> None:
        """Have the rules in place, whoever removed them meanwhile. What is wrong is logged, once."""
        program = find_program("iptables")
        problem = "iptables is not on this machine" if program is None else _ensure(program)
        if problem and problem != self._said:
            log.error("containers are not kept from this machine and from metadata: %s", problem)
        self._said = problem

    def remove(self) -> None:
        """Take the rules away. Idempotent."""
        program = find_program("iptables")
        if program is None:
            return
        for hook, chain in HOOKS:
            while not _call(program, "-D", hook, "-i", BRIDGES, "-j", chain):
                pass  # as often as it is there
            for order in ("-F", "-X"):
                _call(program, order, chain)


def _ensure(program: str) -> str:
    for hook, chain in HOOKS:
        wanted = [rule for where, rule in rules() if where == chain]
        _call(program, "-N", chain)
        if any(_call(program, "-C", chain, *rule) for rule in wanted):
            _call(program, "-F", chain)
            for rule in wanted:
                problem = _call(program, "-A", chain, *rule)
                if problem:
                    return problem
        if _call(program, "-C", hook, "-i", BRIDGES, "-j", chain):
            problem = _call(program, "-I", hook, "1", "-i", BRIDGES, "-j", chain)
            if problem:
                return problem
    return ""


def _call(program: str, *arguments: str) -> str:
    """What went wrong, "" for nothing."""
    try:
        done = subprocess.run(
            [program, "-w", "5", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TOOL_S,
        )
    except (OSError, subprocess.SubprocessError) as e:
        return str(e)
    if done.returncode == 0:
        return ""
    return done.stdout.decode("utf-8", "replace").strip() or "iptables failed with %d" % done.returncode
