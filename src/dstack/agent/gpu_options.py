"""How a job gets its accelerators and no others: options of its container, or variables of its process."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence

from dstack.agentapi.wire import GpuFacts

Json = Dict[str, Any]
HUGE_PAGES = "/dev/hugepages-1G"
UNLIMITED_MEMLOCK = {"Name": "memlock", "Soft": -1, "Hard": -1}
CDI_NVIDIA = "nvidia.com/gpu"


@dataclass
class Options:
    """`host_config` is merged into the engine's HostConfig; `env` beats what image and job say."""

    host_config: Json = field(default_factory=dict)
    env: Dict[str, str] = field(default_factory=dict)

    def devices(self, paths: Sequence[str]) -> None:
        rows = self.host_config.setdefault("Devices", [])
        for path in paths:
            rows.append({"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"})

    def extend(self, name: str, values: Sequence[Any]) -> None:
        self.host_config.setdefault(name, []).extend(values)


def of_container(leased: List[GpuFacts], built_in: List[GpuFacts], engine: Json) -> Options:
    """`engine` is its answer to `GET /info`. A job without a lease sees none, whatever its image asks for."""
    options = Options()
    if any(gpu.vendor == "nvidia" for gpu in built_in):
        # Images of CUDA ask for all GPUs by this variable; where NVIDIA's runtime is the default one, it would obey.
        options.env["NVIDIA_VISIBLE_DEVICES"] = "void"
    for vendor, add in _CONTAINER.items():
        mine = [gpu for gpu in leased if gpu.vendor == vendor]
        if mine:
            add(options, mine, [gpu for gpu in built_in if gpu.vendor == vendor], engine)
    return options


def of_process(leased: List[GpuFacts], built_in: List[GpuFacts]) -> Dict[str, str]:
    """Variables that the vendors' software obeys. No isolation: a process may unset them."""
    env: Dict[str, str] = {}
    for vendor in {gpu.vendor for gpu in built_in}:
        env.update(_PROCESS[vendor]([gpu for gpu in leased if gpu.vendor == vendor]))
    return env


def infiniband(dev: str = "/dev") -> Options:
    """InfiniBand and RoCE of the host, for jobs that have its network: nodes, locked memory, the right to lock it."""
    options = Options()
    nodes = sorted(glob.glob(os.path.join(dev, "infiniband/*")))
    if nodes:
        options.devices(nodes)
        options.extend("CapAdd", ["IPC_LOCK"])
        options.extend("Ulimits", [UNLIMITED_MEMLOCK])
    return options


def merge(config: Json, options: Options) -> None:
    for name, value in options.host_config.items():
        if isinstance(value, list):
            known = config.setdefault(name, [])
            known.extend(one for one in value if one not in known)
        else:
            config[name] = value


def _nvidia(options: Options, mine: List[GpuFacts], all_of_them: List[GpuFacts], engine: Json) -> None:
    ids = [gpu.uuid for gpu in mine]
    if "nvidia" not in (engine.get("Runtimes") or {}) and knows_cdi(engine):
        names = ["%s=%s" % (CDI_NVIDIA, uuid) for uuid in ids]
        options.extend("DeviceRequests", [{"Driver": "cdi", "DeviceIDs": names}])
        return
    options.extend("DeviceRequests", [{"Driver": "nvidia", "DeviceIDs": ids, "Capabilities": [["gpu"]]}])
    options.env["NVIDIA_VISIBLE_DEVICES"] = ",".join(ids)


def knows_cdi(engine: Json) -> bool:
    """Whether the engine has a CDI description of NVIDIA's devices."""
    if any(str(device.get("ID", "")).startswith(CDI_NVIDIA) for device in engine.get("DiscoveredDevices") or []):
        return True
    for folder in engine.get("CDISpecDirs") or []:
        for path in glob.glob(os.path.join(glob.escape(folder), "*")):
            try:
                with open(path) as f:
                    if CDI_NVIDIA in f.read(4096):
                        return True
            except (OSError, UnicodeDecodeError):
                continue
    return False


def _amd(options: Options, mine: List[GpuFacts], all_of_them: List[GpuFacts], engine: Json) -> None:
    nodes = ["/dev/kfd"] + [node for gpu in mine for node in gpu.nodes]
    options.devices(nodes)
    options.extend("GroupAdd", _groups(nodes))  # those of `video` and `render`, which the image may not know


def _gaudi(options: Options, mine: List[GpuFacts], all_of_them: List[GpuFacts], engine: Json) -> None:
    options.host_config["Runtime"] = "habana"
    options.extend("CapAdd", ["SYS_NICE"])
    options.env["HABANA_VISIBLE_DEVICES"] = _indices(mine)
    options.env["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"


def _tpu(options: Options, mine: List[GpuFacts], all_of_them: List[GpuFacts], engine: Json) -> None:
    nodes = [node for gpu in mine for node in gpu.nodes]
    if any(node.startswith("/dev/vfio/") for node in nodes):
        nodes.append("/dev/vfio/vfio")
    options.devices(nodes)
    options.extend("Ulimits", [UNLIMITED_MEMLOCK])
    if len(mine) == len(all_of_them):
        # Chips of the older drivers (/dev/accelN) are set up through the host's own registers. Only a job that has all
        # of them, and so the machine, may do that.
        if any(node.startswith("/dev/accel") for node in nodes):
            options.host_config["Privileged"] = True
    else:
        options.env["TPU_VISIBLE_CHIPS"] = _indices(mine)


def _tenstorrent(options: Options, mine: List[GpuFacts], all_of_them: List[GpuFacts], engine: Json) -> None:
    options.devices([node for gpu in mine for node in gpu.nodes])
    if os.path.isdir(HUGE_PAGES):
        options.extend("Mounts", [{"Type": "bind", "Source": HUGE_PAGES, "Target": HUGE_PAGES}])


_CONTAINER: Dict[str, Callable[[Options, List[GpuFacts], List[GpuFacts], Json], None]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "intel": _gaudi,
    "google": _tpu,
    "tenstorrent": _tenstorrent,
}


def _amd_process(mine: List[GpuFacts]) -> Dict[str, str]:
    # The second counts within what the first leaves.
    return {"ROCR_VISIBLE_DEVICES": _indices(mine), "HIP_VISIBLE_DEVICES": ",".join(map(str, range(len(mine))))}


_PROCESS: Dict[str, Callable[[List[GpuFacts]], Dict[str, str]]] = {
    "nvidia": lambda mine: {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in mine)},
    "amd": _amd_process,
    "intel": lambda mine: {"HABANA_VISIBLE_DEVICES": _indices(mine), "HABANA_VISIBLE_MODULES": _indices(mine)},
    "google": lambda mine: {"TPU_VISIBLE_CHIPS": _indices(mine)},
    "tenstorrent": lambda mine: {"TT_VISIBLE_DEVICES": _indices(mine)},
}


def _indices(gpus: List[GpuFacts]) -> str:
    return ",".join(str(gpu.index) for gpu in gpus)


def _groups(nodes: Sequence[str]) -> List[str]:
    found: List[str] = []
    for node in nodes:
        gid = _gid(node)
        if gid and str(gid) not in found:
            found.append(str(gid))
    return found


def _gid(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_gid
    except OSError:
        return None  # the engine says what is missing
