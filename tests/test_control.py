"""The verbs that ask a running server, as a user types them: real processes, a real socket, a simulated board.

Not covered: the socket's own bounds and rights (tests/api/test_socket.py), what a pause is to a manager (tests/domain).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

from ceml.api.client import ask
from ceml.api.protocol import schema
from tests.test_serve import CEML, CLEAN, FAST, Server, app, ceml, serving, wait_until

VALIDATOR = jsonschema.Draft202012Validator(schema())


def asked(server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    return ceml(*words, "--runtime-dir", server.folder)


def told(server: Server, *words: object) -> str:
    done = asked(server, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def said(server: Server, verb: str, **fields: object) -> dict:
    """Without a process of its own: what is not the test's point."""
    return ask(server.folder / "control.sock", verb, **fields)


def status(server: Server) -> dict:
    return said(server, "status")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has decided for a program that goes on beating."""
    folder = tmp_path_factory.mktemp("tuned")
    with serving(folder, *FAST, "--detector", "difference") as server:
        program = app(folder, "--workload", "gpu-bound", "--steps", 10_000_000)
        wait_until(lambda: bool(server.events("decided")), "a decision")
        yield server
        program.terminate()
        program.communicate()
        server.end()


@pytest.fixture
def free(tuned: Server) -> Server:
    """The same, without limits and with the first objective; the record, which gathers a moment, holds that, too."""
    said(tuned, "resume")
    said(tuned, "budget", clear=True)
    before = len(tuned.events("objective_changed"))
    said(tuned, "objective", objective="energy")
    wait_until(lambda: len(tuned.events("objective_changed")) > before, "the objective in the record")
    return tuned


def test_status_tells_people_and_programs(free: Server):
    told(free, "budget", "8W", "--target", "0.1/s")
    words = told(free, "status")
    for word in ("phase", "gpu-bound", "simulated", "energy", "steps/s", "J/step", "power cap 8 W", "headroom"):
        assert word in words
    figures = json.loads(told(free, "status", "--json"))
    VALIDATOR.validate({"ok": True, "version": 1, "server": "0", "result": figures})
    assert figures["rails_w"]["total"] > 0
    assert figures["configuration"].keys() == free.board.keys()
    assert 0 < next(each for each in figures["limits"] if each["name"] == "power cap 8 W")["headroom"] < 1


def test_status_watch_goes_on_until_the_reader_leaves(free: Server):
    words = [*CEML, "status", "--watch", "--json", "--runtime-dir", str(free.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=CLEAN) as watching:
        assert watching.stdout is not None
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    assert second["at_s"] > first["at_s"]


def test_a_budget_is_planned_for_at_once_and_nothing_is_profiled_again(free: Server):
    before = len(free.events())
    power_w = status(free)["decided"]["power_w"]
    cap_w = 0.8 * power_w
    said = told(free, "budget", f"{cap_w:.3f}W")
    assert f"power cap {float(f'{cap_w:.3f}'):g} W" in said
    wait_until(lambda: free.board == status(free)["decided"]["configuration"], "the new configuration")
    assert status(free)["decided"]["power_w"] <= cap_w
    since = free.events()[before:]
    assert not [e for e in since if e["event"] == "window_closed" and e["phase"] == "profiling"]
    changed = [e for e in since if e["event"] == "budget_changed"][-1]
    assert changed["source"].startswith(f"socket, user {os.geteuid()}, process ")


def test_limits_add_up_until_they_are_lifted(free: Server):
    told(free, "budget", "9")  # a number alone is in W
    told(free, "budget", "--rail", "gpu=3W", "--rail", "cpu=2W")
    said = told(free, "budget", "--max-slowdown", "10%", "--perf", "30/min")
    for name in ("power cap 9 W", "3 W of rail gpu", "2 W of rail cpu", "max slowdown 10 %", "target 0.5 steps/s"):
        assert name in said
    said = told(free, "budget", "none", "--rail", "none")
    assert "power cap" not in said
    assert "target 0.5 steps/s" in said
    assert "deadline 300 s" in told(free, "budget", "--clear", "--deadline", "5min")
    assert told(free, "budget", "--clear") == told(free, "budget") == "limit  none\n"


def test_two_who_name_different_limits_at_once_both_get_theirs(free: Server):
    for _ in range(5):
        told(free, "budget", "--clear")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda words: told(free, "budget", *words), [("9W",), ("--target", "0.5/s")]))
        assert {each["name"] for each in status(free)["limits"]} == {"power cap 9 W", "target 0.5 steps/s"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["budget", "0W"], "must be a power above 0"),
        (["budget", "-3W"], "budget = '-3W' (from control socket): must be a power above 0 such as 8W"),
        (["budget", "--", "-3W"], "must be a power above 0"),
        (["budget", "0"], "budget = '0' (from control socket): must be a power above 0 such as 8W"),
        (["budget", "--rail", "gpu=-3W"], "rail_budget = ['gpu=-3W'] (from control socket): must be a power above 0"),
        (["budget", "--perf", "-2/s"], "target = '-2/s' (from control socket): must be a number of steps per time"),
        (["budget", "8GW"], "must be in W, mW or kW, not in GW"),
        (["budget", "NaN"], "must be a power above 0"),
        (["budget", "1e999W"], "must be a power above 0"),
        (["budget", "8V"], "must be in W, mW or kW"),
        (["budget", "--target", "0/s"], "must be a number of steps per time above 0"),
        (["budget", "--max-slowdown=-1%"], "must be a share"),
        (["budget", "--rail", "gpu"], "must be RAIL=POWER"),
        (["budget", "--rail", "nix=3W"], "measures no rail nix"),
        (["budget", "--rail", "gpu=3W", "--rail", "gpu=4W"], "name each rail once"),
        (["budget", "--max-temperature", "80C"], "measures no temperature"),
        (["objective", "nonsense"], "known are"),
        (["objective", "carbon:intensity=/etc/passwd"], "must be KEY=NUMBER"),
        (
            ["objective", "./own.py:make"],
            "it is a file, and those are for the start: ceml serve --objective ./own",
        ),
        (["objective", "own.py"], "name an installed one"),
        (["objective", "min_energy:max_slowdown=-1"], "max_slowdown"),
        (["explain", "--top", "0"], "top"),
        (["status", "--timeout-s", "nan"], "--timeout-s"),
    ],
)
def test_what_is_no_good_is_refused_with_a_sentence_and_changes_nothing(free: Server, words: list[str], reason: str):
    said(free, "budget", limits={"budget": "20W"})
    done = asked(free, *words) if "--" not in words else asked_before_dashes(free, words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert all(line.startswith("ceml: ") for line in done.stderr.splitlines())
    after = status(free)
    assert [each["name"] for each in after["limits"]] == ["power cap 20 W"]
    assert after["objective"] == "energy"


def asked_before_dashes(server: Server, words: list[str]) -> subprocess.CompletedProcess[str]:
    return ceml(words[0], "--runtime-dir", server.folder, *words[1:])


def test_what_cannot_hold_is_said(free: Server):
    assert "power cap 0.1 W cannot hold" in told(free, "budget", "100mW")


def test_an_objective_is_switched_without_profiling(free: Server):
    before = len(free.events())
    assert told(free, "objective", "performance") == told(free, "objective") == "objective  performance\n"
    wait_until(  # in the record: at this speed the next decision follows at once
        lambda: any("objective changed" in e["why"] for e in free.events()[before:] if e["event"] == "decided"),
        "the decision",
    )
    since = free.events()[before:]
    assert not [e for e in since if e["event"] == "window_closed" and e["phase"] == "profiling"]
    assert [e["objective"] for e in since if e["event"] == "objective_changed"] == ["performance"]
    assert told(free, "objective", "min_energy:max_slowdown=0.05") == "objective  min_energy:max_slowdown=0.05\n"
    assert "max slowdown 5 %" in [each["name"] for each in status(free)["limits"]]


def test_explain_tells_candidates_margins_measurements_and_parameters(free: Server):
    told(free, "budget", "30W")
    words = told(free, "explain", "--top", "3")
    for word in ("candidates", "power cap 30 W", "left", "measured, the latest first", "the model's numbers", "paper"):
        assert word in words
    figures = json.loads(told(free, "explain", "--json", "--top", 50))

    def the_best_is_what_was_decided() -> bool:
        """Decided anew each time, since later windows may favour another by less than a change is worth."""
        for watts in ("31W", "30W"):
            said(free, "budget", limits={"budget": watts})
        figures.update(said(free, "explain", top=50))
        best, decided = figures["candidates"][0], status(free)["decided"]
        return decided is not None and best["in_force"] and best["configuration"] == decided["configuration"]

    wait_until(the_best_is_what_was_decided, "an explanation of what is in force")
    VALIDATOR.validate({"ok": True, "version": 1, "server": "0", "result": figures})
    best = figures["candidates"][0]
    assert best["margins"]["power cap 30 W"] == pytest.approx(1 - best["power_w"] / 30, abs=1e-6)
    assert len(figures["candidates"]) == 50
    assert len(figures["measured"]) == figures["measured_states"] >= 7, "the seven, and where a guard stepped"
    assert figures["parameters"]


def test_a_pause_puts_the_knobs_back_and_a_resumption_takes_them_again(free: Server):
    found = free.events("run_started")[0]["found"]
    assert "paused" in told(free, "pause")
    wait_until(lambda: free.board == found, "the prior values")
    told(free, "budget", "7W")
    assert free.board == found
    assert status(free)["phase"] == "paused"
    lines = dict(line.split(None, 1) for line in told(free, "status").replace("running at", "running").splitlines())
    assert "(as they were found: control is paused" in lines["running"]
    assert re.search(r"steps/s.* at cpu .*\(before the pause\)$", lines["measured"])
    assert lines["limit"].endswith("(now, while paused)")
    assert " states since gpu-bound came or last changed; " in lines["tried"]
    before = len(free.events())
    assert told(free, "resume") == "resumed\n"
    wait_until(lambda: status(free)["decided"]["configuration"] == free.board != found, "the configuration chosen")
    wait_until(lambda: told(free, "status").startswith("phase       settled, program gpu-bound"), "that it is settled")
    assert "pause" not in told(free, "status").partition("because")[0]

    def windows() -> list[dict]:
        return [event for event in free.events()[before:] if event["event"] == "window_closed"]

    wait_until(lambda: bool(windows()), "a window")
    assert windows()[0]["phase"] == "idle", (
        "it goes on where it was; later it may try what the exploration budget allows"
    )


def test_a_hundred_at_once_are_answered_while_noise_comes_in(free: Server):
    with socket.socket(socket.AF_UNIX) as noise, socket.socket(socket.AF_UNIX) as silent:
        for link in (noise, silent):
            link.connect(str(free.folder / "control.sock"))
        noise.sendall(os.urandom(60_000).replace(b"\n", b"") + b"\n")
        before = status(free)["steps"]
        code = (
            "import sys; from pathlib import Path; from ceml.api.client import ask; from concurrent.futures import "
            "ThreadPoolExecutor\nwith ThreadPoolExecutor(100) as pool: print(len(list(pool.map(lambda _: "
            "ask(Path(sys.argv[1]), 'explain', timeout_s=60), range(100)))))"
        )
        words = [sys.executable, "-c", code, str(free.folder / "control.sock")]
        assert subprocess.run(words, capture_output=True, text=True, timeout=120).stdout == "100\n"
    wait_until(lambda: status(free)["steps"] > before, "more beats")
    assert free.process.poll() is None
    assert not free.events("events_missed")


def test_without_a_program_all_verbs_answer(tmp_path: Path):
    with serving(tmp_path, *FAST) as server:
        assert "waiting" in told(server, "status")
        assert "no program" in told(server, "explain")
        assert "power cap 8 W" in told(server, "budget", "8W")
        told(server, "objective", "edp")
        told(server, "pause")
        program = app(tmp_path, "--workload", "gpu-bound", "--steps", 10_000_000)
        wait_until(lambda: status(server)["app"] == "gpu-bound", "the program")
        wait_until(lambda: status(server)["steps"] > 5, "some steps")
        assert not server.events("configuration_applied")
        told(server, "resume")
        wait_until(lambda: bool(server.events("decided")), "a decision")
        program.terminate()
        program.communicate()
        assert server.end()[0] == 0
    assert not (tmp_path / "control.sock").exists()


def test_after_a_crash_the_socket_is_taken_over(tmp_path: Path):
    with serving(tmp_path, *FAST) as server:
        server.end(signal.SIGKILL)
    assert (tmp_path / "control.sock").is_socket()
    done = ceml("status", "--runtime-dir", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no server" in done.stderr
    with serving(tmp_path, *FAST) as server:
        assert status(server)["phase"] == "waiting"


def test_a_server_whose_socket_path_is_taken_says_so_and_does_not_start(tmp_path: Path):
    (tmp_path / "control.sock").write_text("mine")
    done = ceml("serve", "--runtime-dir", tmp_path)
    assert done.returncode == 2
    assert "there is something else at this path" in done.stderr
    assert (tmp_path / "control.sock").read_text() == "mine"
    assert not (tmp_path / "beats").exists()
