"""Nominal sizes: what people call a machine's memory, whatever its driver or kernel reports."""

from __future__ import annotations

# GB by GPU name, smallest first; a name with several sizes takes the nearest one not below 90 % of it.
_GPU_GB: dict[str, tuple[int, ...]] = {
    "A10": (24,),
    "A100": (40, 80),
    "A10G": (24,),
    "A2": (16,),
    "A30": (24,),
    "A40": (48,),
    "A4000": (16,),
    "A5000": (24,),
    "A6000": (48,),
    "B200": (180,),
    "B300": (288,),
    "E150": (8,),
    "E75": (8,),
    "GAUDI2": (96,),
    "GAUDI3": (128,),
    "GH200": (96, 144),
    "H100": (80,),
    "H100NVL": (94,),
    "H20": (96, 141),
    "H200": (141,),
    "H200NVL": (141,),
    "L4": (24,),
    "L40": (48,),
    "L40S": (48,),
    "MI210": (64,),
    "MI250": (64, 128),
    "MI250X": (64, 128),
    "MI300A": (128,),
    "MI300X": (192,),
    "MI325X": (256,),
    "MI355X": (288,),
    "MI350X": (288,),
    "N150": (12,),
    "N300": (24,),
    "P100": (16,),
    "P150A": (32,),
    "RTX2000ADA": (16,),
    "RTX3090": (24,),
    "RTX4000ADA": (20,),
    "RTX4090": (24,),
    "RTX5090": (32,),
    "RTX6000ADA": (48,),
    "RTXPRO6000": (96,),
    "T4": (16,),
    "V100": (16, 32),
    "V5P": (95,),
}
_COMMON_GPU_GB = (1, 2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 144)
_COMMON_GPU_GB += (180, 192, 256, 288)
_COMMON_MEMORY_GB = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_COMMON_DISK_GB = (8, 10, 16, 20, 25, 30, 32, 40, 50, 60, 64, 80, 100, 120, 128, 150, 160, 200, 240, 250, 256, 300)
_COMMON_DISK_GB += (400, 480, 500, 512, 750, 800, 960, 1000, 1024, 1500, 1920, 2000, 2048, 3000, 3840, 4000, 4096, 8192)

# Compute capability by NVIDIA GPU name; a name that is not here is not judged.
COMPUTE_CAPABILITY: dict[str, tuple[int, int]] = {
    "A10": (8, 6),
    "A100": (8, 0),
    "A10G": (8, 6),
    "A40": (8, 6),
    "A4000": (8, 6),
    "A5000": (8, 6),
    "A6000": (8, 6),
    "B200": (10, 0),
    "B300": (10, 3),
    "GH200": (9, 0),
    "H100": (9, 0),
    "H20": (9, 0),
    "H200": (9, 0),
    "L4": (8, 9),
    "L40": (8, 9),
    "L40S": (8, 9),
    "P100": (6, 0),
    "RTX3090": (8, 6),
    "RTX4090": (8, 9),
    "RTX5090": (12, 0),
    "T4": (7, 5),
    "V100": (7, 0),
}


def gpu_key(name: str) -> str:
    """The form in which GPU names are compared: `RTX PRO 6000` and `rtxpro6000` are the same."""
    return name.upper().replace(" ", "").replace("-", "")


def nominal_gpu_gb(name: str, memory_mib: int) -> int:
    """The class of a GPU's memory in GB: that of its name, else the next common size within 10 %, else as reported."""
    gb = memory_mib / 1024
    sizes = _GPU_GB.get(gpu_key(name), ())
    for size in sizes:
        if abs(gb - size) <= 0.15 * size:
            return size
    return _round_up(gb, _COMMON_GPU_GB, 0.10)


def nominal_memory_mib(memory_mib: int) -> int:
    """What a host's memory counts as: kernel and firmware take some of what was bought."""
    return _round_up(memory_mib / 1024, _COMMON_MEMORY_GB, 0.08) * 1024


def nominal_disk_mib(disk_mib: int) -> int:
    """What a host's disk counts as: a "100GB" disk holds 93 GiB before the file system takes its share."""
    return _round_up(disk_mib / 1024, _COMMON_DISK_GB, 0.095) * 1024


def _round_up(gb: float, sizes: tuple[int, ...], within: float) -> int:
    for size in sizes:
        if gb <= size:
            return size if size - gb <= within * size else max(round(gb), 1)
    return max(round(gb), 1)
