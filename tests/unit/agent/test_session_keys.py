"""Lines that are public keys, and the file by which people pass through a machine."""

from __future__ import annotations

import base64

import pytest

from dstack.agent.keys import BadKey, accepted_fingerprint, parse, parse_all, usable
from dstack.agent.session_account import authorized_keys
from dstack.agent.session_guard import IN, METADATA, THROUGH, rules


def key(seed: int = 1, kind: str = "ssh-ed25519") -> str:
    name = kind.encode()
    blob = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + bytes([seed]) * 32
    return f"{kind} {base64.b64encode(blob).decode()}"


def test_a_comment_is_dropped_and_the_fingerprint_is_that_of_openssh():
    known = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEAaRjZtKxCm6SQ0N7+fKoCp2upYX6DUkpSoqTPZq0h9"
    found = parse(known + " me@laptop with words")
    assert found.line == known
    assert found.fingerprint == "SHA256:" + FINGERPRINT


FINGERPRINT = "ykB9u9GhIaXGHl6eoPuaHXp+bW7GVreA+lSUkc3J3qA"


@pytest.mark.parametrize(
    "line",
    [
        f'command="sh" {key()}',
        f"no-pty {key()}",
        f"cert-authority {key()}",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 !!!!",
        key(kind="ssh-ed25519-cert-v01@openssh.com"),
        "ssh-rsa " + key().split()[1],
        "hello",
    ],
)
def test_what_is_no_plain_key_is_refused(line: str):
    with pytest.raises(BadKey):
        parse(line)


def test_each_key_counts_once_and_empty_lines_and_comments_not_at_all():
    assert [k.line for k in parse_all([key(1), "", "# mine", key(1) + " again", key(2)])] == [key(1), key(2)]


def test_one_bad_key_does_not_keep_the_others_out():
    assert [k.line for k in usable(["nonsense", key(1)])] == [key(1)]


def test_whose_key_was_accepted_is_read_from_what_sshd_says():
    said = (
        "Connection from 127.0.0.1\nAccepted publickey for root from 127.0.0.1 port 4 ssh2: ED25519 SHA256:abc+/D\nx\n"
    )
    assert accepted_fingerprint(said) == "SHA256:abc+/D"
    assert accepted_fingerprint("Failed publickey for root from 127.0.0.1 port 4 ssh2: ED25519 SHA256:abc") is None


def test_a_key_of_several_tasks_is_one_line_with_all_their_ports():
    (line,) = authorized_keys([(2201, [key(1)]), (2200, [key(1)])]).splitlines()
    assert line.endswith(key(1))
    for part in ('permitopen="127.0.0.1:2200"', 'permitopen="localhost:2201"', "restrict,port-forwarding,", "command="):
        assert part in line


def test_nobody_passes_when_there_are_no_tasks():
    assert authorized_keys([]) == ""


def test_the_machine_refuses_all_but_answers_and_names():
    own, through = ([" ".join(rule) for where, rule in rules() if where == chain] for chain in (IN, THROUGH))
    let_in = [
        "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        "-p udp --dport 53 -j RETURN",
        "-p tcp --dport 53 -j RETURN",
    ]
    assert own == [*let_in, "-j REJECT"]
    assert through == [*let_in, *(f"-d {network} -j REJECT" for network in METADATA)]
    assert "169.254.0.0/16" in METADATA
