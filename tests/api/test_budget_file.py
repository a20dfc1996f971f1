"""The watched budget file, on a real file system in virtual time. Not covered: what a manager makes of new limits."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.api.budget_file import BudgetFile
from ceml.domain.events import BudgetChanged, BudgetRefused, Event
from ceml.domain.values import NO_LIMITS, Limits
from ceml.errors import SettingsError
from ceml.sources import changed_limits

BASE = Limits(power_cap_w=8.0, target_hz=2.0)
clock_ns = iter(range(10**18, 10**19, 10**9))


def write(path: Path, text: str | bytes) -> None:
    """In place; the clock of the file system ticks too seldom for virtual time."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    touched_ns = next(clock_ns)
    os.utime(path, ns=(touched_ns, touched_ns))


def replaced(path: Path, text: str) -> None:
    write(path.with_suffix(".new"), text)
    path.with_suffix(".new").replace(path)


class Force:
    """The limits in force, whoever asked for them last."""

    def __init__(self) -> None:
        self.limits = BASE
        self.heard: list[Event] = []

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, BudgetChanged):
            self.limits = event.limits


def lived(
    virtually,
    path: Path,
    story: Callable[[], Awaitable[None]],
    check: Callable[[Limits], None] = lambda limits: None,
    force: Force | None = None,
) -> list[Event]:
    force = force or Force()

    async def main() -> None:
        watcher = BudgetFile(path, check, lambda: force.limits)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: watcher.run(force.hear, task_status=task_status))
            await story()
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    virtually(main)
    return force.heard


async def nothing() -> None: ...


def test_what_it_says_at_the_start_is_said_before_anything_else(virtually, tmp_path: Path) -> None:
    write(tmp_path / "b.toml", 'budget = "6W"')
    (changed,) = lived(virtually, tmp_path / "b.toml", nothing)
    assert changed == BudgetChanged(
        at_s=0.0, limits=Limits(power_cap_w=6.0, target_hz=2.0), source=f"file {tmp_path / 'b.toml'}"
    )


def test_a_byte_order_mark_is_no_part_of_the_text(virtually, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b'\xef\xbb\xbfbudget = "6W"\r\n')
    (changed,) = lived(virtually, tmp_path / "b.toml", nothing)
    assert changed.limits.power_cap_w == 6.0


def test_without_a_file_the_settings_count_and_it_may_come_and_go(virtually, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"

    async def story() -> None:
        await anyio.sleep(3)
        write(path, 'budget = "none"\nrail_budget = ["gpu=3W"]')
        await anyio.sleep(3)
        path.unlink()
        await anyio.sleep(30)
        write(path, 'rail_budget = "none"')

    absent, came, gone, again = lived(virtually, path, story)
    assert isinstance(absent, BudgetRefused)
    assert f"{path} is not there" in absent.reason
    assert came.limits == Limits(rail_caps_w={"gpu": 3.0}, target_hz=2.0)
    assert isinstance(gone, BudgetRefused)
    assert again.limits == Limits(target_hz=2.0)


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (lambda path: write(path, ""), "no longer names budget"),
        (lambda path: write(path, "# budget = '6W'\n\n"), "no longer names budget"),
        (lambda path: replaced(path, ""), "no longer names budget"),
        (lambda path: path.unlink(), "is gone"),
    ],
)
def test_a_file_that_names_nothing_lifts_nothing_and_is_told_once_with_the_remedy(
    virtually, tmp_path: Path, lose: Callable[[Path], None], said: str
) -> None:
    path, force = tmp_path / "b.toml", Force()
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(3)
        force.limits = Limits(rail_caps_w={"gpu": 3.0})  # from the control socket
        lose(path)
        await anyio.sleep(30)
        write(path, "")
        await anyio.sleep(30)

    _, refused = lived(virtually, path, story, force=force)
    assert isinstance(refused, BudgetRefused)
    for words in (str(path), said, "what is in force stays", "ceml budget --clear", 'budget = "none"'):
        assert words in refused.reason
    assert force.limits == Limits(rail_caps_w={"gpu": 3.0})


def test_a_file_that_is_half_written_lifts_no_cap_and_says_what_it_no_longer_names(virtually, tmp_path: Path) -> None:
    path, force = tmp_path / "b.toml", Force()
    write(path, 'budget = "6W"\ntarget = "1/s"')
    seen: list[float | None] = []

    async def story() -> None:
        for text in ('target = "0.5/s"\n', 'target = "0.5/s"\nbudget = "5W"', 'budget = "5W"\ntarget = "none"'):
            write(path, text)
            await anyio.sleep(3)
            seen.append(force.limits.power_cap_w)

    heard = lived(virtually, path, story, force=force)
    assert seen == [6.0, 5.0, 5.0]
    assert force.limits == Limits(power_cap_w=5.0)
    (stays,) = [event for event in heard if isinstance(event, BudgetRefused)]
    assert "no longer names budget" in stays.reason


