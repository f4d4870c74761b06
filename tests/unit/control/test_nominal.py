"""The class of a GPU's memory: what people call it, whatever the driver reports."""

from __future__ import annotations

import pytest

from dstack.agent.gpu_names import short_name
from dstack.control.scheduling.nominal import nominal_gpu_gb


@pytest.mark.parametrize(
    ("vendor", "product", "reported_mib", "gb"),
    [
        ("nvidia", "NVIDIA L4", 23034, 24),
        ("nvidia", "NVIDIA A10G", 23028, 24),
        ("nvidia", "Tesla T4", 15360, 16),
        ("nvidia", "NVIDIA L40S", 46068, 48),
        ("nvidia", "NVIDIA A100-SXM4-40GB", 40960, 40),
        ("nvidia", "NVIDIA A100 80GB PCIe", 81920, 80),
        ("nvidia", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10240, 10),
        ("nvidia", "NVIDIA H100 80GB HBM3", 81559, 80),
        ("nvidia", "NVIDIA H100 NVL", 95830, 94),
        ("nvidia", "NVIDIA H200", 143771, 141),
        ("nvidia", "NVIDIA B200", 183359, 180),
        ("amd", "AMD Instinct MI300X", 196592, 192),
        ("amd", "AMD INSTINCT MI250 (MCM) OAM AC MBA", 65520, 64),
        ("intel", "HL-225", 98304, 96),
        ("tenstorrent", "n300 L", 24576, 24),
        ("nvidia", "NVIDIA Something New", 30000, 32),
        ("nvidia", "NVIDIA Something Odd", 27000, 26),
    ],
)
def test_what_a_driver_reports_counts_as_what_is_on_the_box(vendor, product, reported_mib, gb):
    assert nominal_gpu_gb(short_name(vendor, product), reported_mib) == gb
