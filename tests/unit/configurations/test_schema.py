"""The JSON schemas accept what the grammar accepts, and refuse what is plainly something else."""

import jsonschema
import pytest
import yaml

from dstack.model.configurations.profiles import read_profiles
from dstack.model.configurations.reading import read
from dstack.model.configurations.schema import TYPES, json_schema
from dstack.model.configurations.server_config import read_server_config

LEGAL = [
    "type: task\npython: 3.12\ncommands: [a]\nports: [8501, '80:80', '*:1', {container_port: 1}]\nmax_duration: 1h\n"
    "env: [A, B=1]\nresources: {cpu: 'arm:4..', memory: 8, disk: 100GB.., shm_size: 1GB, gpu: A100:2}\nretry: true\n",
    "type: task\ngroups:\n- {name: 1, nodes: 2, commands: [a], resources: {cpu: {min: 2}, disk: {min: 1}}}\n",
    "type: task\ncommands: [a]\nenv: {A: 1, B: x}\nvolumes: ['v:/x', {instance_path: /a, path: /b, optional: true}]\n"
    "repos: [{url: 'https://x.org/y', path: /z}]\nfiles: [a, {local_path: b, path: c}]\npriority: '5'\n"
    "instances: [i, {hostname: h}, {fleet: p/f, instance: 1}]\nfleets: [a, {name: b}]\nidle_duration: -1\n",
    "type: task\ncommands: [a]\npool_name: p\ninstance_name: i\nretry_policy: {retry: true, limit: 1h}\nrepo: .\n"
    "termination_policy: destroy-after-idle\ntermination_idle_time: 5m\nhome_dir: /h\nsetup: [a]\n",
    "type: task\ncommands: [a]\nresources:\n  gpu: {vendor: tpu, name: 'a,b', count: 1.., memory: 24GB..80GB,"
    " compute_capability: [7, 5]}\n  memory: {min: 8GB}\n  disk: {size: 200GB}\n",
    "type: dev-environment\nide: vscode\ninit: [a]\ninactivity_duration: 2h\nports: [8080]\n",
    "type: service\nport: 80:8000\ncommands: [a]\nmodel: x/y\nreplicas: 0..2\ngateway: on\nhttps: auto\n"
    "scaling: {metric: rps, target: 1, window: 5m}\nrate_limits: [{rps: 1}, {prefix: /a, rps: 2, key: {type: header,"
    " header: X}}]\nprobes: [{type: http, method: POST, timeout: 10s}]\nretry: {on_events: [error], duration: 1d}\n",
    "type: service\nport: 80\nmodel: {name: x, format: tgi, eos_token: y}\ngroups: [{replicas: 1..2, commands: [a],"
    " scaling: {metric: rps, target: 1}}, {count: 2, commands: [b]}]\ngateway: {project: a, name: b}\n",
    "type: service\nport: 80\nreplicas: [{count: 1, commands: [a]}]\n",
    "type: fleet\nnodes: 0..2\nblocks: auto\nbackends: [AWS]\nspot_policy: auto\nmax_price: '1.5'\n",
    "type: fleet\nnodes: {max: 2}\nblocks: '2'\ntags: {a: b}\n",
    "type: fleet\nssh_config: {user: u, identity_file: k, hosts: [a, {hostname: b, port: '22'}]}\n",
    "type: volume\nname: v\nbackend: aws\nregion: r\nresources: {disk: 500GB}\n",
    "type: volume\nname: v\nbackend: aws\nregion: r\nsize: 500GB\nauto_cleanup_duration: off\n",
    "type: gateway\nbackend: aws\nregion: r\ncertificate: null\nreplicas: 2\n",
]
ILLEGAL = [
    ("task", {"type": "task", "comands": ["a"]}),
    ("task", {"type": "task", "commands": "a"}),
    ("task", {"type": "task", "commands": ["a"], "resources": {"gpus": 1}}),
    ("task", {"commands": ["a"]}),
    ("service", {"type": "service", "commands": ["a"]}),
    ("service", {"type": "service", "port": 80, "scaling": {"metric": "cpu", "target": 1}}),
    ("fleet", {"type": "task"}),
    ("volume", {"type": "volume", "backend": "azure"}),
    ("gateway", {"type": "gateway", "region": "r"}),
    ("profiles", {"profiles": [{"name": "a", "max_pricee": 1}]}),
    ("server", {"projects": [{"backends": []}]}),
]


@pytest.mark.parametrize("type_", [None, *TYPES])
def test_a_schema_is_a_schema(type_):
    jsonschema.Draft202012Validator.check_schema(json_schema(type_))


@pytest.mark.parametrize("text", LEGAL)
def test_what_the_grammar_accepts_the_schema_accepts(text):
    read(text, "t.yml")
    data = yaml.safe_load(text)
    jsonschema.validate(data, json_schema(data["type"]))
    jsonschema.validate(data, json_schema())


@pytest.mark.parametrize(
    ("type_", "text", "read_text"),
    [
        ("profiles", "profiles:\n- {name: a, default: true, max_duration: 1h, pool_name: p}\n", read_profiles),
        ("server", "projects: [{name: a, backends: [{type: aws, creds: {type: default}, x: [1]}]}]\n",
         read_server_config),
    ],
)  # fmt: skip
def test_schemas_of_the_other_files_accept_what_is_read(type_, text, read_text):
    read_text(text, "t.yml")
    jsonschema.validate(yaml.safe_load(text), json_schema(type_))


@pytest.mark.parametrize(("type_", "data"), ILLEGAL)
def test_what_is_plainly_something_else_is_refused(type_, data):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema(type_))


def test_the_schema_of_any_file_goes_by_its_type():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": "task", "port": 80}, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": "pool"}, json_schema())
