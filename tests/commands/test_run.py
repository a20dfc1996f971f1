"""`ceml run -- PROGRAM`: real programs, real signals, a real terminal. Not covered: what is tuned (test_serve)."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_serve import CEML, CLEAN, FAST, wait_until

BEATS = "import ceml, sys\nwith ceml.attach('mine', total_work=20) as hb:\n    for _ in range(20): hb.beat(loss=0.5)\n"
TRAPS = """
import signal, sys, time
heard = []
def told(number, frame):
    heard.append(signal.Signals(number).name)
    print(heard[-1], flush=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, told)
print("ready", flush=True)
until = time.monotonic() + 60
while not ("SIGTERM" in heard or len(heard) >= 2) and time.monotonic() < until:
    time.sleep(0.01)
time.sleep(0.1)  # one more would still be heard
sys.exit(40 + len(heard))
"""


def words(folder: Path, *options: object, program: list[object]) -> list[str]:
    return [*CEML, "run", "--runtime-dir", str(folder), *map(str, options), "--", *map(str, program)]


def run(folder: Path, *options: object, program: list[object], **more: object) -> subprocess.CompletedProcess[str]:
    env = CLEAN | {"XDG_STATE_HOME": str(folder / "state")}
    command = words(folder, *options, program=program)
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, **more)  # type: ignore[call-overload]


def started(folder: Path, *options: object, program: list[object], **more: object) -> subprocess.Popen[str]:
    command = words(folder, *options, program=program)
    env = CLEAN | {"XDG_STATE_HOME": str(folder / "state")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **more)  # type: ignore[call-overload]


def events(record: Path, kind: str) -> list[dict]:
    lines = map(json.loads, record.read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


def test_a_program_is_tuned_from_its_start_to_its_end_and_the_knobs_are_put_back(tmp_path: Path):
    record = tmp_path / "run.jsonl"
    program = [*CEML, "app", "--workload", "gpu-bound", "--steps", 300]
    done = run(tmp_path, *FAST, "--record", record, program=program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpu-bound: 300 of 300 steps")  # what it prints is all there is on standard output
    assert len(done.stdout.splitlines()) == 1
    assert "J/step" in done.stderr
    assert events(record, "decided")
    assert events(record, "run_ended")[0]["reason"] == "program done"
    top = {"cpu_hz": 2035200000.0, "gpu_hz": 1300500000.0, "mem_hz": 1866000000.0}
    assert json.loads((tmp_path / "board.json").read_text())["configuration"] == top
    assert not {"beats", "journal.json", "control.sock"} & {path.name for path in tmp_path.iterdir()}


def test_attach_finds_the_pipe_by_itself(tmp_path: Path):
    record = tmp_path / "run.jsonl"
    options = ["--record", record, "--record-level", "all", "--workload", "lstm"]
    done = run(tmp_path, *options, program=[sys.executable, "-c", BEATS])
    assert done.returncode == 0, done.stderr
    assert sum(beat["work"] for beat in events(record, "heartbeat")) == 20
    assert events(record, "app_joined")[0]["total_work"] == 20


def test_a_clock_that_only_our_program_keeps_is_said_of_others(tmp_path: Path):
    assert "keeps to" in run(tmp_path, "--speed", 9, program=["true"]).stderr
    own = [*CEML, "app", "--workload", "gpu-bound", "--steps", 3]
    assert "keeps to" not in run(tmp_path, *FAST, program=own).stderr


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_status_is_the_programs(tmp_path: Path, script: str, status: int):
    done = run(tmp_path, program=["sh", "-c", script])
    assert done.returncode == status
    assert "no heartbeat came" in done.stderr


def test_its_words_and_its_input_are_passed_on_untouched(tmp_path: Path):
    program = ["sh", "-c", 'printf "%s|" "$@"; cat', "-", "--lr", "-3", "--", "--budget", "x y", ""]
    done = run(tmp_path, "--quiet", program=program, input="and its input")
    assert (done.stdout, done.stderr) == ("--lr|-3|--|--budget|x y||and its input", "")


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("no-such-program", 127, "there is no such program"),
        ("./absent", 127, "there is no such program"),
        ("{here}", 126, "it is a directory"),
        ("{here}/plain", 126, "not executable: chmod +x"),
        ("{here}/broken", 126, "exec format error"),
        ("{here}/orphan", 127, "no such file"),
    ],
)
def test_what_cannot_be_started_is_said_in_one_line(tmp_path: Path, name: str, status: int, why: str):
    for file, text, mode in (
        ("plain", "text", 0o644),
        ("broken", "no program\n", 0o755),
        ("orphan", "#!/no/such/interpreter\n", 0o755),
    ):
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(mode)
    done = run(tmp_path, "--quiet", program=[name.format(here=tmp_path)])
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("ceml: cannot start ")
    assert why in line
    assert not (tmp_path / "journal.json").exists()


def test_without_a_program_it_says_how_to_name_one(tmp_path: Path):
    done = subprocess.run([*CEML, "run", "--runtime-dir", str(tmp_path)], capture_output=True, text=True, env=CLEAN)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "ceml run -- python train.py" in done.stderr


@pytest.mark.parametrize("option", ["--budget=8V", "--objective=nonsense", "--platform=nonsense"])
def test_where_ceml_cannot_start_neither_does_the_program(tmp_path: Path, option: str):
    done = run(tmp_path, option, program=["touch", tmp_path / "ran"])
    assert done.returncode == 2
    assert all(line.startswith("ceml: ") for line in done.stderr.splitlines())
    assert not (tmp_path / "ran").exists()


def test_a_second_one_on_the_same_machine_is_refused(tmp_path: Path):
    first = started(tmp_path, program=[sys.executable, "-c", TRAPS])
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    second = run(tmp_path, program=["touch", tmp_path / "ran"])
    assert second.returncode == 2
    assert not (tmp_path / "ran").exists()
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)
    assert first.returncode == 41


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_are_passed_on_and_the_program_decides(tmp_path: Path, number: signal.Signals):
    process = started(tmp_path, program=[sys.executable, "-c", TRAPS], start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"{number.name}\n"
    if number != signal.SIGTERM:  # it did not end: we go on, too
        assert process.poll() is None
        process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (41 if number == signal.SIGTERM else 42)
    assert not (tmp_path / "beats").exists()


def test_ctrl_c_in_a_terminal_is_heard_once(tmp_path: Path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.clear()
        os.environ.update(CLEAN)
        command = words(tmp_path, "--quiet", program=[sys.executable, "-c", TRAPS])
        os.execv(command[0], command)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    while b"SIGINT" not in said:
        said += os.read(terminal, 4096)
    time.sleep(0.3)  # a second one would arrive now, and end the program with 42
    os.write(terminal, b"\x1c")  # the other key, Ctrl-\
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
    except OSError:  # the terminal is closed
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 42
    assert said.count(b"SIGINT") == 1
    assert said.count(b"SIGQUIT") == 1


def test_under_nohup_a_closed_terminal_ends_neither(tmp_path: Path):
    deaf = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None  # noqa: E731
    program = ["sh", "-c", "echo ready; read line; exit 9"]
    process = started(tmp_path, program=program, preexec_fn=deaf, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate("\n", timeout=30)
    assert process.returncode == 9


FAILS_LATER = """
class Fails:
    constraints = ()
    calls = 0
    def cost(self, predicted, now):
        Fails.calls += 1
        if Fails.calls > 3:
            raise RuntimeError("out of ideas")
        return predicted.power_w / predicted.rate_hz
