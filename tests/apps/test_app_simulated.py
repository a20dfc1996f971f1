"""The simulated program: pace, changes below it, signals, its load file. Not covered: the client itself, the daemon.

Where a pace is checked, it is checked in board time, which the program counts exactly; no wall clock is judged. A busy
machine that lets this process wait is no exception: only in the processes that the tests start is that time left out.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from ceml.apps import simulated
from ceml.apps.simulated import PacedBoard, Stop, plant_of, run
from ceml.errors import SettingsError, Unavailable
from ceml.plant.board import jetson_tx2
from ceml.store import board_file
from ceml.store.board_file import BoardFile

VIT = jetson_tx2("vit")
TOP = dict(VIT.space.configuration(VIT.space.max_state))
SLOW = TOP | {"gpu_hz": 420.75e6}
TOP_S, SLOW_S = (float(VIT.step_s[VIT.space.find(levels)]) for levels in (TOP, SLOW))
FAST_TIME = 200.0


def board(**changes) -> BoardFile:
    plain = BoardFile(
        plant={"kind": "jetson-tx2", "range": "paper"}, configuration=TOP, before=TOP, origin_s=1.0, speed=FAST_TIME
    )
    return replace(plain, **changes)


@pytest.fixture(autouse=True)
def unstopped(monkeypatch: pytest.MonkeyPatch):
    """Nobody stops this process: when it is woken late, because others run, it was working all the same."""
    monkeypatch.setattr(simulated, "STALL_S", math.inf)


@pytest.fixture
def running(tmp_path):
    """A runtime directory with a machine and a pipe that somebody listens to."""
    board_file.write(tmp_path / "board.json", board())
    os.mkfifo(tmp_path / "beats")
    reader = os.open(tmp_path / "beats", os.O_RDWR | os.O_NONBLOCK)
    yield tmp_path, reader
    os.close(reader)


def lines_of(reader: int) -> list[dict[str, str]]:
    text = b""
    while True:
        try:
            text += os.read(reader, 65536)
        except BlockingIOError:
            break
    return [dict(pair.split("=", 1) for pair in line.split()) for line in text.decode().splitlines() if line]


def test_it_joins_beats_once_a_step_in_board_time_and_leaves(running):
    directory, reader = running
    finished = run(directory, "vit", 40, noise_time=0.0)
    join, *beats, leave = lines_of(reader)
    assert (finished.steps, finished.reason, finished.app) == (40, "done", "vit")
    assert finished.seconds == pytest.approx(40 * TOP_S)
    assert (join["event"], join["app"], join["total_work"]) == ("join", "vit", "40")
    assert leave["event"] == "leave"
    times = [float(beat["t"]) for beat in beats]
    assert len(times) == 40
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([TOP_S] * 39, abs=2e-6)  # beats carry microseconds
    assert list((directory / "load").iterdir()) == []


def test_noise_is_of_mean_one_and_the_seeds(running):
    directory, _ = running
    first, again, other = (run(directory, "vit", 60, seed=seed, noise_time=0.05).seconds for seed in (1, 1, 2))
    assert first == pytest.approx(again)
    assert first != pytest.approx(other, rel=1e-6)
    assert first / 60 == pytest.approx(TOP_S, rel=0.03)


def paced(path, **changes) -> PacedBoard:
    board_file.write(path, board(**changes))
    return PacedBoard(path, "vit", 0.0)


def test_a_change_takes_effect_exactly_when_it_is_in_force_though_it_is_read_later(tmp_path):
    paced_board = paced(tmp_path / "board.json")
    began_s = paced_board.at_s
    change_s = began_s + 0.3 * TOP_S
    board_file.write(tmp_path / "board.json", board(configuration=SLOW, in_force_s=change_s))
    assert paced_board.step(1.0, Stop())
    assert paced_board.at_s - began_s == pytest.approx(0.3 * TOP_S + 0.7 * SLOW_S)
    assert paced_board.step(1.0, Stop())
    assert paced_board.at_s - began_s == pytest.approx(0.3 * TOP_S + 1.7 * SLOW_S)


def test_a_machine_that_vanishes_or_is_spoilt_stays_what_it_was(tmp_path):
    path = tmp_path / "board.json"
    paced_board = paced(path, configuration=SLOW)
    path.unlink()
    began_s = paced_board.at_s
    assert paced_board.step(1.0, Stop())
    path.write_text("nonsense")
    assert paced_board.step(1.0, Stop())
    board_file.write(path, board(plant={"kind": "jetson-tx2", "range": "full"}))
    assert paced_board.step(1.0, Stop())
    assert paced_board.at_s - began_s == pytest.approx(3 * SLOW_S)


def test_a_new_time_base_is_taken_over_and_the_program_goes_on_from_its_now(tmp_path):
    path = tmp_path / "board.json"
    paced_board = paced(path)
    board_file.write(path, board(origin_s=0.0, speed=2 * FAST_TIME))
    assert paced_board.step(0.001, Stop())
    assert paced_board.at_s == pytest.approx(2 * FAST_TIME * time.monotonic(), rel=0.01)


@contextmanager
def program(code: str, directory):
    """A process that runs `code` with the directory as its argument; killed at the latest when the test is over."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; directory = sys.argv[1]; " + code, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_time_that_a_program_was_stopped_is_not_worked_in(tmp_path):
    board_file.write(tmp_path / "board.json", board(speed=1.0, origin_s=0.0))
    code = "from ceml.apps.simulated import *; board = PacedBoard(Path(directory) / 'board.json', 'vit', 0.0); "
    code += "began_s = board.at_s; print('begun', flush=True); board.step(0.4, Stop()); print(board.at_s - began_s)"
    with program(code, tmp_path) as process:
        process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        took_s = float(process.stdout.read())
    assert took_s >= 0.4 * TOP_S + 0.25  # the work, and the stop on top


