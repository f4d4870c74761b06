"""What the fields of runs mean: tasks, services, dev environments, and the parameters that profiles share."""

from __future__ import annotations

from dstack.model.configurations.described.told import Told, told

_PARAMETERS: dict[str, Told] = {
    "backends": told("Only these backends", "[aws, gcp]"),
    "regions": told("Only these regions", "[us-east-1, europe-west4]"),
    "availability_zones": told("Only these zones", "[us-east-1a]"),
    "instance_types": told("Only these types of instances, by the provider's names", "[p4d.24xlarge]"),
    "reservation": told("A reservation of the provider to take instances from"),
    "spot_policy": told("Spot instances, on-demand ones or both; without it on-demand", "spot", "on-demand", "auto"),
    "retry": told(
        "Whether, after what and for how long to try again; `true` is after everything, for an hour",
        "true",
        "{on_events: [no-capacity, interruption], duration: 1h}",
    ),
    "max_price": told("Dollars an hour and instance, at most", "2.5"),
    "idle_duration": told(
        "How long an instance is kept idle; without it 5 minutes for runs, 3 days for fleets", "5m", "1h30m", "off"
    ),
    "tags": told("Labels for the resources that are made at the provider", "{team: research}"),
    "backend_options": told("Options of single backends", "[{type: vastai, offer_order: price}]"),
}

_RUN_PARAMETERS: dict[str, Told] = {
    "max_duration": told("The run is ended after this time", "2h", "1d", "off"),
    "stop_duration": told("How long a stopped job may take to end by itself; without it 5 minutes", "90", "90s", "off"),
    "creation_policy": told(
        "Whether new instances may be made; without it `reuse-or-create`", "reuse", "reuse-or-create"
    ),
    "utilization_policy": told("End the run when its GPUs are idle", "{min_gpu_utilization: 10, time_window: 30m}"),
    "startup_order": told("In which order the nodes start; without it `any`", "any", "master-first", "workers-first"),
    "stop_criteria": told("When a task of several nodes is done; without it `all-done`", "all-done", "master-done"),
    "schedule": told("Start the run again at these times, in UTC", '{cron: "0 8 * * mon-fri"}'),
    "fleets": told("Only these fleets, also of other projects", "[my-fleet]", "[other-project/their-fleet]"),
    "instances": told(
        "Only these instances: by name, by host, or by fleet and number",
        "[my-fleet-0]",
        "[{hostname: 192.168.1.10}]",
        "[{fleet: my-fleet, instance: 0}]",
    ),
}

_PORTS = told(
    "Ports of the job; `LOCAL:PORT` says where it appears on your machine, `*:PORT` any free one",
    "[8501]",
    '["8080:80"]',
    '["*:8000"]',
)
_COMMANDS = told("Shell commands, one after the other; the first that fails ends the job", "[python train.py]")

_RUN: dict[str, Told] = {
    "name": told("Name of the run, 1 to 41 of a-z, 0-9 and `-`; without it one is made up", "train"),
    "image": told("The container image; without it the server's default image", "ubuntu:24.04"),
    "user": told("The user in the container", "ubuntu", '"1000:1000"'),
    "privileged": told("Whether the container is privileged"),
    "entrypoint": told("Instead of the entrypoint of the image", "/bin/my-entrypoint"),
    "working_dir": told(
        "Where the commands start, a path of the container; it uploads nothing", "/workspace", "~/work"
    ),
    "home_dir": told("An old form: the value of `HOME`, created if need be; write `HOME` in `env`", "/home/me"),
    "registry_auth": told(
        "Credentials for a private image",
        '{username: me, password: "${{ secrets.registry }}"}',
    ),
    "python": told("A Python version to prepare; excludes `image`", '"3.12"'),
    "nvcc": told("Whether the default image is the one with the CUDA compiler"),
    "single_branch": told("Whether only the current branch of the repo is fetched"),
    "env": told(
        "Environment variables; a name alone is taken from your shell or `-e NAME=VALUE`",
        "{EPOCHS: 3}",
        "[EPOCHS=3, HF_TOKEN]",
        '{HF_TOKEN: "${{ secrets.hf_token }}"}',
    ),
    "shell": told(
        "The shell of the commands; without it `bash` where the image has it, else `sh`", "sh", "bash", "/bin/zsh"
    ),
    "resources": told("What each instance must have", "{gpu: 24GB.., memory: 32GB..}"),
    "priority": told("0 to 100; runs with more are placed first", "50"),
    "volumes": told(
        "Volumes and directories of the host to mount",
        "[my-volume:/data]",
        "[/mnt/cache:/root/.cache]",
        "[{instance_path: /cache, path: /root/.cache, optional: true}]",
    ),
    "docker": told("Whether Docker can be used inside the run; excludes `image`, `python` and `nvcc`"),
    "repos": told("A Git repository to bring into the run", "[.]", "[https://github.com/org/repo]"),
    "files": told("Local files and folders to upload", "[train.py]", "[./data:/data]"),
    "dstack": told("Whether the command line inside the run can reach this server"),
    "setup": told("An old form: commands that run first; write them first in `commands`", "[pip install uv]"),
}