def fails():
    return Fails()
"""


def test_where_ceml_fails_on_the_way_the_program_runs_on(tmp_path: Path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(FAILS_LATER)
    program = [*CEML, "app", "--workload", "gpu-bound", "--steps", 400]
    script = 'err=$1; shift; "$@"; touch "$err"; exit 3'
    options = [*FAST, "--objective", f"{plugin}:fails"]
    done = run(tmp_path, *options, program=["sh", "-c", script, "-", tmp_path / "finished", *program])
    assert done.returncode == 3
    assert "out of ideas" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "finished").exists()
    assert not (tmp_path / "journal.json").exists()


def test_it_leaves_news_to_verbose(tmp_path: Path):
    process = started(tmp_path, "--verbose", program=["true"])
    wait_until(lambda: process.poll() is not None, "the end")
    _, err = process.communicate()
    assert "ready" in err


# A program that the platform must know --------------------------------------------------------------------------------

WORKS = """
import ceml, os, sys
with ceml.attach("works") as heartbeats:
    for _ in range(int(sys.argv[1])):
        sum(number * number for number in range(20000))
        heartbeats.beat()
print(open("/proc/self/cgroup").read())
"""
several = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="ONE PROCESSOR: nothing to turn")


@several
def test_where_the_platform_turns_a_program_it_is_the_one_that_is_run(tmp_path: Path):
    record = tmp_path / "run.jsonl"
    options = ["--platform", "bandwidth:idle_w=3", "--record", record, "--longest-stay-s", 0.3]
    done = run(tmp_path, *options, program=[sys.executable, "-c", WORKS, 1200])
    assert done.returncode == 0, done.stderr
    (started,) = events(record, "run_started")
    assert int(started["board"]["pid"]) > 1
    assert "cpu_cores" in started["knobs"]
    assert len(events(record, "configuration_applied")) > 1
    if f"/ceml-{started['board']['pid']}" in done.stdout:  # as root: its share of time, too
        assert "cpu_share" in started["knobs"]
        assert not list(Path("/sys/fs/cgroup").glob(f"**/ceml-{started['board']['pid']}"))
    else:
        assert os.geteuid() != 0 or "cpu_share" not in started["knobs"]


@several
def test_a_program_that_was_held_for_nothing_never_runs(tmp_path: Path):
    mark = tmp_path / "mark"
    done = run(tmp_path, "--platform", "bandwidth", "--objective", "none", program=["sh", "-c", f"touch {mark}"])
    assert (done.returncode, mark.exists()) == (2, False)
    assert "no objective is called 'none'" in done.stderr


@several
@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -PIPE $$", 141)])
def test_a_program_that_was_held_is_the_program_itself(tmp_path: Path, script: str, status: int):
    done = run(tmp_path, "--platform", "bandwidth", "--quiet", program=["sh", "-c", f"echo $CEML_PIPE; {script}"])
    assert (done.returncode, done.stdout) == (status, f"{tmp_path}/beats\n"), done.stderr


@several
def test_an_interpreter_that_is_not_there_is_said_as_a_shell_does(tmp_path: Path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run(tmp_path, "--platform", "bandwidth", "--quiet", program=[script])
    assert done.returncode == 127
    assert f"cannot start '{script}'" in done.stderr


# A plugin that fails while the program runs ---------------------------------------------------------------------------

FAILS = """
from ceml.domain.response.paper import paper
class Mine:
  inside = paper()
  def fit(self, space, observations, **options):
    if observations:
      {fault}
    return self.inside.fit(space, observations, **options)
