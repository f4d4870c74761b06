"""Addresses of Git repositories, and what git's errors mean."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dstack.git.access import Access, environment
from dstack.git.address import BadAddress, parse_address
from dstack.git.failures import explain


@pytest.mark.parametrize(
    ("text", "url", "over_http", "over_ssh"),
    [
        ("https://h.org/o/r.git", "https://h.org/o/r.git", "https://h.org/o/r.git", "ssh://git@h.org/o/r.git"),
        ("https://me:tok@h.org/o/r", "https://h.org/o/r", "https://h.org/o/r", "ssh://git@h.org/o/r"),
        ("git@h.org:o/r.git", "ssh://git@h.org/o/r.git", "https://h.org/o/r.git", "ssh://git@h.org/o/r.git"),
        ("ssh://h.org:2222/r", "ssh://git@h.org:2222/r", None, "ssh://git@h.org:2222/r"),
        ("http://[::1]:80/r", "http://[::1]:80/r", "http://[::1]:80/r", None),
        ("git://h.org/r", "git://h.org/r", "https://h.org/r", "ssh://git@h.org/r"),
    ],
)
def test_an_address_is_read_with_its_other_forms(text: str, url: str, over_http: str | None, over_ssh: str | None):
    address = parse_address(text)
    assert (address.url, address.over_http and address.over_http.url) == (url, over_http)
    assert (address.over_ssh and address.over_ssh.url) == over_ssh


def test_all_forms_of_an_address_have_one_id():
    forms = ("https://H.org/o/lab.git", "git@h.org:o/lab", "ssh://git@h.org/o/lab.git", "https://t@h.org/o/lab/")
    ids = {parse_address(form).id for form in forms}
    assert len(ids) == 1 and ids.pop().startswith("lab-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv/lab.git",
        "file:///etc",
        "ext::sh -c id",
        "ssh://-oProxyCommand=id/r",
        "https://h.org",
        "C:/lab",
        "a b",
        "https://h.org/r?x=1",
        "ssh://-u@h.org/r",
        "https://h.org:port/r",
    ],
)
def test_what_is_no_address_of_others_is_refused(text: str):
    with pytest.raises(BadAddress):
        parse_address(text)


def test_secrets_are_in_files_of_their_owner_that_are_gone_afterwards():
    with environment(Access("https://h.org/r", token="tok-canary")) as env:
        ask = Path(env["GIT_ASKPASS"])
        files = [path for path in ask.parent.iterdir() if path.is_file()]
        holding = [path for path in files if "tok-canary" in path.read_text()]
        assert len(holding) == 1 and stat.S_IMODE(holding[0].stat().st_mode) == 0o600
        assert stat.S_IMODE(os.stat(ask.parent).st_mode) == 0o700
        assert not any("tok-canary" in value for value in env.values())
    assert not ask.parent.exists()


@pytest.mark.parametrize(
    ("said", "message", "denied"),
    [
        ("fatal: Authentication failed for 'https://t:x@h.org/r/'", "access to https://h.org/r was denied", True),
        ("git@h.org: Permission denied (publickey).\nfatal: Could not read from", "access to https://h.org/r", True),
        ("fatal: unable to access: Could not resolve host: h.org", "h.org cannot be reached: there is no such", False),
        ("fatal: repository 'https://h.org/r/' not found", "does not exist, or is private", True),
        ("fatal: protocol error: bad line length", "https://h.org/r: protocol error: bad line length", False),
    ],
)
def test_an_error_of_git_says_what_a_person_can_do(said: str, message: str, denied: bool):
    failed = explain(said, "https://t:x@h.org/r")
    assert message in failed.message and "t:x" not in failed.message
    assert failed.denied is denied