FIELDS: dict[str, dict[str, Told]] = {
    "ProvisioningParams": _PARAMETERS,
    "ProfileParams": _RUN_PARAMETERS,
    "RunConfiguration": _RUN,
    "TaskConfiguration": {
        "type": told("Says what the file is", "task"),
        "nodes": told("On how many machines the commands run, together", "2"),
        "groups": told(
            "Nodes that differ; instead of `nodes` and `commands`",
            "[{name: head, commands: [./head.sh]}, {nodes: 3, commands: [./work.sh]}]",
        ),
        "ports": _PORTS,
        "commands": _COMMANDS,
    },
    "NodeGroup": {
        "name": told("Name of the group", "head"),
        "nodes": told("How many nodes are like this", "3"),
        "resources": told("What each of them must have; nothing comes from the top level"),
        "commands": told("What they run", "[./work.sh]"),
        "ports": _PORTS,
    },
    "ServiceConfiguration": {
        "type": told("Says what the file is", "service"),
        "port": told("The port on which the service listens", "8000", '"80:8000"'),
        "gateway": told(
            "The gateway to use; `false` none; without it the default one, if there is any", "my-gateway", "false"
        ),
        "strip_prefix": told("Whether the path prefix of the server's proxy is removed before a request is passed on"),
        "model": told(
            "The model that the service serves, for the model endpoint",
            "meta-llama/Llama-3.1-8B-Instruct",
            "{type: chat, name: llama, format: openai}",
        ),
        "https": told("Whether the gateway serves it over HTTPS", "true", "auto"),
        "auth": told("Whether requests need a token"),
        "replicas": told("How many; a range needs `scaling`", "2", "1..4"),
        "scaling": told("By what the number of replicas follows the load", "{metric: rps, target: 10}"),
        "rate_limits": told("Limits of requests, by path", "[{prefix: /api/, rps: 5, burst: 10}]"),
        "probes": told("Requests that a ready replica answers", "[{type: http, url: /health}]"),
        "groups": told(
            "Replicas that differ; instead of `replicas`, `scaling` and `commands`",
            "[{replicas: 2, commands: [./serve.sh]}]",
        ),
        "commands": told("What each replica runs", "[vllm serve my-model]"),
    },
    "ReplicaGroup": {
        "name": told("Name of the group", "workers"),
        "replicas": told("How many; a range needs `scaling`. `count` is an old form", "2", "1..4"),
        "scaling": told("By what the number of replicas follows the load", "{metric: rps, target: 10}"),
        "resources": told("What each replica must have; nothing comes from the top level"),
        "spot_policy": _PARAMETERS["spot_policy"],
        "reservation": _PARAMETERS["reservation"],
        "commands": told("What each of them runs", "[./serve.sh]"),
        "image": _RUN["image"],
        "python": _RUN["python"],
        "nvcc": _RUN["nvcc"],
        "docker": _RUN["docker"],
        "privileged": _RUN["privileged"],
        "router": told("This group's replica sends the requests on to the others", "{type: smg}"),
    },
    "ReplicaGroupRouterConfig": {"type": told("Which router; `sglang` is an old form of `smg`", "smg", "dynamo")},
    "DevEnvironmentConfiguration": {
        "type": told("Says what the file is", "dev-environment"),
        "ide": told("The IDE to prepare; without it SSH alone", "vscode", "cursor", "windsurf", "zed"),
        "version": told(
            "The version of the IDE whose server is put in while the run starts; windsurf: VERSION@COMMIT", '"1.95.3"'
        ),
        "init": told("Commands that run before you can connect", "[pip install -r requirements.txt]"),
        "inactivity_duration": told("The run is ended after this time without a connection", "2h", "off"),
        "ports": _PORTS,
    },
    "Profile": {
        "name": told("By which `--profile` chooses it", "large"),
        "default": told("Whether it holds where none is chosen; one at most"),
    },
    "ProfilesFile": {"profiles": told("The profiles", "[{name: large, max_price: 10}]")},
}
