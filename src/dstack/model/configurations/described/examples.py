"""What each type of file is for, and one example that shows it."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """`title` and `purpose` are for people, `example` is a whole file."""

    title: str
    purpose: str
    example: str


KINDS: dict[str, Kind] = {
    "task": Kind(
        "Task",
        "Commands that run to their end: training, batch jobs, tests, web applications while you look at them.",
        """\
type: task
name: train

python: "3.12"
env:
  - EPOCHS=3
  - HF_TOKEN            # taken from your shell, or from -e HF_TOKEN=...
files:
  - train.py
  - requirements.txt
commands:
  - uv pip install -r requirements.txt
  - python train.py

resources:
  gpu: A100:40GB:2
  memory: 64GB..
retry:
  on_events: [no-capacity, interruption]
  duration: 1h
""",
    ),
    "service": Kind(
        "Service",
        "Commands that go on behind an endpoint, in one or more replicas: models, web applications.",
        """\
type: service
name: llama31

python: "3.12"
env:
  - HF_TOKEN
commands:
  - uv pip install vllm
  - vllm serve meta-llama/Meta-Llama-3.1-8B-Instruct
port: 8000
model: meta-llama/Meta-Llama-3.1-8B-Instruct

resources:
  gpu: 80GB
replicas: 1..4
scaling:
  metric: rps
  target: 10
""",
    ),
    "dev-environment": Kind(
        "Dev environment",
        "A machine to work on, from an IDE or over SSH.",
        """\
type: dev-environment
name: cursor

python: "3.12"
ide: cursor
inactivity_duration: 2h

resources:
  gpu: 80GB
""",
    ),
    "fleet": Kind(
        "Fleet",
        "Where runs may go: a pool of instances and the template by which more are made. Without one no run is placed.",
        """\
type: fleet
name: my-fleet

# None at first; up to two when runs need them; idle ones are removed.
nodes: 0..2
idle_duration: 10m

resources:
  gpu: 24GB..
spot_policy: auto
""",
    ),
    "volume": Kind(
        "Volume",
        "Storage that outlives runs.",
        """\
type: volume
name: my-volume

backend: aws
region: us-east-1
size: 500GB
""",
    ),
    "gateway": Kind(
        "Gateway",
        "A machine with a domain and certificates, behind which services are reached.",
        """\
type: gateway
name: my-gateway

backend: aws
region: eu-west-1
domain: example.com
""",
    ),
    "profiles": Kind(
        "Profiles",
        "Named parameters for configurations that do not say them. They stand in `.dstack/profiles.yml` of the folder "
        "and in `~/.dstack/profiles.yml`; `--profile NAME` chooses one, else the default one holds.",
        """\
profiles:
  - name: cheap
    spot_policy: auto
    max_price: 1.5
    default: true
  - name: large
    backends: [aws, gcp]
    max_duration: 1d
""",
    ),
    "server": Kind(
        "The server's configuration",
        "`~/.dstack/server/config.yml` is read at the start of the server; everything in it is optional.",
        """\
projects:
  - name: main
    backends:
      - type: sim          # a cloud that costs nothing, to try things with
        regions: [sim-east]
""",
    ),
}
