"""Simulated vendors' tools: real executables that print what a file says, for machines without accelerators."""

from __future__ import annotations

import json
import os
from pathlib import Path

GPU_0 = "GPU-5f0c2a5e-95e6-5c23-8cb7-3f4d1c0a6b11"
GPU_1 = "GPU-8a1b0d3f-1f22-4c0e-9e0f-52c1c6d3e7a2"
WELL = "00000000:18:00.0, 34, 0, No, No, [N/A], Not Active\n00000000:2A:00.0, 35, 0, No, No, [N/A], Not Active\n"
_NVIDIA = """#!/bin/sh
# Simulated: no NVIDIA driver is asked.
here=$(dirname "$0")
case "$1" in
    --query-gpu=index,*) cat "$here/facts" ;;
    --query-gpu=uuid,*) cat "$here/use" ;;
    --query-gpu=pci*) cat "$here/health" ;;
    *) echo "Unknown: $1" >&2; exit 2 ;;
esac
"""
_TENSTORRENT = '#!/bin/sh\n# Simulated: no Tenstorrent driver is asked.\nexec cat "$(dirname "$0")/snapshot"\n'


def nvidia_smi(folder: Path) -> Path:
    """Two H100s; tests change what it says by the files `facts`, `use` and `health` beside it."""
    _tool(folder, "nvidia-smi", _NVIDIA)
    card = "NVIDIA H100 80GB HBM3, 81559, 550.90.07"
    (folder / "facts").write_text(
        f"0, {GPU_0}, {card}, 00000000:18:00.0, Disabled\n1, {GPU_1}, {card}, 00000000:2A:00.0, Disabled\n"
    )
    (folder / "use").write_text(f"{GPU_0}, 1024, 37\n{GPU_1}, 2048, 93\n")
    (folder / "health").write_text(WELL)
    return folder


def tt_smi(folder: Path, boards: int) -> Path:
    _tool(folder, "tt-smi", _TENSTORRENT)
    rows = [
        {
            "board_info": {
                "bus_id": f"0000:0{n}:00.0",
                "board_type": "n150 L",
                "board_id": f"01000145117080{n}d",
                "dram_status": True,
            },
            "telemetry": {"voltage": "0.72", "asic_temperature": "34.8"},
        }
        for n in range(boards)
    ]
    (folder / "snapshot").write_text(json.dumps({"host_info": {"Driver": "TT-KMD 1.34"}, "device_info": rows}))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """That of the tests, with the simulated tools first on PATH."""
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _tool(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
