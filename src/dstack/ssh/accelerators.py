"""Whether the accelerators in a host have the driver and the container runtime that they need, in versions that do."""

from __future__ import annotations

from collections.abc import Callable

from dstack.model.host import Finding
from dstack.ssh.look import Look, version_of

OLDEST_CUDA = (12, 1)
TOOLKIT_GUIDE = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
AMD_GUIDE = (
    "https://instinct.docs.amd.com/projects/amdgpu-docs/en/latest/install/detailed-install/package-manager-index.html"
)
NO_AMD_DRIVER = "there is an AMD accelerator, but no /dev/kfd: AMDGPU-DKMS is missing"
GAUDI_GUIDE = "https://docs.habana.ai/en/latest/Installation_Guide/Driver_Installation.html"
TENSTORRENT_GUIDE = "https://docs.tenstorrent.com/getting-started/README.html"


def accelerator_findings(look: Look) -> list[Finding]:
    """Nothing for a host without accelerators. A tool that is installed counts as a wish to use what it is for."""
    found = []
    for vendor, present, check in _VENDORS:
        if vendor in look.vendors() or present(look):
            found += check(look)
    return found


def _nvidia(look: Look) -> list[Finding]:
    driver, cuda = look.get("nvidia_driver"), look.get("nvidia_cuda")
    install = (
        "sudo apt-get install -y nvidia-driver-550-server"
        if _debian(look)
        else (
            "install NVIDIA's driver 530 or newer: https://docs.nvidia.com/datacenter/tesla/driver-installation-guide"
        )
    )
    if not look.has("nvidia_smi"):
        return [_failed("driver", "there is an NVIDIA accelerator, but no nvidia-smi: its driver is missing", install)]
    if not driver:
        why = look.get("nvidia_error") or "it does not answer"
        return [_failed("driver", f"nvidia-smi: {why}", f"{install}, then reboot")]
    if cuda and version_of(cuda) < OLDEST_CUDA:
        message = f"NVIDIA driver {driver} is for CUDA {cuda}; 12.1 or newer is needed"
        return [_failed("driver", message, install), *_nvidia_runtime(look)]
    told = f"NVIDIA driver {driver}" + (f", CUDA {cuda}" if cuda else "")
    return [_ok("driver", told), *_nvidia_runtime(look)]


def _nvidia_runtime(look: Look) -> list[Finding]:
    version = version_of(look.get("nvidia_ctk"))
    dotted = ".".join(str(part) for part in version)
    if not look.has("nvidia_ctk"):
        return [_failed("container-runtime", "the NVIDIA Container Toolkit is missing", f"see {TOOLKIT_GUIDE}")]
    if "nvidia" not in look.get("docker_runtimes").split() and not look.has("nvidia_cdi"):
        # Docker finds the toolkit's hook by itself from 19.03 on, so this is no failure.
        remedy = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
        message = f"NVIDIA Container Toolkit {dotted} is not registered with Docker"
        return [Finding(check="container-runtime", state="warning", message=message, remedy=remedy)]
    return [_ok("container-runtime", f"NVIDIA Container Toolkit {dotted}")]


def _amd(look: Look) -> list[Finding]:
    if not look.has("amd_module") or not look.has("amd_kfd"):
        return [_failed("driver", NO_AMD_DRIVER, f"see {AMD_GUIDE}")]
    found = []
    if look.has("amd_driver"):
        found.append(_ok("driver", f"AMDGPU-DKMS {look.get('amd_driver')}"))
    else:
        message = "the kernel's own amdgpu driver is used, not AMDGPU-DKMS"
        found.append(Finding(check="driver", state="warning", message=message, remedy=f"see {AMD_GUIDE}"))
    if not (look.has("amd_smi") or look.has("rocm_smi")):
        remedy = "sudo apt-get install -y amd-smi-lib" if _debian(look) else f"see {AMD_GUIDE}"
        found.append(_failed("driver", "neither amd-smi nor rocm-smi is there", remedy))
    return found


def _gaudi(look: Look) -> list[Finding]:
    driver = look.get("gaudi_driver")
    if not driver:
        message = "there is an Intel Gaudi accelerator, but no hl-smi: its software is missing"
        if look.has("gaudi_error"):
            message = f"hl-smi: {look.get('gaudi_error')}"
        return [_failed("driver", message, f"see {GAUDI_GUIDE}")]
    if "habana" not in look.get("docker_runtimes").split():
        remedy = "sudo apt-get install -y habanalabs-container-runtime, then register it in /etc/docker/daemon.json"
        return [
            _ok("driver", f"Gaudi driver {driver}"),
            _failed("container-runtime", "the Habana Container Runtime is not registered with Docker", remedy),
        ]
    return [_ok("driver", f"Gaudi driver {driver}"), _ok("container-runtime", "Habana Container Runtime")]


def _tenstorrent(look: Look) -> list[Finding]:
    if not look.has("tenstorrent_device"):
        message = "there is a Tenstorrent accelerator, but no /dev/tenstorrent: its driver is missing"
        return [_failed("driver", message, f"see {TENSTORRENT_GUIDE}")]
    found = [_ok("driver", f"tt-kmd {look.get('tenstorrent_driver')}".strip())]
    if not look.has("tt_smi"):
        found.append(_failed("driver", "tt-smi is missing", f"see {TENSTORRENT_GUIDE}"))
    pages = look.get("hugepages_1g")
    if not pages.isdigit() or int(pages) == 0 or not look.has("hugepages_mounted"):
        remedy = "install tenstorrent-tools, then: sudo systemctl enable --now tenstorrent-hugepages.service "
        remedy += "'dev-hugepages\\x2d1G.mount', and reboot"
        found.append(_failed("hugepages", "there are no 1 GB HugePages at /dev/hugepages-1G", remedy))
    else:
        found.append(_ok("hugepages", f"{pages} of 1 GB"))
    return found


def _debian(look: Look) -> bool:
    return look.get("package_manager") == "apt-get"


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, state="ok", message=message)


def _failed(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, state="failed", message=message, remedy=remedy)


_VENDORS: tuple[tuple[str, Callable[[Look], bool], Callable[[Look], list[Finding]]], ...] = (
    ("nvidia", lambda look: look.has("nvidia_driver"), _nvidia),
    ("amd", lambda look: False, _amd),
    ("intel", lambda look: look.has("gaudi_driver"), _gaudi),
    ("tenstorrent", lambda look: look.has("tenstorrent_device"), _tenstorrent),
)
