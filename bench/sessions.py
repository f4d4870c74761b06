"""What it takes to be inside a task, beside a plain sshd of the same machine, measured by turns in the same run.

python bench/sessions.py [--docker-host URL] [--runs 9] [--megabytes 300] [--sessions 50]     root, and an engine
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from dstack.agent.bundle import build
from dstack.agent.processes import table
from support.sessions import TOOLS_IMAGE, SessionAgent, free_port, import_tools, until

MB = 1_000_000
Ways = dict[str, Path]  # name -> ssh configuration that leads to the host `run`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docker-host", default="unix:///var/run/docker.sock", metavar="URL")
    parser.add_argument("--runs", type=int, default=9, help="how often each short command is run (default 9)")
    parser.add_argument("--megabytes", type=int, default=300, help="how much is streamed (default 300)")
    parser.add_argument("--sessions", type=int, default=50, help="how many are open at once (default 50)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dstack-bench-") as name:
        folder = Path(name)
        import_tools(options.docker_host)
        agent = SessionAgent(folder, build(folder / "zipapp"), "docker", options.docker_host)
        plain = PlainSshd(folder, agent.owner.key)
        try:
            door = agent.door(agent.task(image=TOOLS_IMAGE))
            ways = {"plain sshd": plain.config, "session": door.config}
            short_commands(ways, options.runs)
            streams(ways, options.megabytes)
            copies(ways, folder)
            memory(ways, options.sessions)
        finally:
            plain.stop()
            agent.close()


class PlainSshd:
    """This machine's sshd as its package sets it up, but for the port and the keys."""

    def __init__(self, folder: Path, key: Path):
        port = free_port()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "plain"], check=True)
        (folder / "plain.conf").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/plain\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {key}.pub\nSubsystem sftp internal-sftp\nMaxSessions 200\nMaxStartups 200\n"
        )
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "plain.conf"], stderr=subprocess.DEVNULL
        )
        self.config = folder / "plain.config"
        self.config.write_text(
            f"Host run\nHostName 127.0.0.1\nPort {port}\nUser root\nIdentityFile {key}\nIdentitiesOnly yes\n"
            "BatchMode yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
        )
        until(lambda: ssh(self.config, "true").returncode == 0, "the plain sshd")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def ssh(config: Path, *arguments: str, **streams) -> subprocess.CompletedProcess[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
    return subprocess.run(["ssh", "-F", str(config), "run", *arguments], check=False, **streams)


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def by_turns(ways: Ways, runs: int, act: Callable[[Path], object]) -> dict[str, float]:
    """The median seconds of each way; whatever else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, config in ways.items():
            taken[name].append(seconds(lambda config=config: act(config)))
    return {name: statistics.median(values) for name, values in taken.items()}


def say(what: str, figures: dict[str, float], unit: str, goal: str) -> None:
    print(f"{what}: " + "  ".join(f"{name} {value:.3g} {unit}" for name, value in figures.items()) + f"  (goal {goal})")


def short_commands(ways: Ways, runs: int) -> None:
    say("ssh true, first", by_turns(ways, runs, lambda config: ssh(config, "true")), "s", "0.8 s")
    masters = []
    for config in ways.values():
        socket = config.with_suffix(".mux")
        masters.append(
            subprocess.Popen(
                ["ssh", "-F", config, "-M", "-N", "-o", f"ControlPath={socket}", "run"], stdin=subprocess.DEVNULL
            )
        )
        until(socket.exists, "the master")

    def multiplexed(config: Path) -> None:
        options = ["-o", f"ControlPath={config.with_suffix('.mux')}"]
        subprocess.run(["ssh", "-F", config, *options, "run", "true"], stdin=subprocess.DEVNULL, check=True)

    say("ssh true, multiplexed", by_turns(ways, runs, multiplexed), "s", "0.15 s")
    for master in masters:
        master.terminate()
        master.wait()


def streams(ways: Ways, megabytes: int) -> None:
    def up(config: Path) -> None:
        with subprocess.Popen(["head", "-c", str(megabytes * MB), "/dev/zero"], stdout=subprocess.PIPE) as source:
            ssh(config, "cat >/dev/null", stdin=source.stdout)

    def down(config: Path) -> None:
        ssh(config, f"head -c {megabytes * MB} /dev/zero")

    for what, act in (("stdin", up), ("stdout", down)):
        taken = by_turns(ways, 3, act)
        say(what, {name: megabytes / value for name, value in taken.items()}, "MB/s", "50 MB/s")


def copies(ways: Ways, folder: Path) -> None:
    (folder / "hundred").write_bytes(bytes(100 * MB))

    def up(config: Path) -> None:
        subprocess.run(["scp", "-q", "-F", config, folder / "hundred", "run:/tmp/bench-copy"], check=True)

    def down(config: Path) -> None:
        subprocess.run(["scp", "-q", "-F", config, "run:/tmp/bench-copy", folder / "back"], check=True)

    for what, act in (("scp of 100 MB there", up), ("scp of 100 MB back", down)):
        taken = by_turns(ways, 3, act)
        say(what, taken, "s", "1.5x: %.2fx" % (taken["session"] / taken["plain sshd"]))
    Path("/tmp/bench-copy").unlink()


def memory(ways: Ways, count: int) -> None:
    """What the processes of `count` idle shells take on the host, by the kernel's proportional figures."""
    for name, config in ways.items():
        before = set(table())
        command = ["ssh", "-F", config, "run", "echo in; cat"]
        clients = []
        for _ in range(count):
            client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert client.stdout is not None and client.stdout.readline() == b"in\n"
            clients.append(client)
        mine = {client.pid for client in clients}
        rows = [row for row in table().values() if row.pid not in before and row.pid not in mine]
        print(f"memory of {count} sessions, {name}: {sum(map(proportional, (row.pid for row in rows))) / MB:.0f} MB")
        for client in clients:
            client.kill()
            client.wait()


def proportional(pid: int) -> int:
    """Bytes; shared pages are divided among those that share them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended
    return 0


if __name__ == "__main__":
    main()
