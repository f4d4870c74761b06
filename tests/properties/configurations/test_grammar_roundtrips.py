"""What a grammar shows, it reads back; what it reads, it shows in one canonical form."""

from hypothesis import given
from hypothesis import strategies as st

from dstack.values.cpu import ARCHITECTURES, format_cpu, parse_cpu
from dstack.values.duration import MAX_SECONDS, format_duration, parse_duration
from dstack.values.env import parse_env
from dstack.values.gpu import VENDORS, GpuRequest, format_gpu, parse_gpu
from dstack.values.grammar import Invalid
from dstack.values.interpolate import interpolate, references
from dstack.values.memory import format_memory, parse_memory
from dstack.values.mounts import format_mount, parse_mount
from dstack.values.names import format_reference, parse_reference
from dstack.values.paths import format_file, parse_file, parse_repo
from dstack.values.ports import Port, format_port, parse_port
from dstack.values.ranges import Bounds, format_range, parse_int, parse_range
from dstack.values.user import format_user, parse_user

gigabytes = st.integers(0, 10**9).map(lambda megabytes: megabytes / 1024)
counts = st.integers(0, 10**6)
anything = st.one_of(
    st.text(), st.text(alphabet="0123456789.:GBMTxar*/-~,A"), st.integers(), st.floats(), st.booleans(), st.none(),
    st.lists(st.text(max_size=3), max_size=3), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
)  # fmt: skip


def bounds(values):
    ends = st.tuples(st.none() | values, st.none() | values).filter(lambda pair: pair != (None, None))
    ordered = ends.map(lambda pair: pair if None in pair else tuple(sorted(pair)))
    return ordered.map(lambda pair: Bounds(*pair))


gpu_names = st.lists(st.from_regex(r"[A-Z][A-Z0-9-]{1,9}", fullmatch=True), min_size=1, max_size=3, unique=True).filter(
    lambda names: (
        not {name.lower() for name in names} & {*VENDORS, "tt", "tpu"} and not any(n.startswith("TPU-") for n in names)
    )
)


@given(gigabytes)
def test_memory_is_read_back_as_shown(size):
    assert parse_memory(format_memory(size)) == size


@given(st.integers(0, MAX_SECONDS))
def test_durations_are_read_back_as_shown(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@given(bounds(counts))
def test_ranges_are_read_back_as_shown(ends):
    assert parse_range(format_range(ends.min, ends.max), parse_int) == ends


@given(st.none() | st.sampled_from(ARCHITECTURES), bounds(counts))
def test_cpu_requests_are_read_back_as_shown(arch, count):
    request = parse_cpu(format_cpu(arch, count.min, count.max))
    assert (request.arch, request.count) == (arch, count)


@given(
    st.none() | st.sampled_from(VENDORS),
    st.none() | gpu_names.map(tuple),
    st.none() | bounds(gigabytes),
    bounds(counts),
)
def test_gpu_requests_are_read_back_as_shown(vendor, names, memory, count):
    vendor = None if names else vendor
    request = GpuRequest(vendor, names, memory, count)
    assert parse_gpu(format_gpu(request)) == request


@given(st.none() | st.integers(1, 65535), st.integers(1, 65535))
def test_ports_are_read_back_as_shown(local, container):
    assert parse_port(format_port(Port(local, container))) == (local, container)


@given(anything)
def test_a_grammar_either_understands_or_says_invalid_and_its_canonical_form_is_stable(value):
    for parse, show in (
        (parse_memory, format_memory),
        (parse_duration, format_duration),
        (parse_gpu, format_gpu),
        (parse_port, format_port),
        (parse_mount, format_mount),
        (parse_file, format_file),
        (parse_reference, format_reference),
        (parse_user, format_user),
    ):
        try:
            meaning = parse(value)
        except Invalid as refusal:
            assert "\n" not in str(refusal)
            continue
        assert show(parse(show(meaning))) == show(meaning)
    for parse in (parse_cpu, parse_env, parse_repo):
        try:
            parse(value)
        except Invalid as refusal:
            assert "\n" not in str(refusal)


@given(st.text(alphabet="ab.${} \n-1"))
def test_text_with_braces_and_dollars_is_either_interpolated_or_refused(text):
    try:
        names = references(text)
    except Invalid:
        return
    result = interpolate(text, lambda name: f"<{name}>")
    assert all(f"<{name}>" in result for name in names)
    if "${{" not in text:
        assert result == text
