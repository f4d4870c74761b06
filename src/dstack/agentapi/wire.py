"""Shapes of the agent's protocol, version 1: standard library only, Python 3.8.

HTTP/1.1 with JSON bodies over a Unix socket. Instants are `float` seconds since the epoch (UTC) by the agent's clock,
sizes are bytes. Readers ignore fields that they do not know and fill absent ones, so versions N and N-1 understand
each other.

    GET    /v1/health                          -> Health
    GET    /v1/host                            -> HostFacts
    GET    /v1/tasks                           -> {"tasks": [TaskReport]}
    PUT    /v1/tasks/ID          TaskSpec      -> TaskReport     idempotent; a resent one answers the present state
    POST   /v1/tasks/ID/stop     StopRequest   -> TaskReport     unknown ID: a tombstone, against a late PUT
    PUT    /v1/tasks/ID/keys     SessionKeys   -> TaskReport     who is in with another key is put out
    DELETE /v1/tasks/ID?log_offset=N[&force=1] -> {}             409 unless ended and N is the final offset; idempotent
    GET    /v1/tasks/ID/logs?offset=N&wait=S   -> raw bytes      headers LOG_* below; at most MAX_LOG_CHUNK bytes
    GET    /v1/tasks/ID/metrics                -> TaskMetrics
    GET    /v1/events?run=R&after=SEQ&wait=S   -> EventsPage     one long poll a host carries every task's changes
    HEAD   /v1/blobs/SHA256                    -> 200 | 404
    PUT    /v1/blobs/SHA256      raw bytes     -> {}             refused with 400 when the hash differs

Errors: status 4xx/5xx with `{"error": {"code": str, "message": str}}`.
"""

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Type, TypeVar

PROTOCOL = 1
MAX_LOG_CHUNK = 2 * 1024 * 1024  # each is a commit of the server, so not too small

# Response headers of /logs: offset after the body; "1" when the log is complete up to LOG_NEXT and nothing will follow;
# JSON [[relative offset, instant], ...] of when pieces of the body were written, ascending, at most MAX_LOG_MARKS.
LOG_NEXT = "X-Log-Next"
LOG_FINAL = "X-Log-Final"
LOG_MARKS = "X-Log-Marks"
MAX_LOG_MARKS = 256

# Task states, in the order in which they can follow one another.
PENDING = "pending"
PULLING = "pulling"
CREATING = "creating"
RUNNING = "running"
STOPPING = "stopping"
EXITED = "exited"  # the job's own process ended: `exit_code` is set
FAILED = "failed"  # it never ran, or was ended by us: `reason` is set
ENDED = (EXITED, FAILED)

# Reasons of FAILED, and refinements of EXITED.
OOM = "oom"  # state exited (137) or failed: killed by the memory limit
STOPPED = "stopped"  # ended by a stop request
LOG_QUOTA = "log_quota"
IMAGE_PULL = "image_pull"
CREATE_FAILED = "create_failed"
START_FAILED = "start_failed"  # command not found, not executable, bad working directory
HOST_REBOOTED = "host_rebooted"
ENGINE_RESTARTED = "engine_restarted"
CONTAINER_REMOVED = "container_removed"
DISK_FULL = "disk_full"
EXECUTOR_ERROR = "executor_error"

GPUS_TAKEN = "gpus_taken"  # fewer accelerators are free than the task needs

# How accelerators are: the best and the worst of what was found.
HEALTHY = "healthy"
WARNING = "warning"  # jobs go on, somebody should look
FAILURE = "failure"  # nothing new should be put there

# Key of TaskReport.ports: where on the host's loopback the task's own sshd answers.
SESSION_PORT = "10022"

DOCKER = "docker"
PROCESS = "process"
AUTO = "auto"

T = TypeVar("T")


@dataclass
class Health:
    protocol: int = PROTOCOL
    version: str = ""
    run: str = ""  # changes each time the agent starts; event sequence numbers count within it


@dataclass
class GpuFacts:
    vendor: str = ""  # nvidia | amd | intel | google | tenstorrent
    name: str = ""  # as people call it: H100, MI300X, Gaudi2, n300
    memory_bytes: int = 0
    uuid: str = ""  # unique on the host; what leases and metrics go by
    index: int = 0  # as the vendor's tool counts
    product: str = ""  # the name in the tool's words
    driver: str = ""  # version
    bus_id: str = ""  # PCI address
    nodes: List[str] = field(default_factory=list)  # device nodes that are its own
    health: str = HEALTHY
    health_message: str = ""


