"""Prints what each benchmark noted beside its timing (per beat, per second, with its goal), in words."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    benchmarks = [] if session is None else session.benchmarks
    noted = [bench for bench in benchmarks if bench.extra_info]
    if noted:
        terminalreporter.section("what the benchmarks noted")
    for bench in noted:
        words = ", ".join(f"{name} {value}" for name, value in bench.extra_info.items())
        terminalreporter.write_line(f"{bench.name.removeprefix('test_')}: {words}")
