"""Files as sysfs has them: walls around errors, one write an order, putting back. Not covered: who calls this."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import CemlError, Refused, Temporary, Unavailable
from ceml.platforms import sysfs
from ceml.saved import Item
from ceml.testing.clocks import Clock
from ceml.testing.devfreq import Devfreq
from ceml.testing.fuse import available, mounted
from ceml.testing.kernel import FakeKernel

with_fuse = pytest.mark.skipif(available() is not None, reason=f"NO FUSE FACE HERE: {available()}")
TABLE = (100, 200, 300, 400, 500)
GPU = "/sys/class/devfreq/1.gpu"


def test_a_shorter_value_leaves_nothing_of_the_longer_one_and_no_file_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "value")
    Path(path).write_text("345600\n")
    sysfs.order(path, 99, knob="k")
    assert sysfs.number(path) == 99
    with pytest.raises(Temporary):
        sysfs.order(f"{path}2", 1, knob="k")
    assert not Path(f"{path}2").exists()


@given(content=st.binary(max_size=9000))
def test_whatever_a_file_holds_it_is_a_number_or_a_sentence(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "value"
    path.write_bytes(content)
    assert isinstance(sysfs.raw_read(str(path)), str)
    try:
        assert isinstance(sysfs.number(str(path)), int)
    except CemlError as error:
        assert "tried again" in str(error)  # noqa: PT017 - either outcome is right
    assert all(n >= 0 for n in sysfs.numbers(str(path)))


@with_fuse
@pytest.mark.parametrize(
    ("number", "reading", "writing"),
    [
        (errno.EAGAIN, Temporary, Temporary),
        (errno.EIO, Temporary, Temporary),
        (errno.EBUSY, Temporary, Temporary),
        (errno.ENODATA, Temporary, Temporary),
        (errno.ETIMEDOUT, Temporary, Temporary),
        (errno.ENODEV, Unavailable, Temporary),
        (errno.EACCES, Unavailable, Refused),
        (errno.EINVAL, Unavailable, Refused),
    ],
)
def test_what_the_kernel_says_becomes_what_to_do_next(tmp_path: Path, number, reading, writing) -> None:
    kernel = FakeKernel()
    kernel.add("/value", lambda: "1", lambda _text: None)
    kernel.fault("/value", number)
    kernel.fault("/value", number, on="write")
    with mounted(kernel, tmp_path):
        path = str(tmp_path / "value")
        with pytest.raises(reading, match="value"):
            sysfs.text(path)
        with pytest.raises(writing, match="does not take 7") as told:
            sysfs.order(path, 7, knob="gpu_hz")
        assert getattr(told.value, "knob", "gpu_hz") == "gpu_hz"


@with_fuse
@pytest.mark.parametrize("version", ["4.9", "6.1"])
@pytest.mark.parametrize("held", [100, 300, 500])
@pytest.mark.parametrize("prior", [(100, 100), (100, 200), (200, 400), (400, 500), (500, 500)])
@pytest.mark.parametrize("order", [("max_freq", "min_freq"), ("min_freq", "max_freq")])
def test_limits_are_put_back_from_anywhere_to_anywhere_in_either_order(
    tmp_path: Path, version, held: int, prior: tuple[int, int], order
) -> None:
    kernel, values = FakeKernel(), dict(zip(("min_freq", "max_freq"), prior, strict=True))
    gpu = Devfreq(version=version, name="1.gpu", clock=Clock(table=TABLE))
    gpu.install(kernel)
    gpu.limits.low = gpu.limits.high = held
    with mounted(kernel, tmp_path) as root:
        items = [Item(sysfs.KIND, f"{root}{GPU}/{name}", str(values[name])) for name in order]
        for _ in range(2):
            assert sysfs.put_back(items) == ()
            assert gpu.limits.effective == prior


@with_fuse
def test_one_value_that_will_not_go_back_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    kernel = FakeKernel()
    Devfreq(version="6.1", name="1.gpu", clock=Clock(table=TABLE), governor="performance").install(kernel)
    kernel.fault(f"{GPU}/max_freq", errno.EPERM, on="write")
    kernel.fault(f"{GPU}/min_freq", errno.EAGAIN, on="write", times=2)
    kernel.add("/deaf", lambda: "performance", lambda _text: None)  # says yes and does nothing, as devfreq can
    with mounted(kernel, tmp_path) as root:
        values = {f"{GPU}/max_freq": "400", f"{GPU}/min_freq": "200", "/deaf": "powersave", "/gone": "1"}
        items = [Item(sysfs.KIND, f"{root}{path}", value) for path, value in values.items()]
        left = sysfs.put_back([*items, Item("other", "x", "1"), Item(sysfs.KIND, f"{root}{GPU}/governor", None)])
        assert {Path(item.target).name for item in left} == {"max_freq", "deaf", "gone", "governor"}
        assert "reads performance" in next(item.reason for item in left if item.target.endswith("deaf"))
        assert sysfs.number(f"{root}{GPU}/min_freq") == 200


def test_values_that_say_that_there_is_none_are_not_kept(tmp_path: Path) -> None:
    for name, text in {"a": "5", "b": "<unsupported>", "c": "undefined", "d": ""}.items():
        (tmp_path / name).write_text(text)
    kept = sysfs.kept([str(tmp_path / name) for name in "abcde"])
    assert [(Path(item.target).name, item.value) for item in kept] == [("a", "5")]


def test_restore_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, ceml.commands.restore, ceml.platforms.sysfs\n"
        "print(sorted({'anyio', 'numpy', 'pydantic', 'structlog', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