@dataclass
class HostHealth:
    """The accelerators' health, and what is wrong in words. Hosts without accelerators are healthy."""

    status: str = HEALTHY
    message: str = ""


@dataclass
class HostFacts:
    hostname: str = ""
    boot_id: str = ""
    arch: str = "x86"  # x86 | arm
    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0  # free plus used by us, on the file system that holds the tasks
    gpus: List[GpuFacts] = field(default_factory=list)
    runtime: str = PROCESS  # what AUTO means on this host
    engine_version: str = ""
    user: str = ""
    root: bool = False
    agent_version: str = ""
    health: HostHealth = field(default_factory=HostHealth)
    findings: List[str] = field(default_factory=list)  # tools that are there and do not answer, in words


@dataclass
class RegistryAuth:
    username: str = ""
    password: str = ""


@dataclass
class CodeArchive:
    """A tar (gzip or plain), sent before as a blob, to be unpacked under `path` before the job starts."""

    sha256: str = ""
    path: str = ""  # absolute, or relative to the working directory
    # Of a repository: what to do when its folder is not empty, `error` or `skip`. Its links may lead anywhere, and
    # DSTACK_REPO_DIR names its folder. "" is that of files, which go into whatever is there.
    if_exists: str = ""


@dataclass
class Mount:
    """A folder of the host inside the task: `path` on the host, or a folder kept by the agent under `name`."""

    target: str = ""  # absolute, in the task
    path: str = ""
    name: str = ""
    optional: bool = False  # without it the task fails where the folder cannot be had
    read_only: bool = False


@dataclass
class NodeSsh:
    """By what the nodes of one replica reach each other's tasks with plain `ssh`; but for `address` the same on all."""

    private_key: str = ""  # OpenSSH's form; goes into the task
    public_key: str = ""  # `type base64`; the only key that opens
    host_key: str = ""  # private, of the sshd of every node; stays out of the task
    host_public: str = ""
    address: str = ""  # of this node: where its sshd listens, with `port`
    nodes: List[str] = field(default_factory=list)  # addresses of all, this one too
    port: int = 10022


@dataclass
class TaskSpec:
    """All that the agent needs to run one submission of one job. Secrets travel only here."""

    id: str = ""  # UUID of the submission
    name: str = ""  # job name, for people and for the host name inside
    runtime: str = AUTO
    image: str = ""
    registry_auth: Optional[RegistryAuth] = None
    user: str = ""  # "" is the image's own
    privileged: bool = False
    docker: bool = False  # runs an engine of its own, which gets a volume that goes with the container
    # Either `script` (run by `shell -c`), or `entrypoint` + `args` as the engine understands them ([] and None: those
    # of the image).
    shell: str = "/bin/sh"
    script: Optional[str] = None
    entrypoint: Optional[List[str]] = None
    args: List[str] = field(default_factory=list)
    working_dir: str = ""  # "" is the image's own, or a fresh folder under the process runtime; created if missing
    home_dir: str = ""
    python: str = ""  # "3.12": the process runtime looks for this version with uv, then on PATH
    env: Dict[str, str] = field(default_factory=dict)
    archives: List[CodeArchive] = field(default_factory=list)
    cpu_limit: float = 0.0  # cores; 0 is no limit
    memory_limit_bytes: int = 0  # 0 is no limit
    shm_bytes: int = 0  # 0 is the engine's default
    network: str = "bridge"  # bridge | host
    ports: List[int] = field(default_factory=list)  # container ports that the job says it listens on
    log_quota_bytes_per_hour: int = 50 * 1024 * 1024  # 0 is no quota
    stop_signal: str = "SIGINT"
    gpus: int = 0  # accelerators that the agent leases to the task, -1 is all of the host; it chooses which
    mounts: List[Mount] = field(default_factory=list)
    # Public keys (as in authorized_keys) of those who may open sessions in the task; see PUT .../keys.
    authorized_keys: List[str] = field(default_factory=list)
    node_ssh: Optional[NodeSsh] = None  # of a task on several nodes, in a container with the host's network
    mpi_hostfile: str = ""  # content; the agent writes it down and names the file in DSTACK_MPI_HOSTFILE


