"""What `--json` prints, for each command that has it: the names that programs may rely on."""

from __future__ import annotations

_RUN = "the run, as `Run` of the HTTP API"
_LIST = 'on one line `{{"project", "{0}": [...]}}`'
_DELETED = '`{{"deleted": {{"type": "{0}", "name"}}}}`'
_FLEET_GONE = '`{"deleted": {"type": "fleet", "name", "instances"}}`; `instances` only where not the whole fleet went'
_PLAN = "the plan, as `RunPlan` or `FleetPlan` of the HTTP API, with `x_report`, `x_notices`, `x_refusals`, `x_hosts`"
_OFFERS = (
    '`{"project", "user", "requirements", "offers": [{"backend", "region", "instance_type", "resources", "spot", '
    '"price", "availability", "fleet", "instance"}], "total_offers"}`; with `--group-by` `group_by` and `gpus` '
    "(`GpuGroup` of the HTTP API) in place of the offers; with `--explain` also `report`"
)
_EVENTS = '`{"project", "events": [...]}`, oldest first; with `-w` an event per line'
_PROJECT = '`{"name", "url", "default"}`; tokens are never printed'
_PROJECTS = '`{"projects": [{"name", "url", "default"}]}`, with `-v` also `user`; tokens are never printed'
_WHY = "the answer of `runs/why` or `fleets/why` of the HTTP API: `lines` for people, the rest for programs"

DOCUMENTS = {
    "dstack project": _PROJECTS,
    "dstack project list": _PROJECTS,
    "dstack project add": _PROJECT,
    "dstack project set-default": _PROJECT,
    "dstack project delete": _DELETED.format("project"),
    "dstack init": '`{"project", "repo"}`',
    "dstack apply": f"{_RUN}, or the fleet, as `Fleet`: with `-d` as it was submitted, else as it ended; needs `-y`",
    "dstack plan": _PLAN,
    "dstack offer": _OFFERS,
    "dstack ps": _LIST.format("runs"),
    "dstack logs": '`{"timestamp", "message"}` per line, with `--all` also `job`',
    "dstack metrics": '`{"project", "run", "jobs": [{"replica_num", "job_num", "metrics": [...]}]}`',
    "dstack stop": f"{_RUN} right after it was asked to stop",
    "dstack delete": _DELETED.format("run, fleet, volume or gateway"),
    "dstack run get": _RUN,
    "dstack fleet": _LIST.format("fleets"),
    "dstack fleet list": _LIST.format("fleets"),
    "dstack fleet get": "the fleet, as `Fleet` of the HTTP API",
    "dstack fleet delete": _FLEET_GONE,
    "dstack fleet delete-instance": _FLEET_GONE,
    "dstack fleet cordon": "the fleet, as `Fleet` of the HTTP API",
    "dstack fleet uncordon": "the fleet, as `Fleet` of the HTTP API",
    "dstack fleet drain": "the fleet, as `Fleet` of the HTTP API, once nothing runs there; with `-d` as it is now",
    "dstack volume": _LIST.format("volumes"),
    "dstack volume list": _LIST.format("volumes"),
    "dstack volume get": "the volume, as `Volume` of the HTTP API",
    "dstack volume delete": _DELETED.format("volume"),
    "dstack gateway": _LIST.format("gateways"),
    "dstack gateway list": _LIST.format("gateways"),
    "dstack gateway get": "the gateway, as `Gateway` of the HTTP API",
    "dstack gateway delete": _DELETED.format("gateway"),
    "dstack event": _EVENTS,
    "dstack event list": _EVENTS,
    "dstack secret": '`{"secrets": [{"id", "name"}]}`; values are not in it',
    "dstack secret list": '`{"secrets": [{"id", "name"}]}`; values are not in it',
    "dstack secret get": '`{"id", "name", "value"}`',
    "dstack secret set": '`{"id", "name"}`',
    "dstack secret delete": _DELETED.format("secret"),
    "dstack why": _WHY,
    "dstack server doctor": '`{"ok", "checks": [{"name", "ok", "message", "details": [...]}]}`',
    "dstack server orphans": (
        '`{"orphans": [...]}`; with `--terminate` `{"terminating": TOKEN}`, with `--settle` `{"settled": TOKEN}`'
    ),
    "dstack export": '`{"project", "exports": [...]}`',
    "dstack import": '`{"project", "imports": [...]}`',
}
