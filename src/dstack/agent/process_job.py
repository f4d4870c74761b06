"""What a job of the process runtime is started with: command, environment, folder, processors."""

from __future__ import annotations

import os
import pwd
import signal
from typing import Dict, List, Optional

from dstack.agent.machine import Task, TaskFailed
from dstack.agentapi.wire import CREATE_FAILED, START_FAILED, TaskSpec

# What a job gets of the agent's own environment: where things are and how to talk to the person and to the network.
# fmt: off
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy",
    "https_proxy", "no_proxy", "all_proxy",
)
# fmt: on
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def signal_number(name: str) -> int:
    """The number of `SIGINT` or `INT`; an unknown name counts as SIGINT."""
    return int(getattr(signal, name if name.startswith("SIG") else "SIG" + name, signal.SIGINT))


def command(spec: TaskSpec) -> List[str]:
    """The argument vector of the job. Raises TaskFailed when there is nothing to run."""
    if spec.script is not None:
        return [spec.shell or "/bin/sh", "-c", spec.script]
    argv = [*(spec.entrypoint or []), *spec.args]
    if not argv:
        raise TaskFailed(START_FAILED, "There is nothing to run: neither commands nor an entrypoint")
    return argv


def working_directory(spec: TaskSpec, directory: str, home: str) -> str:
    """The job's folder, made if missing. Raises TaskFailed when that is not possible."""
    own = os.path.join(directory, "work")
    path = expand(spec.working_dir, home)
    path = os.path.normpath(os.path.join(own, path)) if path else own
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as e:
        message = "The working directory %s cannot be created: %s" % (path, e.strerror)
        raise TaskFailed(START_FAILED, message) from None
    return path


def job_environment(spec: TaskSpec, home: str) -> Dict[str, str]:
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    env.setdefault("PATH", DEFAULT_PATH)
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
        env.setdefault("USER", name)
        env.setdefault("LOGNAME", name)
    except KeyError:
        pass  # a user without an entry, as some containers have
    env["HOME"] = home
    env["TERM"] = "xterm-256color"
    return env


def home_folder() -> str:
    return os.path.expanduser("~")


def expand(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def refuse_what_needs_an_engine(spec: TaskSpec) -> None:
    for name, asked in (("image", spec.image), ("user", spec.user), ("privileged", spec.privileged)):
        if asked:
            message = "`%s` needs a Docker Engine; on this machine the job would run as a plain process" % name
            raise TaskFailed(CREATE_FAILED, message)


def choose_cpus(limit: float, running: List[Task]) -> List[int]:
    """As many whole processors as `limit` needs, those first that the fewest tasks are bound to."""
    if limit <= 0 or not hasattr(os, "sched_getaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    count = max(1, -int(-limit // 1))
    if count >= len(allowed):
        return []
    load = {cpu: 0 for cpu in allowed}
    for other in running:
        for cpu in other.memo.get("cpus") or []:
            load[cpu] = load.get(cpu, 0) + 1
    return sorted(sorted(allowed, key=lambda cpu: load[cpu])[:count])


def explain(code: Optional[int]) -> str:
    return {126: "A command is not executable (exit code 126)", 127: "A command was not found (exit code 127)"}.get(
        code if code is not None else 0, ""
    )
