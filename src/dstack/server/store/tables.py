"""All tables. Resource tables follow their row type; the columns of the engine are added here, and only here."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from dstack.model.chore import Chore
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.orphan import Orphan
from dstack.model.queue import Queue
from dstack.model.row import Row
from dstack.model.run import Run
from dstack.server.store.codec import columns

metadata = MetaData()
# Columns that hold what the cipher sealed: sealed anew when there is a newer key.
SEALED = {"sealed": True}
# In lock order: a commit locks rows by (table, id), tables in this order.
ROW_TYPES: dict[str, type[Row]] = {c.kind: c for c in (Chore, Fleet, Instance, Job, Orphan, Queue, Run)}


def _resource(cls: type[Row], *extra: Index | UniqueConstraint) -> Table:
    terminal = ", ".join(f"'{s}'" for s in sorted(cls.terminal_statuses()))
    return Table(
        cls.kind,
        metadata,
        *columns(cls),
        Column("due_at", Float, nullable=True),
        Column("wake_seq", BigInteger, nullable=False, server_default="0"),
        Column("claimed_by", String, nullable=True),
        Column("claim_until", Float, nullable=True),
        Column("fence", BigInteger, nullable=False, server_default="0"),
        # A row that is not finished can never be forgotten.
        CheckConstraint(f"due_at IS NOT NULL OR status IN ({terminal})", name=f"{cls.kind}_is_due_or_terminal"),
        Index(f"{cls.kind}_due", "due_at"),
        *extra,
    )


_ENDED = ", ".join(f"'{s}'" for s in sorted(Run.terminal_statuses()))
# As text, so that SQLite sees that a question is one the index answers: it does not look into parameters.
LIVE_RUN = f"NOT run.deleted AND run.status NOT IN ({_ENDED})"


def _where(name: str, condition: str, *names: str) -> Index:
    return Index(name, *names, sqlite_where=text(condition), postgresql_where=text(condition))


def _unique_where(name: str, condition: str, *names: str) -> Index:
    return Index(name, *names, unique=True, sqlite_where=text(condition), postgresql_where=text(condition))


TABLES: dict[str, Table] = {
    "run": _resource(
        Run,
        _unique_where("run_name", "NOT deleted", "project_id", "name"),
        Index("run_listing", "project_id", "submitted_at", "id"),
        _where("run_live", LIVE_RUN.replace("run.", ""), "project_id", "submitted_at", "id"),
    ),
    "job": _resource(
        Job,
        UniqueConstraint("run_id", "replica_num", "job_num", "submission_num", name="job_submission"),
        Index("job_instance", "instance_id"),
        Index("job_queue", "project_id", "status"),
    ),
    "instance": _resource(
        Instance,
        UniqueConstraint("fleet_id", "num", name="instance_num"),
        Index("instance_pool", "project_id", "status"),
    ),
    "fleet": _resource(
        Fleet,
        _unique_where("fleet_name", "status <> 'terminated'", "project_id", "name"),
    ),
    "queue": _resource(Queue),
    "chore": _resource(Chore, Index("chore_of", "project_id", "backend")),
    "orphan": _resource(Orphan, Index("orphan_of", "backend", "status")),
}

# Unfinished acts; the row of a finished one is deleted, its token stays in the outside world.
act = Table(
    "act",
    metadata,
    Column("token", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("resource_id", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("claimed_by", String, nullable=True),
    Column("claim_until", Float, nullable=True),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("kind", "resource_id", "verb", name="act_unfinished"),
    Index("act_due", "due_at"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("resource_id", String, nullable=False),
    Column("observation", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("inbox_resource", "kind", "resource_id"),
    sqlite_autoincrement=True,
)

event = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("project_id", String, nullable=True),
    Column("message", Text, nullable=False),
    Column("actor_id", String, nullable=True),
    Column("recorded_at", Float, nullable=False),
    Index("event_listing", "project_id", "recorded_at"),
    sqlite_autoincrement=True,
)

event_target = Table(
    "event_target",
    metadata,
    Column("event_id", String, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("type", String, nullable=False),
    Column("target_id", String, nullable=False),
    Column("name", String, nullable=False),
    Index("event_target_lookup", "target_id"),
)

user = Table(
    "user",
    metadata,
    Column("id", String, primary_key=True),
    Column("username", String, nullable=False, unique=True),
    Column("global_role", String, nullable=False),
    Column("token_hash", String, nullable=False, unique=True),
    Column("email", String, nullable=True),
    Column("active", Boolean, nullable=False),
    Column("ssh_public_key", Text, nullable=True),
    Column("ssh_private_key", LargeBinary, nullable=True, info=SEALED),
    Column("created_at", Float, nullable=False),
    Column("projects_quota", Integer, nullable=True),  # None: that of the settings
)

# Keys that people have themselves, beside the pair that the server made for them.
public_key = Table(
    "public_key",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, ForeignKey("user.id", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("type", String, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("added_at", Float, nullable=False),
    UniqueConstraint("user_id", "fingerprint", name="public_key_once"),
)

project = Table(
    "project",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("owner_id", String, ForeignKey("user.id"), nullable=False),
    Column("is_public", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Float, nullable=False),
    Column("templates_repo", String, nullable=True),
)

member = Table(
    "member",
    metadata,
    Column("project_id", String, ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", String, ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String, nullable=False),
)

secret = Table(
    "secret",
    metadata,
    Column("id", String, primary_key=True),
    Column("project_id", String, ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("value", LargeBinary, nullable=False, info=SEALED),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project_id", "name", name="secret_name"),
)

# Backends that a project configured. `config` is what was written, as JSON, encrypted: it holds credentials.
backend = Table(
    "backend",
    metadata,
    Column("project_id", String, ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    Column("type", String, primary_key=True),
    Column("config", LargeBinary, nullable=False, info=SEALED),
    Column("origin", String, nullable=False),  # api | file: what the server's file no longer names is removed
    Column("updated_at", Float, nullable=False),
)

# How one gets onto a host of an SSH fleet. `sealed`: private keys as JSON; the host keys are what the host and its
# login node showed at the first connection.
host_access = Table(
    "host_access",
    metadata,
    Column("host", String, primary_key=True),  # RemoteHost.key: a host belongs to one fleet of the server
    Column("fleet_id", String, nullable=False),
    Column("sealed", LargeBinary, nullable=False, info=SEALED),
    Column("host_key", Text, nullable=True),
    Column("proxy_key", Text, nullable=True),
    Index("host_access_fleet", "fleet_id"),
)

archive = Table(
    "archive",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("hash", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("user_id", "hash", name="archive_hash"),
)

repo = Table(
    "repo",
    metadata,
    Column("project_id", String, ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    Column("repo_id", String, primary_key=True),
    Column("info", Text, nullable=False),
)

_REPO = ("project_id", "repo_id"), ("repo.project_id", "repo.repo_id")

# What a person lends a project's runs to clone a repository with; nobody else sees or uses it.
repo_creds = Table(
    "repo_creds",
    metadata,
    Column("project_id", String, primary_key=True),
    Column("repo_id", String, primary_key=True),
    Column("user_id", String, ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("value", LargeBinary, nullable=False, info=SEALED),
    ForeignKeyConstraint(*_REPO, ondelete="CASCADE"),
)

# Which uploaded differences belong to a repository; the bytes are blobs by their hash.
repo_code = Table(
    "repo_code",
    metadata,
    Column("project_id", String, primary_key=True),
    Column("repo_id", String, primary_key=True),
    Column("hash", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    ForeignKeyConstraint(*_REPO, ondelete="CASCADE"),
)

# Servers that work or worked on this database. `until` is the end of a server's lease; null: it stopped, or was found
# dead and what it held was given to the others.
server = Table(
    "server",
    metadata,
    Column("id", String, primary_key=True),
    Column("session", String, nullable=False),  # of the process: a second one with the same id ends the first
    Column("name", String, nullable=False),  # host and folder, for people
    Column("version", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("until", Float, nullable=True),
)

# Which server holds the link to a host. `epoch` grows with each holder: what an earlier one still wants to write is
# refused. `only`: the host can be reached from that server alone.
host_link = Table(
    "host_link",
    metadata,
    Column("instance_id", String, primary_key=True),
    Column("server_id", String, nullable=True),
    Column("only", String, nullable=True),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Index("host_link_server", "server_id"),
)

# How much of a job's log is stored and acknowledged; no versioned row, it is written all the time.
log_offset = Table(
    "log_offset",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes of the stored log
    Column("index_size", BigInteger, nullable=False),  # bytes of its time index
    Column("final", Boolean, nullable=False),
)

# Progress and metrics of running jobs; overwritten in place, no version.
job_gauge = Table(
    "job_gauge",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("pull", Text, nullable=True),  # JSON of agentapi.wire.PullProgress
    Column("updated_at", Float, nullable=False),
)

job_metric = Table(
    "job_metric",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("at", Float, primary_key=True),
    Column("sample", Text, nullable=False),  # JSON of agentapi.wire.TaskMetrics
    Index("job_metric_at", "at"),
)

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