def mine():
  return Mine()
"""


@pytest.mark.parametrize(
    ("fault", "words"), [("1 / 0", "ZeroDivisionError"), ("raise KeyboardInterrupt", "KeyboardInterrupt")]
)
def test_whatever_becomes_of_us_the_exit_status_is_the_programs_and_the_record_says_why(
    tmp_path: Path, fault: str, words: str
):
    plugin, record = tmp_path / "mine.py", tmp_path / "run.jsonl"
    plugin.write_text(FAILS.format(fault=fault))
    app = [*CEML, "app", "--workload", "gpu-bound", "--steps", "300"]
    script = f"{' '.join(app)} > /dev/null; exit 7"
    options = [*FAST[2:], "--model", f"{plugin}:mine", "--sampler", "paper", "--record", record]
    done = run(tmp_path, *options, program=["sh", "-c", script])
    assert done.returncode == 7, done.stderr
    assert words in done.stderr
    assert "the program runs on without ceml" in done.stderr
    (ended,) = events(record, "run_ended")
    assert ended["reason"].startswith("failed: ")
    if fault == "1 / 0":
        assert "mine.py line 7 raised ZeroDivisionError" in ended["reason"]
    assert not (tmp_path / "journal.json").exists()


def test_what_takes_the_place_of_a_deaf_run_ends_as_its_program_does(tmp_path: Path):
    """Restoring, then waiting for a child that was ours before: by the very command line that `Ending` execs."""
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(['sh', '-c', 'sleep 0.3; ' + sys.argv[2]])\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'ceml', 'restore', '--runtime-dir', sys.argv[1],\n"
        "         '--ends-with', '2', '--wait-for', str(child.pid)])\n"
    )
    for script, status in (("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)):
        command = [sys.executable, "-c", code, str(tmp_path), script]
        assert subprocess.run(command, env=CLEAN, timeout=30, capture_output=True).returncode == status