def test_a_file_made_anew_is_not_read_before_it_is_written(virtually, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(1.05)
        path.unlink()
        await anyio.sleep(0.4)
        for text in ("", "budget = ", 'budget = "6W"'):
            write(path, text)
            await anyio.sleep(0.08)

    assert [event.limits.power_cap_w for event in lived(virtually, path, story)] == [7.0, 6.0]


@pytest.mark.parametrize("save", [replaced, write])
def test_saving_the_same_text_again_is_a_wish_too_the_latest_wins(virtually, tmp_path: Path, save) -> None:
    path, force = tmp_path / "b.toml", Force()
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(3)
        force.limits = Limits(power_cap_w=12.0)  # from the control socket: the latest wish
        await anyio.sleep(3)
        assert force.limits == Limits(power_cap_w=12.0)
        save(path, 'budget = "7W"')

    _, again = lived(virtually, path, story, force=force)
    assert again.limits == force.limits == Limits(power_cap_w=7.0)


@pytest.mark.parametrize(("save", "latest_s"), [(replaced, 0.5), (write, 0.61)])
def test_both_ways_of_saving_are_noticed_at_once(virtually, tmp_path: Path, save, latest_s: float) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(1.7)
        save(path, 'budget = "6W"')

    _, changed = lived(virtually, path, story)
    assert changed.limits.power_cap_w == 6.0
    assert changed.at_s - 1.7 <= latest_s


def test_a_file_that_is_still_being_written_is_not_read(virtually, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(1.05)
        for text in ("", "budg", "budget = 1", 'budget = "12'):
            write(path, text)
            await anyio.sleep(0.09)
        write(path, 'budget = "12W"')

    assert [event.limits.power_cap_w for event in lived(virtually, path, story)] == [7.0, 12.0]


def test_a_file_that_is_written_to_for_ever_does_not_hold_the_watcher_up(virtually, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        for turn in range(2000):  # 100 Hz
            write(path, f'budget = "{8 + turn / 1000:.3f}W"')
            await anyio.sleep(0.01)

    heard = lived(virtually, path, story)
    assert 2 < len(heard) < 8
    assert heard[-1].limits.power_cap_w == 9.999


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('budget = "0W"', "budget = '0W' (from file"),
        ("budget = -3", "a power above 0"),
        ("budget = nan", "a power above 0"),
        ('budget = "8V"', "must be in W, mW or kW"),
        ('budget = "8W', "no valid TOML"),
        ('budgt = "8W"', "did you mean budget?"),
        ('objective = "edp"', "unknown limit 'objective'"),
        ("budget = {}", "a power above 0"),
        (b"\x7fELF\xff", "no text in UTF-8"),
        ("budget = " + "[" * 60_000, "nested too deeply"),
        ("#" * 70_000, "longer than 65536 bytes"),
        ("a\0b = 3", "no valid TOML"),
    ],
)
def test_what_is_no_good_is_refused_once_and_the_old_limits_stay(virtually, tmp_path: Path, text, says: str) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(3)
        write(path, text)
        await anyio.sleep(30)
        write(path, 'budget = "7W"')  # as before: nothing changed, nothing to say

    first, refused = lived(virtually, path, story)
    assert first.limits.power_cap_w == 7.0
    assert isinstance(refused, BudgetRefused)
    assert says in refused.reason
    assert str(path) in refused.reason


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_refused_and_never_waited_for(virtually, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "b.toml"
    write(path, 'budget = "7W"')

    async def story() -> None:
        await anyio.sleep(3)
        path.unlink()
        path.mkdir() if kind == "directory" else os.mkfifo(path)

    _, refused = lived(virtually, path, story)
    assert f"is a {kind}: give an ordinary file" in refused.reason


def test_a_file_of_a_gigabyte_is_not_read(virtually, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    (refused,) = lived(virtually, path, nothing)
    assert "longer than 65536 bytes" in refused.reason


def test_limits_that_the_board_cannot_keep_are_refused(virtually, tmp_path: Path) -> None:
    def check(limits: Limits) -> None:
        if limits.rail_caps_w:
            raise SettingsError("no such rail")

    write(tmp_path / "b.toml", 'rail_budget = ["npu=3W"]')
    (refused,) = lived(virtually, tmp_path / "b.toml", nothing, check)
    assert refused.reason == "no such rail"


values = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=2)


@given(st.dictionaries(st.sampled_from(["budget", "rail_budget", "target", "deadline", "x"]), values))
def test_any_table_gives_limits_or_words(said: dict[str, object]) -> None:
    try:
        limits = changed_limits(NO_LIMITS, said, "file b")
    except SettingsError as error:
        assert "file b" in str(error)  # noqa: PT017 - either is right, and Hypothesis chooses
    else:
        assert limits.deadline_s is None or limits.deadline_s > 0
