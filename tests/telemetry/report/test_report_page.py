"""Pages and pictures of records. Not covered: what is in the sums (test_balance.py); how it looks is for eyes."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

from ceml.bench.play import play
from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN
from ceml.sources import load
from ceml.telemetry.report import page as module
from ceml.telemetry.report.digest import Digest, digest
from ceml.telemetry.report.page import Drawn, drawn, page, report
from ceml.telemetry.report.style import styled
from tests.commands.test_record_show import LOW, MAX, a_run, applied, recorded, window
from tests.telemetry.any_event import any_event
from tests.telemetry.report.test_digest import digested

EMBEDDED = re.compile(rb'src="data:image/(svg\+xml|png);base64,([^"]*)"')
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short real run on the simulated board."""
    path = tmp_path_factory.mktemp("real") / "vit.jsonl"
    flags = {"platform": "simulated", "workload": "vit", "record": path, "record_level": "all", "budget": "10W"}
    play(load(None, flags, {}), steps=150, timed=False)
    return path


@pytest.fixture(scope="module")
def drawing(real: Path) -> Drawn:
    """The same, drawn once."""
    with styled():
        return drawn(digest(real))


def names(run: Digest) -> list[str]:
    return [name for name, _ in report([run])[1]]


def test_a_real_run_has_every_picture_on_one_page_that_needs_nothing_else(drawing: Drawn):
    content = page([drawing], None)
    pictures = [*drawing.pictures, *drawing.programs[0][1]]
    assert {"timeline", "surface", "agreement", "pareto", "ledger"} <= {picture.name for picture in pictures}
    assert len(content) < 3_000_000
    outside = EMBEDDED.sub(b"", content)
    assert not re.search(rb"(?i)https?:|<script|<link|url\(", outside)
    assert b"simulated" in content
    for kind, text in EMBEDDED.findall(content):
        assert kind == b"svg+xml"
        drawn = ElementTree.fromstring(base64.b64decode(text))
        assert drawn.tag == f"{SVG}svg"
        hrefs = {value for part in drawn.iter() for key, value in part.items() if key.endswith("href")}
        assert all(href.startswith(("#", "data:")) for href in hrefs)


def test_the_same_record_gives_the_same_bytes():
    first, pictures = report([digested(a_run())])
    again, others = report([digested(a_run())])
    assert first == again
    assert pictures[0][1].png == others[0][1].png


def test_several_records_stand_side_by_side_with_letters(tmp_path: Path):
    paths = [recorded(tmp_path / f"{name}.jsonl", a_run()) for name in ("vit", "other")]
    content, pictures = report([digest(path) for path in paths])
    found = [name for name, _ in pictures]
    assert found[0] == "comparison"
    assert {"A-timeline", "B-timeline"} <= set(found)
    assert b"A: vit.jsonl" in content
    assert b"B: other.jsonl" in content


def test_without_power_everything_else_is_drawn_and_it_is_said():
    run = [event for event in a_run() if not isinstance(event, events.WindowClosed)]
    run[3:3] = [window(3.0, MAX, 10.0, NAN, "profiling"), window(5.0, LOW, 8.0, NAN, "profiling")]
    content, pictures = report([digested(sorted(run, key=lambda event: event.at_s))])
    assert [name for name, _ in pictures] == ["timeline"]
    assert "power was not measured" in pictures[0][1].caption
    assert b"power was not measured" in content
    assert b"No predictions of the space" in content


def test_a_record_of_another_schema_says_so_on_its_page():
    run = a_run()
    assert b"this version reads schema" not in report([digested(run)])[0]
    run[0] = replace(run[0], schema=99)
    assert b"99; this version reads schema" in report([digested(run)])[0]


def test_words_of_others_are_text_on_the_page_and_in_pictures():
    evil = "<img src=x onerror=alert(1)> $\\frac{a}$ \u0007 \u4e2d"
    run = [replace(event, app=evil) if hasattr(event, "app") else event for event in a_run()]
    run[0] = replace(run[0], labels=(evil,), found=Configuration({"cpu_hz": 2e9}))
    content, pictures = report([digested(run)])
    assert b"<img src=x" not in content
    assert b"&lt;img src=x" in content
    assert all(ElementTree.fromstring(picture.svg).tag == f"{SVG}svg" for _, picture in pictures)


def test_knobs_that_are_words_are_drawn_as_words():
    run = a_run()
    run[0] = replace(run[0], knobs={"place": ("cpu", "gpu")}, found=Configuration({"place": "cpu"}))
    here = [Configuration({"place": name}) for name in ("cpu", "gpu")]
    run[2:] = [
        applied(1.0, here[0]),
        window(3.0, here[0], 9.0, 9.0, "profiling"),
        applied(4.0, here[1]),
        window(7.0, here[1], 9.0, 5.0, "profiling"),
        events.SpacePredicted(at_s=7.0, app="vit", states=(0, 1), rate_hz=(9.0,) * 2, power_w=(9.0,) * 2),
    ]
    assert {"timeline", "surface", "agreement", "pareto", "ledger"} <= set(names(digested(run)))


@pytest.mark.parametrize("states", [(), (0, 7), (-1,), (0, 1, 2)])
def test_predictions_that_do_not_fit_the_record_are_not_drawn(states: tuple[int, ...]):
    run = a_run()
    run.insert(7, events.SpacePredicted(at_s=6.0, app="vit", states=states, rate_hz=(1.0,) * 2, power_w=(1.0,) * 2))
    assert "surface" not in names(digested(run))


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_record_cut_anywhere_is_drawn_as_far_as_it_goes(tmp_path: Path, count: int):
    lines = recorded(tmp_path / "r", a_run()).read_bytes().splitlines(keepends=True)
    path = tmp_path / "cut"
    path.write_bytes(b"".join(lines[:count]) + lines[count][:20])
    content, _ = report([digest(path)])
    assert b"is no event" in content


def test_a_page_stays_below_its_bound_whatever_it_holds(drawing: Drawn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "VECTORS", 200_000)
    monkeypatch.setattr(module, "MOST_BYTES", 400_000)
    content = page([drawing], None)
    assert len(content) < 420_000
    assert b"data:image/png" in content
    assert b"left out" in content


@settings(max_examples=6)
@given(st.lists(any_event, min_size=1, max_size=12))
def test_whatever_a_record_holds_there_is_a_page(run: list[events.Event]):
    kept = sorted((event for event in run if abs(event.at_s) < 1e10), key=lambda event: event.at_s)
    content, _ = report([digested([a_run()[0], *kept])])
    assert content.startswith(b"<!doctype html>")


def test_a_browser_shows_the_page_without_a_network(drawing: Drawn, tmp_path: Path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = tmp_path / "page.html"
    path.write_bytes(page([drawing], None))
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    script = "--virtual-time-budget=20000"
    done = subprocess.run([*words, script, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<img") == path.read_bytes().count(b"<img")
    assert "vit.jsonl" in done.stdout
