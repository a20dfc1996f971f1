"""The line format: what is read, what is refused and why.

Not covered: who may speak (test_roster), bytes on a pipe (test_pipe).
"""

import ast
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ceml.apps import wire
from ceml.apps.wire import Beat, Join, Leave, WireError, parse

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=64)
SOURCES = st.one_of(st.just(""), st.text("0123456789abcdefABCDEF", min_size=8, max_size=8))
AMOUNTS = st.floats(min_value=1e-9, max_value=1e9)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True).filter(
    lambda key: key not in ("app", "src", "beat", "t", "work", "event", "rank")
)


def heard(line: bytes) -> Beat | Join | Leave | str:
    """What the line says, or the reason why it is refused."""
    try:
        return parse(line)
    except WireError as error:
        return error.reason


@given(st.binary(max_size=300))
@example(b"")
@example(b"=")
@example(b"=1")
@example(b"app=a beat=1 =1")
@example(b"app=a beat=" + b"9" * 4000)
@example(b"app=a beat=1 x=" + b"9" * 4000)
def test_any_bytes_are_read_or_refused_for_a_known_reason(line: bytes):
    said = heard(line)
    assert isinstance(said, (Beat, Join, Leave)) or said in wire.REASONS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["app", "src", "beat", "t", "work", "event", "total_work", "pid", "rank", "loss", ""]),
            st.one_of(
                st.sampled_from(["a", "join", "leave", "01234567", "nan", "-1", "1e999", "0", "1_0", "", "=", "٣"]),
                st.integers().map(str),
                st.floats().map(repr),
            ),
        ),
        max_size=6,
    )
)
def test_nearly_good_lines_are_read_or_refused_for_a_known_reason(pairs: list[tuple[str, str]]):
    line = " ".join(f"{key}={value}" for key, value in pairs).encode()
    said = heard(line)
    assert isinstance(said, (Beat, Join, Leave)) or said in wire.REASONS
    if isinstance(said, Beat):
        assert said.app
        assert 0 < said.work <= wire.MAX_WORK
        assert said.t is None or 0 <= said.t < math.inf
        assert all(math.isfinite(value) for value in said.metrics.values())


@given(
    NAMES,
    SOURCES,
    st.integers(0, 2**63),
    st.none() | st.floats(0, 1e300),
    AMOUNTS,
    st.dictionaries(KEYS, st.floats(), max_size=5),
    st.randoms(),
)
def test_what_is_written_is_read_whatever_the_order(app, source, beat, t, work, metrics, random):
    words = [f"app={app}", f"beat={beat}", f"work={work!r}"]
    words += [f"src={source}"] * bool(source)
    words += [] if t is None else [f"t={t!r}"]
    words += [f"{key}={value!r}" for key, value in metrics.items()]
    random.shuffle(words)
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    said = parse(" ".join(words).encode())
    assert said == Beat(app, source, beat, t, work, finite, len(metrics) - len(finite))


@given(NAMES, SOURCES, st.none() | AMOUNTS, st.none() | st.integers(1, 2**31 - 1))
def test_a_join_says_total_work_and_pid_where_it_knows_them(app, source, total_work, pid):
    words = [f"app={app}", "event=join"] + [f"src={source}"] * bool(source)
    words += [] if total_work is None else [f"total_work={total_work!r}"]
    words += [] if pid is None else [f"pid={pid}"]
    assert parse(" ".join(words).encode()) == Join(app, source, total_work, pid)


def test_the_shortest_beat_counts_one_step_at_its_arrival():
    assert parse(b"app=a beat=0") == Beat("a", "", 0, None, 1.0, {}, 0)


def test_a_leave_needs_a_name_only():
    assert parse(b"app=a event=leave src=0123abcd") == Leave("a", "0123abcd")


def test_rank_is_reserved_and_not_a_metric():
    assert parse(b"app=a beat=1 rank=3 loss=0.5") == Beat("a", "", 1, None, 1.0, {"loss": 0.5}, 0)


def test_a_join_of_a_newer_client_may_say_more():
    assert parse(b"app=a event=join colour=red pid=7") == Join("a", "", None, 7)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"app=a beat=1 " + b"x" * 4096, "too_long"),
        (b"app=\xff beat=1", "not_ascii"),
        (b"app=a beat=1\r", "not_ascii"),
        (b"app=a\tbeat=1", "not_ascii"),
        (b"app=a beat=1\0", "not_ascii"),
        (b"hello", "bad_pair"),
        (b"app=a  beat=1", "bad_pair"),
        (b" app=a beat=1", "bad_pair"),
        (b"app=a beat=1 ", "bad_pair"),
        (b"app=a beat=1 loss=", "bad_pair"),
        (b"app=a beat=1 =2", "bad_pair"),
        (b"app=a beat=1 beat=2", "duplicate_key"),
        (b"app=a beat=1 9x=2", "bad_key"),
        (b"app=a beat=1 .x=2", "bad_key"),
        (b"app=a beat=1 a-b=2", "bad_key"),
        (b"beat=1", "bad_app"),
        (b"app=a/b beat=1", "bad_app"),
        (b"app=" + b"a" * 65 + b" beat=1", "bad_app"),
        (b"app=a src=123 beat=1", "bad_source"),
        (b"app=a src=0123456g beat=1", "bad_source"),
        (b"app=a", "bad_event"),
        (b"app=a event=dance", "bad_event"),
        (b"app=a event=join beat=1", "bad_event"),
        (b"app=a beat=-1", "bad_number"),
        (b"app=a beat=1.0", "bad_number"),
        (b"app=a beat=9223372036854775809", "bad_number"),
        (b"app=a beat=1 work=0", "bad_number"),
        (b"app=a beat=1 work=-1", "bad_number"),
        (b"app=a beat=1 work=nan", "bad_number"),
        (b"app=a beat=1 work=2e9", "bad_number"),
        (b"app=a beat=1 work=1_0", "bad_number"),
        (b"app=a beat=1 t=inf", "bad_number"),
        (b"app=a beat=1 t=-1", "bad_number"),
        (b"app=a beat=1 loss=low", "bad_number"),
        (b"app=a beat=1 loss=1_0", "bad_number"),
        (b"app=a event=join total_work=0", "bad_number"),
        (b"app=a event=join pid=0", "bad_number"),
        (b"app=a event=join pid=4294967296", "bad_number"),
    ],
)
def test_a_bad_line_is_refused_for_its_reason(line: bytes, expected: str):
    assert heard(line) == expected


def test_a_line_of_exactly_4096_bytes_is_read():
    line = b"app=a beat=1 loss=0."
    assert parse(line + b"1" * (4096 - len(line))).beat == 1


def test_it_keeps_to_the_syntax_of_python_3_6():
    source = Path(wire.__file__).read_text()
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__" not in source


def test_it_needs_the_standard_library_only():
    root = Path(wire.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import ceml.apps.wire; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
