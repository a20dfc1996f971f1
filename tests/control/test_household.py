"""The household: readiness, incidents, patience.

Not covered here: what the actors of the running house do (their own tests).
"""

from __future__ import annotations

import anyio
import pytest
import structlog

from ceml.control.household import Household, keep
from ceml.errors import CemlError, Temporary


def leaves(error: BaseException) -> list[BaseException]:
    inner = getattr(error, "exceptions", None)
    return [error] if inner is None else [leaf for child in inner for leaf in leaves(child)]


def test_start_returns_when_the_actor_is_ready(virtually) -> None:
    ready_at: list[float] = []

    async def actor(*, task_status) -> None:
        await anyio.sleep(3)
        task_status.started()
        await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await Household(group).start("slow starter", actor)
            ready_at.append(anyio.current_time())
            group.cancel_scope.cancel()

    virtually(main)
    assert ready_at == [3.0]


def test_an_eternal_task_that_ends_is_an_incident(virtually) -> None:
    async def actor(*, task_status) -> None:
        task_status.started()

    async def main() -> None:
        await keep("short lived", actor)

    with pytest.raises(CemlError, match="short lived ended by itself"):
        virtually(main)


def test_a_temporary_failure_starts_it_again_with_growing_patience(virtually) -> None:
    tries: list[float] = []

    async def actor(*, task_status) -> None:
        tries.append(anyio.current_time())
        task_status.started()
        if len(tries) < 4:
            raise Temporary("not now", delay_s=1.0)
        await anyio.sleep_forever()

    async def main() -> None:
        with structlog.testing.capture_logs() as logs, anyio.move_on_after(100):
            await keep("flaky", actor)
        assert [log["again_in_s"] for log in logs] == [1.0, 2.0, 4.0]

    virtually(main)
    assert tries == [0.0, 1.0, 3.0, 7.0]


def test_any_other_error_ends_the_group(virtually) -> None:
    async def actor(*, task_status) -> None:
        task_status.started()
        raise RuntimeError("a bug")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await Household(group).start("buggy", actor)
            await anyio.sleep_forever()

    with pytest.raises(BaseException) as caught:  # noqa: PT011  (a group: looked into below)
        virtually(main)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]


@pytest.mark.parametrize("kind", ["asyncio.CancelledError", "KeyboardInterrupt"])
def test_a_plugin_that_plays_the_loop_or_the_keyboard_is_an_incident_with_its_place(virtually, kind: str) -> None:
    plugin = {"__name__": "ceml_plugin_bad"}
    exec(compile(f"import asyncio\ndef ask():\n    raise {kind}", "bad.py", "exec"), plugin)

    async def actor(*, task_status) -> None:
        task_status.started()
        await anyio.sleep(1)
        plugin["ask"]()  # type: ignore[operator]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await Household(group).start("asker", actor)

    with pytest.raises(Exception) as raised:  # noqa: PT011 - a group of errors, of a class that 3.10 does not have
        virtually(main)
    (leaf,) = leaves(raised.value)
    assert isinstance(leaf, CemlError)
    assert str(leaf).startswith(f"bad.py line 3 raised {kind.rpartition('.')[2]}")


def test_who_is_cancelled_inside_a_plugin_just_ends(virtually) -> None:
    plugin = {"__name__": "ceml_plugin_slow", "anyio": anyio}
    exec(compile("async def read():\n    await anyio.sleep(60)", "slow.py", "exec"), plugin)

    async def actor(*, task_status) -> None:
        task_status.started()
        await plugin["read"]()  # type: ignore[operator]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await Household(group).start("reader", actor)
            group.cancel_scope.cancel()

    virtually(main)
