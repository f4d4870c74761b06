"""What a person reads when a host cannot be reached."""

from __future__ import annotations

import errno

import pytest

from dstack.cli.tunnel import last_line
from dstack.model.host import Hop
from dstack.server.auth.keys import new_key_pair
from dstack.server.routes.entering import MAX_REASON, short
from dstack.ssh.connection import in_words
from dstack.ssh.keys import private_key

HOP = Hop(hostname="10.0.0.5", user="ubuntu")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.0.5', 22)"), "No route to host"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (OSError("Multiple exceptions"), "Multiple exceptions"),
    ],
)
def test_a_host_that_cannot_be_reached_is_told_in_the_words_of_the_system(failure: OSError, said: str):
    key = private_key(new_key_pair("ours").private)
    error = in_words(failure, HOP, key, None, None, False)
    assert error.message == f"10.0.0.5:22 cannot be reached: {said}"


def test_a_reason_that_is_too_long_for_a_closing_is_cut_between_words():
    reason = "The server does not reach the run: " + "a long word after another, " * 6
    cut = short(reason)
    assert cut.endswith(" ...")
    assert len(cut.encode()) <= MAX_REASON
    assert reason.startswith(cut.removesuffix(" ...") + " ")
    assert short("as it is") == "as it is"


def test_the_word_error_is_not_said_within_an_error():
    said = "error: The server does not reach the run\nConnection closed by UNKNOWN port 65535\n"
    assert last_line(said) == "The server does not reach the run"
