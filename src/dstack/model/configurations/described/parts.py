"""What the fields of parts mean: resources, ports, mounts, files, retries, references, what services say of traffic."""

from __future__ import annotations

from dstack.model.configurations.described.told import Told, told

_SECONDS = ("30", "30s", "5m", "1h30m")

FIELDS: dict[str, dict[str, Told]] = {
    "ResourcesSpec": {
        "cpu": told("Cores, at least as many; `arm:` before them for that architecture", "4", "4..8", "arm:4.."),
        "memory": told("Memory of the machine, at least", "32GB", "8GB..64GB"),
        "shm_size": told("Size of `/dev/shm`", "16GB"),
        "gpu": told(
            "GPUs: names, memory and number, all optional; a single size is the class of that size, a range is a range",
            "24GB..",
            "A100:40GB:2",
            "A100,H100",
            "{name: [A100, H100], memory: 80GB, count: 1..4}",
        ),
        "disk": told("Disk, at least; its size where it can be chosen", "200GB", "100GB..500GB"),
    },
    "CPUSpec": {
        "arch": told("The architecture; without it any", "x86", "arm"),
        "count": told("How many cores", "4", "4..8", "4.."),
    },
    "GPUSpec": {
        "vendor": told("The vendor; the name mostly says it", "nvidia", "amd", "google"),
        "name": told("One of these", "A100", "[A100, H100]"),
        "count": told("How many on an instance", "2", "1..4", "2.."),
        "memory": told("Memory of each", "80GB", "24GB..", "40GB..80GB"),
        "total_memory": told("Memory of all together", "160GB.."),
        "compute_capability": told("At least this CUDA compute capability", '"8.0"'),
    },
    "DiskSpec": {"size": told("How large, at least", "200GB", "100GB..500GB")},
    "PortMapping": {
        "local_port": told("Where it appears on your machine; without it any free port", "8080"),
        "container_port": told("The port of the job", "80"),
    },
    "RegistryAuth": {
        "username": told("The user at the registry", "me"),
        "password": told("The password or token; take it from a secret", '"${{ secrets.registry }}"'),
    },
    "VolumeMountPoint": {
        "name": told("Name of the volume, or of several of which one is taken", "my-volume", "[volume-a, volume-b]"),
        "path": told("Where it appears in the container", "/data"),
    },
    "InstanceMountPoint": {
        "instance_path": told("The directory of the host", "/mnt/cache"),
        "path": told("Where it appears in the container", "/root/.cache"),
        "optional": told("Whether the run goes without it where it cannot be had"),
    },
    "FilePathMapping": {
        "local_path": told("The file or folder, relative to the configuration file", "./data"),
        "path": told("Where it goes in the container", "/data"),
    },
    "RepoSpec": {
        "local_path": told("A clone on your machine", "."),
        "url": told("Its address, instead", "https://github.com/org/repo"),
        "branch": told("The branch; without it the current or default one", "main"),
        "hash": told("The commit; without it the newest", "1f0e3dad99908345f7439f8ffabdffc4"),
        "path": told("Where it goes in the container; `.` is the working directory", "/workspace/repo"),
        "if_exists": told("What to do where the directory has files already", "error", "skip"),
    },
    "ProfileRetry": {
        "on_events": told("After what; without it everything", "[no-capacity, interruption, error]"),
        "duration": told("For how long; without it an hour", "30m", "4h"),
    },
    "UtilizationPolicy": {
        "min_gpu_utilization": told("Percent that each GPU must be used", "10"),
        "time_window": told("For how long it may be less, 5 minutes to an hour", "30m"),
    },
    "Schedule": {
        "cron": told("Five fields, in UTC; several are possible", '"0 8 * * mon-fri"', '["0 8 * * *", "0 20 * * *"]')
    },
    "EntityReference": {
        "project": told("The project; without it this one", "other-project"),
        "name": told("The name in it", "my-fleet"),
    },
    "InstanceNameSelector": {"name": told("Name of the instance", "my-fleet-0")},
    "InstanceHostnameSelector": {"hostname": told("Address of the host", "192.168.1.10")},
    "FleetInstanceSelector": {
        "fleet": told("The fleet", "my-fleet"),
        "instance": told("Number of the instance in it", "0"),
    },
    "VastAIProfileOptions": {
        "type": told("The backend", "vastai"),
        "offer_order": told("By what its offers are ordered", "score", "price"),
        "min_reliability": told("0 to 1; hosts below are left out", "0.95"),
        "min_score": told("Hosts with less are left out", "100"),
    },
    "OpenAIChatModel": {
        "type": told("The kind of model", "chat"),
        "name": told("Name by which clients ask for it", "meta-llama/Llama-3.1-8B-Instruct"),
        "format": told("The API that the service speaks", "openai"),
        "prefix": told("Where that API begins", "/v1"),
    },
    "TGIChatModel": {
        "type": told("The kind of model", "chat"),
        "name": told("Name by which clients ask for it", "mistral"),
        "format": told("The API that the service speaks: that of text-generation-inference", "tgi"),
        "chat_template": told("The template of messages, instead of the model's own"),
        "eos_token": told("What ends an answer, instead of the model's own", '"</s>"'),
    },
    "ScalingSpec": {
        "metric": told("What is measured: requests a second, open at once, or waiting", "rps", "concurrency", "queue"),
        "target": told("How much of it a replica shall have", "10"),
        "window": told("Over which time it is measured: 30 s, 60 s or 5 minutes", "30s", "60s", "5m"),
        "scale_up_delay": told("How long before another replica is added", *_SECONDS),
        "scale_down_delay": told("How long before one is removed", *_SECONDS),
    },
    "RateLimit": {
        "prefix": told("For paths that begin so", "/api/"),
        "key": told("What a client is", "{type: ip_address}", "{type: header, header: X-Api-Key}"),
        "rps": told("Requests a second", "5"),
        "burst": told("How many more at once", "10"),
    },
    "IPAddressPartitioningKey": {"type": told("Clients are told apart by address", "ip_address")},
    "HeaderPartitioningKey": {
        "type": told("Clients are told apart by a header", "header"),
        "header": told("Its name", "X-Api-Key"),
    },
    "ProbeConfig": {
        "type": told("The kind of probe", "http"),
        "url": told("The path; without it `/`", "/health"),
        "method": told("Without it `get`", "get", "post"),
        "headers": told("Headers to send", "[{name: X-Probe, value: 1}]"),
        "body": told("The body to send", "ping"),
        "timeout": told("How long an answer may take; without it 10 seconds", *_SECONDS[:3]),
        "interval": told("How often; without it every 15 seconds", *_SECONDS),
        "ready_after": told("How many answers in a row make it ready; without it one", "2"),
        "until_ready": told("Whether to stop asking once it is ready; without it no", "true"),
    },
    "HTTPHeaderSpec": {"name": told("Its name", "X-Probe"), "value": told("Its value", "ready")},
}