@dataclass
class StopRequest:
    grace_s: float = 300.0  # between the signal and SIGKILL; 0 kills at once
    reason: str = STOPPED
    message: str = ""


@dataclass
class SessionKeys:
    """Public keys, as in authorized_keys without options, of those who may be in the task from now on."""

    keys: List[str] = field(default_factory=list)


@dataclass
class Notice:
    """Words to those who are in a task, which its log has, too."""

    message: str = ""


@dataclass
class PullProgress:
    downloaded_bytes: int = 0
    extracted_bytes: int = 0
    total_bytes: int = 0
    total_final: bool = False  # False: more layers may still appear


@dataclass
class TaskReport:
    id: str = ""
    seq: int = 0
    state: str = PENDING
    exit_code: Optional[int] = None
    reason: str = ""
    message: str = ""
    runtime: str = ""
    working_dir: str = ""
    user: str = ""
    ip: str = ""
    # Container port -> port on the host's loopback. "10022" is where the task's own sshd answers (sessions).
    ports: Dict[str, int] = field(default_factory=dict)
    gpus: List[str] = field(default_factory=list)  # uuids of the accelerators leased to it
    pull: Optional[PullProgress] = None
    started_at: Optional[float] = None
    finished_at: Optional[float] = None
    # Sessions: connections of people who were let in, and since when there is none (None while there are some).
    sessions: int = 0
    inactive_since: Optional[float] = None
    session_user: str = ""  # the name to log in with; what runs is always the task's own user
    session_host_key: str = ""  # `type base64`, the task's own
    session_message: str = ""  # why nobody can enter a task that has keys
    log_size: int = 0  # bytes so far; final once `state` is in ENDED


@dataclass
class EventsPage:
    run: str = ""  # Health.run; when it differs from the caller's, all tasks are in `tasks`
    seq: int = 0  # pass it as `after` next time
    tasks: List[TaskReport] = field(default_factory=list)
    health: Optional[HostHealth] = None  # when it changed, and with all tasks


@dataclass
class GpuMetrics:
    uuid: str = ""
    memory_bytes: int = 0
    util_percent: int = 0


@dataclass
class TaskMetrics:
    at: float = 0.0
    cpu_usage_us: int = 0  # cumulative processor time of the whole task
    memory_bytes: int = 0
    memory_working_set_bytes: int = 0
    gpus: List[GpuMetrics] = field(default_factory=list)


def to_json(value: Any) -> Any:
    """A dataclass of this module as JSON-ready data."""
    return dataclasses.asdict(value)


def from_json(cls: Type[T], data: Any) -> T:
    """Build `cls` from decoded JSON: unknown fields are ignored, absent ones get defaults.

    Raises ValueError with the field's name when a value has the wrong shape.
    """
    if not isinstance(data, dict):
        raise ValueError("%s: expected an object" % cls.__name__)
    values = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name in data:
            try:
                values[f.name] = _decode(f.type, data[f.name])
            except (TypeError, ValueError) as e:
                raise ValueError("%s.%s: %s" % (cls.__name__, f.name, e)) from None
    return cls(**values)


def _decode(annotation: Any, value: Any) -> Any:
    if isinstance(annotation, str):  # under `from __future__ import annotations` of a subclass elsewhere
        annotation = getattr(sys.modules[__name__], annotation, Any)
    origin = getattr(annotation, "__origin__", None)
    if origin is list or origin is List:
        if not isinstance(value, list):
            raise ValueError("expected a list")
        return [_decode(annotation.__args__[0], v) for v in value]
    if origin is dict or origin is Dict:
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return {str(k): _decode(annotation.__args__[1], v) for k, v in value.items()}
    if origin is not None:  # Optional[X]
        return None if value is None else _decode(annotation.__args__[0], value)
    if dataclasses.is_dataclass(annotation):
        return from_json(annotation, value)  # type: ignore[arg-type]
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation in (str, int, float, bool) and (type(value) is not annotation):
        raise ValueError("expected %s" % annotation.__name__)
    return value
