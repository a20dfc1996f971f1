"""The page's server, as programs meet it: a real `ceml serve --web` with a program that goes on beating.

Not covered: what a browser makes of it (test_page.py), the bounds of connections (tests/api/test_http.py).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from tests.screens.page_of import JSON, TOKEN, ask, frames, get, port_of, until
from tests.test_serve import CLEAN, FAST, Server, app, ceml, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("web")
    with serving(folder, *FAST, "--web", "127.0.0.1:0", "--web-token", TOKEN) as server:
        program = app(folder, "--workload", "gpu-bound", "--steps", 10_000_000)
        wait_until(lambda: bool(server.events("decided")), "a decision")
        yield server
        program.terminate()
        program.communicate()
        assert server.end()[0] == 0
        assert "Traceback" not in server.log.read_text()


@pytest.fixture
def port(server: Server) -> int:
    return port_of(server)


def test_frames_are_whole_and_move(port: int):
    seen = frames(port)
    first, second = next(seen), next(seen)
    seen.close()
    for frame in (first, second):
        assert frame["writable"]
        assert frame["status"]["app"] == "gpu-bound"
        assert frame["status"]["power_w"] == pytest.approx(frame["status"]["rails_w"]["total"])
        assert frame["status"]["happened"]
    assert first["run"] == second["run"]
    assert second["status"]["at_s"] > first["status"]["at_s"]


def test_a_budget_asked_for_here_is_in_force_and_shown(server: Server, port: int):
    status, told = ask(port, {"version": 1, "verb": "budget", "limits": {"budget": "9W"}})
    assert (status, told["ok"], told["result"]["limits"]) == (200, True, ["power cap 9 W"])
    until(port, lambda frame: frame["status"]["budget_w"] == 9.0)
    wait_until(lambda: bool(server.events("budget_changed")), "the record")
    assert server.events("budget_changed")[-1]["source"].startswith("web, 127.0.0.1:")
    assert ask(port, {"version": 1, "verb": "budget", "clear": True})[1]["result"]["limits"] == []


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "not the token"),
        ({"Authorization": "Bearer wrong"}, 401, "not the token"),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401, "not the token"),
        ({"Authorization": "Bearer \xe9\xe9"}, 401, "not the token"),
        ({"Authorization": "Basic " + b64encode(f"me:{TOKEN}".encode()).decode()}, 401, "not the token"),
        ({"Content-Type": "text/plain"}, 415, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Origin": "http://evil.example"}, 403, "may not ask here"),
        ({"Origin": "null"}, 403, "may not ask here"),
    ],
)
def test_who_may_not_changes_nothing(server: Server, port: int, headers: dict[str, str], status: int, reason: str):
    wish = {"version": 1, "verb": "budget", "limits": {"budget": "5W"}}
    base = {key: value for key, value in JSON.items() if headers or key != "Authorization"}
    got, told = ask(port, wish, base | headers)
    assert (got, told["ok"]) == (status, False)
    assert reason in told["error"]["text"]
    until(port, lambda frame: frame["status"]["budget_w"] is None)
    assert not [e for e in server.events("budget_changed") if e["limits"]["power_cap_w"] == 5.0]


def test_two_viewers_with_different_tokens_one_of_them_ours(port: int):
    wish = {"version": 1, "verb": "objective", "objective": "edp"}
    assert ask(port, wish, JSON | {"Authorization": "Bearer 99999999999999999999"})[0] == 401
    assert ask(port, wish)[0] == 200
    until(port, lambda frame: frame["status"]["objective"] == "edp")
    assert ask(port, wish | {"objective": "energy"})[0] == 200


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (b"", 400, "no JSON"),
        (b"\xff" * 100, 400, "no JSON"),
        ({"version": 2, "verb": "status"}, 400, "version"),
        ({"version": 1, "verb": "reboot"}, 400, "verb"),
        ({"version": 1, "verb": "budget", "limits": {"budget": "-3W"}}, 422, "must be a power above 0"),
        ({"version": 1, "verb": "objective", "objective": "carbon:intensity=/etc/passwd"}, 422, "KEY=NUMBER"),
        (b"x" * 70_000, 413, "longer than"),
        (b"x" * 3_000_000, 413, "longer than"),
    ],
)
def test_what_is_no_good_is_refused_with_a_sentence(port: int, said: object, status: int, reason: str):
    try:
        got, told = ask(port, said)
    except (BrokenPipeError, ConnectionResetError):  # it said no before it had read all
        assert isinstance(said, bytes)
        assert len(said) > 1_000_000
        return
    assert (got, told["ok"]) == (status, False)
    assert reason in told["error"]["text"]


def test_the_page_loads_nothing_from_elsewhere_and_no_other_page_may_use_it(port: int):
    for path, kind in {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}.items():
        status, headers, body = get(port, path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
        assert b"//" not in body.replace(b"// ", b"").replace(b"http://www.w3.org/2000/svg", b"")
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert not [name for name in headers if name.startswith("access-control")]
    assert get(port, "/../settings.py")[0] == get(port, "/page.js/..%2f")[0] == 404
    assert get(port, "/ask")[0] == 405
    assert get(port, "/ask", "OPTIONS", Origin="http://evil.example")[0] in (403, 405)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "["])
def test_another_name_for_this_machine_is_refused(port: int, host: str):
    assert get(port, "/events", Host=host)[0] in (400, 421)


def test_under_names_of_its_own_it_answers(port: int):
    for host in ("localhost", f"localhost:{port}", "127.0.0.1:1", "[::1]:99"):
        assert get(port, "/", Host=host)[0] == 200


def test_noise_does_not_disturb_it(server: Server, port: int):
    for noise in (
        os.urandom(40_000),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000,
        b"GET " + b"/" * 60_000,
        b"\x16\x03\x01",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            try:
                link.sendall(noise)
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    pass
            except OSError:
                continue
    assert get(port, "/")[0] == 200
    assert server.process.poll() is None


def test_without_a_token_it_only_shows(tmp_path: Path):
    with serving(tmp_path, *FAST, "--web", "127.0.0.1:0") as server:
        port = port_of(server)
        assert not next(frames(port))["writable"]
        status, told = ask(port, {"version": 1, "verb": "pause"})
        assert (status, told["error"]["code"]) == (403, "forbidden")
        assert "only shows" in told["error"]["text"]
        assert server.end()[0] == 0, "somebody who looks does not hold the end up"


def test_where_others_can_connect_looking_needs_the_token(tmp_path: Path):
    with serving(tmp_path, *FAST, "--web", "0.0.0.0:0", "--web-token", TOKEN) as server:
        port = port_of(server)
        status, headers, _ = get(port, "/events")
        assert (status, headers["www-authenticate"]) == (401, 'Basic realm="CEML"')
        assert get(port, "/", Authorization="Basic !!!")[0] == 401
        good = "Basic " + b64encode(f"anybody:{TOKEN}".encode()).decode()
        assert get(port, "/", Authorization=good)[0] == 200
        assert ask(port, {"version": 1, "verb": "pause"}, JSON | {"Authorization": good})[0] == 401, (
            "no cross-site wish"
        )
        assert ask(port, {"version": 1, "verb": "pause"})[0] == 200
        assert TOKEN not in server.log.read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--web", "0.0.0.0:8765"], "can be reached by other machines: set a token (CEML_WEB_TOKEN)"),
        (["--web", "board.example:8765"], "can be reached by other machines"),
        (["--web", "nonsense"], "web = 'nonsense' (from flag): must be HOST:PORT such as 127.0.0.1:8765"),
        (["--web", "127.0.0.1:99999"], "must be HOST:PORT"),
        (["--web", "999.0.0.1:80"], "999.0.0.1 is no address"),
        (["--web", "192.0.2.1:0", "--web-token", TOKEN], "web = 192.0.2.1:0: "),
        (["--web", "127.0.0.1:0", "--web-token", "short"], "web_token = '...' (from flag): must be at least 16"),
    ],
)
def test_an_address_that_is_no_good_is_one_sentence_and_nothing_is_started(tmp_path: Path, words, reason: str):
    done = ceml("serve", "--runtime-dir", tmp_path, *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert all(line.startswith("ceml: ") for line in done.stderr.splitlines())
    assert not (tmp_path / "journal.json").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = ceml("serve", "--runtime-dir", tmp_path, "--web", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "Address already in use. Name a free port" in done.stderr
    assert not (tmp_path / "beats").exists()


def test_the_token_is_not_shown_by_config_show():
    done = ceml("config", "show", "--web", "[::1]:8765", "--web-token", TOKEN)
    assert TOKEN not in done.stdout + done.stderr
    assert "# web_token is set, and not shown" in done.stdout
    assert 'web = "[::1]:8765"' in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "missing", "extra"),
    [
        (["--web", "127.0.0.1:0"], "starlette", "web"),
        (["--web", "127.0.0.1:0"], "uvicorn", "web"),
        (["--metrics", "127.0.0.1:0"], "prometheus_client", "prometheus"),
        (["--otlp", "http://127.0.0.1:4318"], "opentelemetry", "otel"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command(
    tmp_path: Path, words: list[str], missing: str, extra: str
):
    code = (
        "import sys\nsys.modules[sys.argv[1]] = None\nfrom ceml.cli import main\n"
        "sys.exit(main(['serve', '--runtime-dir', sys.argv[2], *sys.argv[3:]]))"
    )
    command = [sys.executable, "-c", code, missing, str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=60)
    assert done.returncode == 2
    assert f"pip install 'ceml-runtime[{extra}]'" in done.stderr
    assert missing in done.stderr
    assert not (tmp_path / "beats").exists()
