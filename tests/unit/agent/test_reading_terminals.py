"""What a job prints is read in batches, and none of them keeps its reader from everything else."""

from __future__ import annotations

import socket

from dstack.agent.terminal import BATCH_S, NAP_S, read_batch


def test_a_batch_of_a_job_that_prints_a_little_again_and_again_ends():
    # As a terminal does, it gives at each reading what was written at once.
    job, terminal = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    most = int(BATCH_S / NAP_S) + 1  # a nap after each
    with job, terminal:
        job.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024**2)
        terminal.setblocking(False)
        job.send(b"x" * 3000)
        for _ in range(most + 20):
            job.send(b".", socket.MSG_DONTWAIT)
        first, _ = read_batch(terminal.fileno())
        rest = b""
        while piece := read_batch(terminal.fileno())[0]:
            rest += piece
    assert len(first) <= 3000 + most
    assert first + rest == b"x" * 3000 + b"." * (most + 20)
