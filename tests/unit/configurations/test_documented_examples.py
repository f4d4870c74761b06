"""Every task and fleet that the product's documents show is understood as it is shown."""

import pytest

from dstack.model.configurations.reading import read

TASK = """
type: task
python: "3.11"
env:
  - HUGGING_FACE_HUB_TOKEN
commands:
  - pip install -r requirements.txt
  - python train.py
ports:
  - 8501  # Optional: expose ports for web apps

resources:
  gpu: A100:40GB:2  # Two 40GB A100s
  disk: 200GB
"""
MOUNTING = "type: task\ncommands: [ls]\nvolumes:\n  - name: my-volume\n    path: /volume_data\n"
ON_DEMAND = """
type: fleet
name: my-fleet
nodes: 0..2  # Range: creates template when starting with 0, provisions on-demand

resources:
  gpu: 24GB..  # 24GB or more
  disk: 100GB

spot_policy: auto  # auto (default), spot, or on-demand
idle_duration: 5m  # Terminate idle instances after 5 minutes
"""
CLUSTER = "type: fleet\nname: my-fleet\nnodes: 2\nplacement: cluster\nresources:\n  gpu: H100:8\n"
TARGET = "type: fleet\nname: f\nnodes:\n  min: 2\n  max: 10\n  target: 6\nidle_duration: 1h\nresources:\n  gpu: 0..8\n"
BLOCKS = "type: fleet\nname: my-fleet\nnodes: 0..2\nresources:\n  gpu: H100:8\nblocks: 4\n"
HOSTS = """
type: fleet
name: my-fleet
env:
  - HTTP_PROXY=http://proxy.example.com:80
  - NO_PROXY=localhost,127.0.0.1
ssh_config:
  user: ubuntu
  identity_file: ~/.ssh/worker_node_key
  hosts:
    - hostname: 3.255.177.51
      blocks: 4
    - hostname: 3.255.177.52
      # As many as possible, according to numbers of GPUs and CPUs
      blocks: auto
    - 3.255.177.53
  proxy_jump:
    hostname: 3.255.177.50
    user: ubuntu
    identity_file: ~/.ssh/head_node_key
"""


@pytest.mark.parametrize("text", [TASK, MOUNTING, ON_DEMAND, CLUSTER, TARGET, BLOCKS, HOSTS])
def test_a_documented_configuration_is_understood_without_a_notice(text):
    assert read(text, "example.dstack.yml").notices == ()


@pytest.mark.parametrize(
    ("gpu", "shown"),
    [
        ("A100", "A100:1.."),
        ("A10G,A100", "A10G,A100:1.."),
        ("A100:80GB", "A100:80GB:1.."),
        ("A100:2", "A100:2"),
        ("24GB..40GB:2", "24GB..40GB:2"),
        ("A100:40GB:2", "A100:40GB:2"),
        ("80GB:2", "80GB:2"),
        ("0..8", "0..8"),
        ("amd:MI300X:8", "MI300X:8"),
    ],
)
def test_a_documented_gpu_request_is_shown_in_its_canonical_form(gpu, shown):
    text = f"type: task\ncommands: [a]\nresources:\n  gpu: {gpu}\n"
    assert read(text, "t.yml").configuration.resources.gpu.pretty() == shown


@pytest.mark.parametrize("idle", ["0s", "1m", "off", "1h", "72h"])
def test_a_documented_idle_duration_is_understood(idle):
    text = f"type: fleet\nnodes: 0..2\nidle_duration: {idle}\n"
    assert read(text, "t.yml").configuration.idle_duration is not None
