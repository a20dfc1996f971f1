"""The C header and the shell functions: compiled and run for real. Skips by name where there is no compiler.

Not covered: `ceml client`, which prints them (tests/commands/test_client_command.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.apps.listening import Listener
from tests.conftest import ROOT

APPS = ROOT / "ceml" / "apps"
EXAMPLE = ROOT / "examples" / "10-c-and-shell"
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("CEML_")}

PROGRAM = r"""
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include "ceml_heartbeat.h"

static ceml_heartbeats hb;

static void *thousand(void *_) {
    for (int i = 0; i < 1000; i++) ceml_beat(&hb, 1);
    return _;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    setlocale(LC_ALL, "");
    if (!strcmp(what, "signals")) { /* a reader that leaves: SIGPIPE must not end us */
        ceml_attach(&hb, "signals", 0);
        ceml_beat(&hb, 1);
        puts("attached"), fflush(stdout);
        getchar(); /* now the reader is gone */
        for (int i = 0; i < 5; i++) ceml_beat(&hb, 1);
        sigset_t left;
        sigpending(&left);
        printf("alive, %s, unsaid %g\n", sigismember(&left, SIGPIPE) ? "pending" : "nothing pending", hb.work);
    } else if (!strcmp(what, "own")) { /* the program's own SIGPIPE stays the program's */
        sigset_t mask;
        ceml_attach(&hb, "own", 0);
        ceml_beat(&hb, 1);
        sigprocmask(SIG_SETMASK, NULL, &mask);
        printf("%d\n", sigismember(&mask, SIGPIPE));
        fflush(stdout);
        raise(SIGPIPE);
    } else if (!strcmp(what, "threads")) {
        pthread_t threads[4];
        ceml_attach(&hb, "threads", 4000);
        for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, thousand, NULL);
        for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    } else if (!strcmp(what, "fork")) {
        ceml_attach(&hb, "fork", 0);
        if (fork() == 0) {
            ceml_beat(&hb, 100);
            ceml_close(&hb);
            return 0;
        }
        wait(NULL);
        ceml_beat(&hb, 1);
    } else {
        ceml_attach(&hb, "a name/with: \xc3\xa4 much too long for one line of the protocol, so it is cut", 2.5);
        ceml_beat_metric(&hb, 1, "loss", 0.125);
        ceml_beat_metric(&hb, 0.5, "nan", NAN);
        ceml_beat_metric(&hb, 1, "tiny", 1e-300);
        ceml_beat(&hb, NAN), ceml_beat(&hb, -1), ceml_beat(&hb, 0), ceml_beat(&hb, INFINITY * 0);
        ceml_beat(&hb, 3e9);
    }
    ceml_close(&hb);
    ceml_close(&hb);
    return 0;
}
"""


def compiler(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip(f"no C compiler here ({', '.join(names)})")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    (folder / "program.c").write_text(PROGRAM)
    words = [compiler("gcc", "cc"), "-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O1", "-pthread", f"-I{APPS}"]
    done = subprocess.run([*words, "program.c", "-o", "program", "-lm"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def run(program: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=30, env=CLEAN | env)


@pytest.mark.parametrize(
    "words",
    [
        ["gcc", "-std=gnu99"],
        ["gcc", "-std=c99", "-pedantic", "-D_GNU_SOURCE"],
        ["gcc", "-std=gnu17", "-O2", "-fsanitize=undefined"],
        ["clang", "-std=gnu11"],
        ["g++", "-x", "c++", "-std=c++11"],
    ],
    ids=" ".join,
)
def test_the_example_compiles_without_a_warning(words: list[str], tmp_path: Path):
    strict = ["-Wall", "-Wextra", "-Werror", f"-I{APPS}", "-o", tmp_path / "work"]
    done = subprocess.run(
        [compiler(words[0]), *words[1:], *strict, EXAMPLE / "work.c"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_run_in_c_is_a_join_its_beats_and_a_leave(program: Path, pipe: Listener):
    assert run(program, CEML_PIPE=str(pipe.path)).returncode == 0
    (join,) = pipe.joins()
    assert (join.app, join.total_work) == ("a_name_with_____much_too_long_for_one_line_of_the_protocol__so_i", 2.5)
    assert pipe.work() == 3e9 + 2.5
    assert [beat.metrics for beat in pipe.beats()][:3] == [{"loss": 0.125}, {}, {"tiny": 1e-300}]
    assert all(beat.work <= 1e9 for beat in pipe.beats())
    assert pipe.leaves() == 1


def test_a_locale_with_a_decimal_comma_is_no_matter(program: Path, pipe: Listener):
    names = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    comma = next((name for name in names if name.startswith(("de_", "fr_", "es_", "it_", "nl_", "ru_"))), None)
    if comma is None:
        pytest.skip("no locale with a decimal comma is installed here")
    assert run(program, CEML_PIPE=str(pipe.path), LC_ALL=comma).returncode == 0
    assert pipe.beats()[0].metrics == {"loss": 0.125}


def test_a_reader_that_leaves_does_not_end_the_program(program: Path, pipe: Listener):
    process = subprocess.Popen(
        [program, "signals"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=CLEAN | {"CEML_PIPE": str(pipe.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "attached\n"
    os.close(pipe.fd)
    out, _ = process.communicate("\n", timeout=30)
    assert (process.returncode, out) == (0, "alive, nothing pending, unsaid 5\n")
    pipe.fd = os.open(pipe.path, os.O_RDWR | os.O_NONBLOCK)


def test_the_programs_own_sigpipe_stays_what_it_was(program: Path, pipe: Listener):
    done = run(program, "own", CEML_PIPE=str(pipe.path))
    assert (done.returncode, done.stdout) == (-13, "0\n")  # not blocked, and it ends the program, as it does by default


def test_threads_share_it_and_no_step_is_lost(program: Path, pipe: Listener):
    assert run(program, "threads", CEML_PIPE=str(pipe.path)).returncode == 0
    assert (pipe.work(), pipe.leaves()) == (4000, 1)


def test_a_forked_child_is_mute(program: Path, pipe: Listener):
    assert run(program, "fork", CEML_PIPE=str(pipe.path)).returncode == 0
    assert (pipe.work(), pipe.leaves()) == (1, 1)


@pytest.mark.parametrize("where", ["absent", "file", "x" * 5000])
def test_without_a_pipe_nothing_is_made_and_nothing_fails(program: Path, tmp_path: Path, where: str):
    (tmp_path / "file").write_text("precious")
    assert run(program, CEML_PIPE=str(tmp_path / where)).returncode == 0
    assert (tmp_path / "file").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_it_finds_the_pipe_of_the_session(program: Path, tmp_path: Path):
    (tmp_path / "ceml").mkdir()
    listener = Listener(tmp_path / "ceml" / "beats")
    assert run(program, "fork", XDG_RUNTIME_DIR=str(tmp_path)).returncode == 0
    assert listener.work() == 1
    listener.close()


def test_it_finds_the_pipe_of_a_named_runtime_directory_and_looks_nowhere_else(program: Path, tmp_path: Path):
    (tmp_path / "ceml").mkdir()
    named, session = Listener(tmp_path / "beats"), Listener(tmp_path / "ceml" / "beats")
    for elsewhere in (tmp_path, tmp_path / "none"):
        both = {"CEML_RUNTIME_DIR": str(elsewhere), "XDG_RUNTIME_DIR": str(tmp_path)}
        assert run(program, "fork", **both).returncode == 0
        words = ["sh", "-c", f". {APPS}/ceml_heartbeat.sh; ceml_beat script 1"]
        subprocess.run(words, env=CLEAN | both, check=True)
    assert (len(named.beats()), len(session.beats())) == (2, 0)
    named.close()
    session.close()


SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_example_beats_for_each_step(shell: str, pipe: Listener):
    done = subprocess.run(
        [shell, EXAMPLE / "work.sh", "5"], env=CLEAN | {"CEML_PIPE": str(pipe.path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done: 5 steps\n", "")
    assert [(beat.beat, beat.work, beat.metrics) for beat in pipe.beats()] == [
        (step, 1.0, {"share": 20.0 * step}) for step in range(1, 6)
    ]
    assert pipe.leaves() == 1


def test_the_shell_functions_never_wait_nor_make_a_file(tmp_path: Path):
    os.mkfifo(tmp_path / "unread")
    for where in ("unread", "absent"):
        env = CLEAN | {"CEML_PIPE": str(tmp_path / where)}
        done = subprocess.run(["sh", EXAMPLE / "work.sh", "2"], env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "done: 2 steps\n")
    assert [path.name for path in tmp_path.iterdir()] == ["unread"]


@pytest.mark.parametrize("shell", SHELLS)
def test_two_runs_of_a_script_are_two_runs_though_their_process_number_is_one(shell: str, pipe: Listener):
    for od in ("", "od() { return 1; };"):  # without `od` the clock tells them apart
        script = f". {APPS}/ceml_heartbeat.sh; ceml_beat a 1; (ceml_beat a 2)"
        anew = "date() { echo 1700000000; };" if od else ""
        subprocess.run([shell, "-c", f"{od} {script}; {anew} {script}"], env=CLEAN | {"CEML_PIPE": str(pipe.path)})
    sources = [beat.source for beat in pipe.beats()]
    assert sources[0::2] == sources[1::2]  # a subshell is the same run
    assert len(set(sources)) == 4
    assert all(len(source) == 8 and int(source, 16) >= 0 for source in sources)


def test_the_one_line_in_the_comment_works_as_it_stands(pipe: Listener):
    text = (APPS / "ceml_heartbeat.sh").read_text()
    (line,) = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#     [ -p")]
    script = f"set -eu; step=7; {line.replace('NAME', 'nightly')}"
    subprocess.run(["sh", "-c", script], env=CLEAN | {"CEML_PIPE": str(pipe.path)}, check=True)
    assert [(beat.app, beat.beat) for beat in pipe.beats()] == [("nightly", 7)]
    done = subprocess.run(["sh", "-c", script], env=CLEAN | {"CEML_PIPE": "/nonexistent"}, check=False)
    assert done.returncode == 0


def test_the_one_line_in_the_readme_beats_and_never_waits_for_a_reader_that_is_gone(pipe: Listener, tmp_path: Path):
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = [line.strip() for line in lines if line.startswith("    [ -p")]
    script = f"step=7; {line.replace('NAME', 'nightly')}"
    subprocess.run(["sh", "-c", script], env=CLEAN | {"CEML_PIPE": str(pipe.path)}, check=True)
    assert [(beat.app, beat.beat) for beat in pipe.beats()] == [("nightly", 7)]
    os.mkfifo(tmp_path / "left")  # what kill -9 leaves
    subprocess.run(["sh", "-c", script], env=CLEAN | {"CEML_PIPE": str(tmp_path / "left")}, timeout=20)
    subprocess.run(["sh", "-c", script], env=CLEAN | {"CEML_PIPE": str(tmp_path / "none")}, timeout=20)
    assert not (tmp_path / "none").exists()
