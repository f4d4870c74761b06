"""CPU and GPU requests."""

import pytest

from dstack.values.cpu import CpuRequest, format_cpu, parse_cpu
from dstack.values.gpu import GpuRequest, format_gpu, parse_compute_capability, parse_gpu
from dstack.values.grammar import Invalid
from dstack.values.ranges import Bounds


@pytest.mark.parametrize(
    ("text", "arch", "count"),
    [
        (8, None, (8, None)),
        ("8", None, (8, None)),
        ("4..8", None, (4, 8)),
        ("16..", None, (16, None)),
        ("x86:16", "x86", (16, None)),
        ("8..:ARM", "arm", (8, None)),
        ("x86", "x86", None),
    ],
)
def test_cpu_requests_take_tokens_in_any_order(text, arch, count):
    assert parse_cpu(text) == CpuRequest(arch, count and Bounds(*count))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("amd64:8", "did you mean `x86`"),
        ("riscv", "expected `x86` or `arm`"),
        ("x86:", "has an empty part"),
        ("", "has an empty part"),
        ("4:8", "gives the number of cores twice"),
        ("x86:arm", "names two architectures"),
        (None, "is not a CPU request"),
        (True, "is not a CPU request"),
        ("-2", "not a whole number"),
    ],
)
def test_other_cpu_requests_are_refused_with_the_reason(text, words):
    with pytest.raises(Invalid, match=words):
        parse_cpu(text)


def test_a_cpu_request_is_shown_with_its_architecture():
    assert [format_cpu(None, 2, None), format_cpu("x86", 4, 8), format_cpu(None, 4, 4)] == ["2..", "x86:4..8", "4..4"]


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (0, {"count": (0, 0)}),
        ("0..8", {"count": (0, 8)}),
        ("24GB", {"memory": (24, 24)}),
        ("24GB..", {"memory": (24, None)}),
        ("..80GB", {"memory": (None, 80)}),
        ("A100", {"names": ("A100",)}),
        ("A10G,A100", {"names": ("A10G", "A100")}),
        ("A100:2", {"names": ("A100",), "count": (2, 2)}),
        ("A100:40GB:2", {"names": ("A100",), "memory": (40, 40), "count": (2, 2)}),
        ("2:40GB:A100", {"names": ("A100",), "memory": (40, 40), "count": (2, 2)}),
        ("24GB..40GB:2", {"memory": (24, 40), "count": (2, 2)}),
        ("amd:MI300X:8", {"vendor": "amd", "names": ("MI300X",), "count": (8, 8)}),
        ("NVIDIA", {"vendor": "nvidia"}),
        ("tt:32", {"vendor": "tenstorrent", "count": (32, 32)}),
        ("tpu:v5litepod-4", {"vendor": "google", "names": ("v5litepod-4",)}),
        ("tpu-v2-8", {"vendor": "google", "names": ("v2-8",)}),
        ("H100:1..", {"names": ("H100",), "count": (1, None)}),
    ],
)
def test_gpu_requests_take_vendor_names_memory_and_count_in_any_order(text, request_):
    bounds = {key: Bounds(*value) if key in ("memory", "count") else value for key, value in request_.items()}
    assert parse_gpu(text) == GpuRequest(**bounds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A100:", "has an empty part"),
        ("", "has an empty part"),
        ("A100:H100", "gives the name twice"),
        ("24GB:48GB", "gives the memory twice"),
        ("2:4", "gives the count twice"),
        ("amd:nvidia", "gives the vendor twice"),
        ("A100,", "has an empty GPU name"),
        (",A100", "has an empty GPU name"),
        ("A100!", "is not a GPU name"),
        ("-1", "is not understood"),
        ("$", "is not understood"),
        (None, "is not a GPU request"),
        (True, "is not a GPU request"),
        ("amd:tpu-v2", "is not a GPU name of amd"),
        ("80GB..24GB", "wrong way round"),
        ("..", "is an empty number of GPUs"),
    ],
)
def test_other_gpu_requests_are_refused_with_the_reason(text, words):
    with pytest.raises(Invalid, match=words):
        parse_gpu(text)


def test_a_gpu_request_is_shown_as_vendor_or_names_then_memory_then_count():
    shown = [format_gpu(parse_gpu(text)) for text in ("2:A100:40GB", "nvidia:0..", "amd:MI300X:8", "24GB..")]
    assert shown == ["A100:40GB:2", "nvidia:0..", "MI300X:8", "24GB.."]


@pytest.mark.parametrize("value", [7.5, "7.5", [7, 5], (7, 5)])
def test_a_compute_capability_is_read_from_all_its_forms(value):
    assert parse_compute_capability(value) == (7, 5)


@pytest.mark.parametrize("value", ["", "a.b", "7.5.1", [], [7, 5, 1], True, None, {}, -7.5])
def test_other_compute_capabilities_are_refused(value):
    with pytest.raises(Invalid, match=r"expected for instance `8\.0`"):
        parse_compute_capability(value)