def test_a_program_told_to_stop_says_goodbye_and_takes_its_load_away(running):
    directory, reader = running
    board_file.write(directory / "board.json", board(speed=1.0))
    code = "from ceml.apps.simulated import run; done = run(directory, 'vit', 100000); print(done.reason, done.steps)"
    for number in (signal.SIGTERM, signal.SIGINT):
        with program(code, directory) as process:
            while not (seen := lines_of(reader)):
                time.sleep(0.01)
            assert seen[0]["event"] == "join"
            assert board_file.loads(directory / "load") == ("vit",)
            process.send_signal(number)
            reason, _ = process.stdout.read().split()
            assert (reason, process.wait()) == (number.name, 0)
        assert list((directory / "load").iterdir()) == []
        assert lines_of(reader)[-1]["event"] == "leave"


def test_it_waits_for_the_board_to_appear(tmp_path):
    path = tmp_path / "board.json"
    writer = threading.Timer(0.1, board_file.write, (path, board()))
    writer.start()
    assert PacedBoard(path, "vit", 30.0).plant.workload == "vit"
    writer.join()


def test_without_a_board_it_says_what_to_start(tmp_path):
    with pytest.raises(Unavailable, match=r"no simulated board at .*board.json after 0 s: start `ceml serve"):
        run(tmp_path, "vit", 10, wait_s=0.0)


def test_without_a_listener_it_runs_all_the_same(tmp_path):
    board_file.write(tmp_path / "board.json", board())
    assert run(tmp_path, "vit", 5).steps == 5


TABLE = "workload,batch,gpu_hz,step_s\nx,8,1e9,0.5\nx,8,2e9,0.25\nx,16,2e9,9\n"


def test_on_a_replayed_table_it_plays_the_table(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    plant = {"kind": "table", "table": str(tmp_path / "t.csv"), "workload": "x", "batch": 8.0}
    plant |= {"fix": [], "limit": ["gpu_hz=1GHz..2GHz"], "measured": False, "steps": 10}
    levels = {"gpu_hz": 2e9}
    board_file.write(tmp_path / "board.json", board(plant=plant, configuration=levels, before=levels))
    assert run(tmp_path, "x", 8, noise_time=0.0).seconds == pytest.approx(2.0)
    with pytest.raises(SettingsError, match="workload='vit': this board replays 'x' and nothing else"):
        run(tmp_path, "vit", 8)


@pytest.mark.parametrize(
    "description", [{}, {"kind": "table"}, {"kind": "jetson-tx2"}, {"kind": "table", "workload": "x"}]
)
def test_a_board_that_does_not_say_what_it_is_is_refused(description):
    with pytest.raises(SettingsError, match="does not say what board it is"):
        plant_of(description, "x")


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"noise_time": -1.0}, {"noise_time": float("nan")}, {"wait_s": -1.0}]
)
def test_numbers_out_of_range_are_named(tmp_path, options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        run(tmp_path, "vit", **{"steps": 1} | options)


def test_an_unknown_workload_is_answered_with_the_known_ones(tmp_path):
    board_file.write(tmp_path / "board.json", board())
    with pytest.raises(SettingsError, match=r"workload='bert'.*resnet50"):
        run(tmp_path, "bert", 1)


def test_a_new_server_with_an_earlier_board_time_takes_no_time_away(tmp_path):
    path = tmp_path / "board.json"
    paced_board = paced(path, origin_s=1.0, speed=50.0)  # has run for long: its time is far ahead
    assert paced_board.step(1.0, Stop())
    board_file.write(path, board(origin_s=time.monotonic(), speed=50.0))
    paced_board._look()
    assert paced_board.at_s - paced_board.began_s == pytest.approx(TOP_S)
    assert paced_board.step(1.0, Stop())
    assert paced_board.at_s - paced_board.began_s == pytest.approx(2 * TOP_S)
