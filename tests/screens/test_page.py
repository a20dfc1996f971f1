"""The page as a person sees it: a real headless Chromium looks at a real `ceml serve --web`.

Not covered: who may ask for what (test_web.py); how pretty it is.
"""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.screens.page_of import TOKEN, port_of
from tests.test_serve import FAST, Server, app, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium's own sockets, closed by its driver's end
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    folder = tmp_path_factory.mktemp("browser")
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(word)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # works offline or not at all
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@contextmanager
def beating(folder: Path, *words: object) -> Iterator[Server]:
    with serving(folder, *FAST, *words) as server:
        program = app(folder, "--workload", "gpu-bound", "--steps", 10_000_000)
        try:
            yield server
        finally:
            program.terminate()
            program.communicate()


def text(browser: Any, identity: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", identity)


def write(browser: Any, identity: str, words: str) -> None:
    field = browser.find_element("id", identity)
    field.clear()
    field.send_keys(words)


def press(browser: Any, verb: str) -> None:
    browser.find_element("css selector", f'button[data-verb="{verb}"]').click()


def test_values_move_and_a_budget_change_shows(browser: Any, tmp_path: Path):
    with beating(tmp_path, "--web", "127.0.0.1:0", "--web-token", TOKEN) as server:
        browser.get(f"http://127.0.0.1:{port_of(server)}/")
        wait_until(lambda: text(browser, "phase") == "settled", "a decision on the page")
        assert text(browser, "link") == "live"
        assert text(browser, "app") == "gpu-bound"
        assert "simulated" in text(browser, "platform")
        before, seen = text(browser, "steps"), set[str]()
        wait_until(lambda: len(seen.add(text(browser, "power")) or seen) > 2, "power that moves")
        wait_until(lambda: text(browser, "steps") != before, "steps that grow")
        assert float(text(browser, "power")) > 1.0
        line = browser.find_element("css selector", "#plot-power path.line")
        wait_until(lambda: (line.get_attribute("d") or "").count("L") > 2, "a line that grows")
        assert len(browser.find_elements("css selector", "#knobs .bar")) == 3
        wait_until(lambda: "decided" in text(browser, "happened"), "the decision, as it happens")

        assert text(browser, "cap") == "no cap"
        write(browser, "token", TOKEN)
        write(browser, "budget", "19W")
        press(browser, "budget")
        wait_until(lambda: text(browser, "cap").startswith("cap 19 W, "), "the cap")
        assert "W headroom" in text(browser, "cap")
        assert "power cap 19 W" in text(browser, "limits")
        assert "limits power cap 19 W" in text(browser, "said")
        wait_until(lambda: "now power cap 19 W (web, 127.0.0.1:" in text(browser, "happened"), "the change in the list")

        write(browser, "aim", "edp\n")  # Enter, too
        wait_until(lambda: text(browser, "objective") == "edp", "the objective")
        write(browser, "token", "0" * 20)
        press(browser, "pause")
        wait_until(lambda: "not the token" in text(browser, "said"), "the refusal")
        write(browser, "token", TOKEN)
        press(browser, "pause")
        wait_until(lambda: text(browser, "phase") == "paused", "the pause")
        press(browser, "resume")
        wait_until(lambda: text(browser, "phase") != "paused", "the resumption")
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert not [message for message in said if "Content Security Policy" in message or "TypeError" in message]


def test_it_survives_a_restart_and_only_shows_without_a_token(browser: Any, tmp_path: Path):
    with beating(tmp_path, "--web", "127.0.0.1:0", "--web-token", TOKEN) as server:
        port = port_of(server)
        browser.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: text(browser, "link") == "live", "the page")
        assert browser.find_element("id", "change").is_displayed()
        write(browser, "token", TOKEN)
        write(browser, "aim", "edp\n")
        wait_until(lambda: text(browser, "said").startswith("done: edp"), "the objective")
        browser.execute_script("window.same = true")
        server.end(signal.SIGKILL)
        wait_until(lambda: text(browser, "link") != "live", "the loss")
        with beating(tmp_path, "--web", f"127.0.0.1:{port}", "--objective", "performance") as other:
            wait_until(lambda: text(browser, "link") == "live", "the next server")
            wait_until(lambda: text(browser, "objective") == "performance", "the state of the next server")
            wait_until(lambda: text(browser, "app") == "gpu-bound", "its program")
            assert browser.execute_script("return window.same"), "nobody loaded it anew"
            assert not text(browser, "said"), "what the server before said is not of this one"
            assert not browser.find_element("id", "change").is_displayed()
            assert browser.find_element("id", "read-only").is_displayed()
            assert other.end()[0] == 0


@pytest.mark.parametrize("width", [320, 480, 1280])
def test_it_fits_any_width(browser: Any, tmp_path: Path, width: int):
    with beating(tmp_path, "--web", "127.0.0.1:0", "--budget", "6W") as server:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        try:
            browser.get(f"http://127.0.0.1:{port_of(server)}/")
            wait_until(lambda: "decided" in text(browser, "happened"), "the list")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_hangs_is_no_live_one(browser: Any, tmp_path: Path):
    with beating(tmp_path, "--web", "127.0.0.1:0") as server:
        browser.get(f"http://127.0.0.1:{port_of(server)}/")
        wait_until(lambda: text(browser, "link") == "live", "the page")
        server.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: text(browser, "link").startswith("no news for"), "that nothing comes any more")
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: text(browser, "link") == "live", "the server again")
