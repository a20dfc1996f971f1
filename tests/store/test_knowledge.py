"""Knowledge on disk: what is written is read back, what is not understood is passed over with a sentence."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace
from ceml.domain.probed import ProbedKnob
from ceml.domain.settling import Seen
from ceml.domain.values import NAN, Knowledge, Observation, Remembered
from ceml.errors import SettingsError
from ceml.store.knowledge import KnowledgeStore, Known, exported, imported, machine_name, read_program
from ceml.store.knowledge_file import MOST_BYTES

KNOBS = (
    Knob(name="gpu_hz", levels=(5e8, 1e9)),
    Knob(name="cpu_cores", levels=(1.0, 2.0), kind=KnobKind.COUNT),
    Knob(name="mode", levels=("slow", "fast"), kind=KnobKind.CATEGORY),
)
SPACE = KnobSpace(KNOBS)


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@st.composite
def phases(draw: st.DrawFn, app: str = "a") -> Remembered:
    positive = st.floats(1e-6, 1e6)
    states = draw(st.lists(st.integers(0, len(SPACE) - 1), min_size=1, max_size=6, unique=True))
    return Remembered(
        app=app,
        knobs=KNOBS,
        observations=tuple(
            Observation(
                configuration=SPACE.configuration(state),
                start_s=0.0,
                end_s=1.0,
                beats=draw(st.integers(1, 99)),
                steps=draw(positive),
                rate_hz=draw(positive),
                power_w=draw(st.one_of(st.just(NAN), positive)),
                rail_w=draw(st.dictionaries(st.sampled_from(["gpu", "total"]), positive)),
                utilisation=draw(st.dictionaries(st.sampled_from(["gpu"]), st.floats(0, 1))),
                power_samples=draw(st.integers(0, 99)),
                step_cv=draw(st.one_of(st.just(NAN), st.floats(0, 1))),
                power_cv=draw(st.one_of(st.just(NAN), st.floats(0, 1))),
            )
            for state in states
        ),
    )


def facts(phase: Remembered) -> list[object]:
    return [
        (str(o.configuration), o.beats, o.steps, o.rate_hz, repr(o.power_w), o.power_samples, repr(o.step_cv), o.rail_w)
        for o in phase.observations
    ]


@given(st.lists(phases(), min_size=1, max_size=3))
def test_what_is_kept_is_read_back(tmp_path_factory: pytest.TempPathFactory, kept: list[Remembered]) -> None:
    root = tmp_path_factory.mktemp("k")
    KnowledgeStore(root, "m").keep("a", kept, frozenset())
    known = KnowledgeStore(root, "m").read()
    assert not known.problems
    assert [facts(phase) for phase in known.knowledge.programs] == [facts(phase) for phase in kept]
    assert all(phase.knobs == KNOBS for phase in known.knowledge.programs)


def example(app: str = "a", rate_hz: float = 2.0) -> Remembered:
    seen = Observation(
        configuration=SPACE.configuration(0), start_s=0, end_s=1, beats=3, steps=3.0, rate_hz=rate_hz, power_w=5.0
    )
    return Remembered(app=app, knobs=KNOBS, observations=(seen,))


def test_what_no_file_would_be_believed_is_not_written(tmp_path: Path) -> None:
    good = example("a")
    broken = replace(good.observations[0], power_w=1e300)
    store = KnowledgeStore(tmp_path, "m")
    store.keep("a", [replace(good, observations=(broken,))], frozenset())
    assert store.programs() == []
    store.keep("a", [replace(good, observations=(broken, *good.observations))], frozenset())
    assert [facts(phase) for phase in store.read().knowledge.programs] == [facts(good)]


def test_nothing_is_created_before_something_is_written(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path / "deep" / "root", "m")
    assert store.read().knowledge.programs == ()
    store.keep("a", (), frozenset())
    assert not (tmp_path / "deep").exists()


def test_the_latest_program_comes_first_and_the_same_is_not_written_again(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "m")
    for at, app in enumerate(("old", "new")):
        store.keep(app, [example(app)], frozenset())
        os_utime(store.path(app), at)
    assert [phase.app for phase in store.read().knowledge.programs] == ["new", "old"]
    store.keep("old", [example("old")], frozenset())
    assert [phase.app for phase in store.read().knowledge.programs] == ["new", "old"], "no news, no new file"


def os_utime(path: Path, at_s: float) -> None:
    os.utime(path, (at_s, at_s))


def test_unreachable_configurations_are_of_the_machine(tmp_path: Path) -> None:
    gone = frozenset({Configuration({"gpu_hz": 1e9, "cpu_cores": 1.0, "mode": "slow"})})
    KnowledgeStore(tmp_path, "m").keep("a", [example()], gone)
    assert KnowledgeStore(tmp_path, "m").read().knowledge.unreachable == gone
    assert KnowledgeStore(tmp_path, "other").read().knowledge.unreachable == frozenset()


def spoilt(change: str) -> bytes:
    content = {
        "format": "ceml-program",
        "version": 1,
        "machine": "m",
        "app": "a",
        "phases": [
            {
                "knobs": [{"name": "gpu_hz", "kind": "frequency", "levels": [5e8, 1e9]}],
                "measured": [{"configuration": {"gpu_hz": 1e9}, "beats": 1, "steps": 1.0, "rate_hz": 2.0}],
            }
        ],
    }
    phase = content["phases"][0]
    match change:
        case "truncated":
            return json.dumps(content)[:-20].encode()
        case "version":
            content["version"] = 2
        case "machine":
            content["machine"] = "another"
        case "level":
            phase["measured"][0]["configuration"]["gpu_hz"] = 7.0
        case "rate":
            phase["measured"][0]["rate_hz"] = -1.0
        case "watts":
            phase["measured"][0]["power_w"] = 1e300
        case "rail":
            phase["measured"][0]["rail_w"] = {"gpu": -1.0}
        case "app":
            content["app"] = "b"
        case "nan":
            return json.dumps(content).replace("2.0", "NaN").encode()
        case "huge":
            phase["knobs"] = [
                {"name": f"k{n}_hz", "kind": "frequency", "levels": list(map(float, range(1, 100)))} for n in range(4)
            ]
        case "twice":
            phase["knobs"] = phase["knobs"] * 2
        case "descending":
            phase["knobs"][0]["levels"] = [1e9, 5e8]
        case "no phases":
            del content["phases"]
        case _:
            return change.encode("latin-1")
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "change",
    [
        *("truncated", "version", "machine", "level", "rate", "watts", "rail", "app", "nan", "huge", "twice"),
        *("descending", "no phases"),
        *("", "[]", "null", "\xff\xfe", "[" * 5000),
    ],
)
def test_what_is_not_understood_is_passed_over_and_named(tmp_path: Path, change: str) -> None:
    store = KnowledgeStore(tmp_path, "m")
    store.keep("good", [example("good")], frozenset())
    store.path("a").write_bytes(spoilt(change))
    known = store.read()
    assert [phase.app for phase in known.knowledge.programs] == ["good"]
    assert len(known.problems) == 1
    assert str(store.path("a")) in known.problems[0]
    assert "\n" not in known.problems[0]


@given(st.binary(max_size=200))
def test_rubbish_never_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    path = tmp_path_factory.mktemp("k") / "program-a.json"
    path.write_bytes(rubbish)
    with pytest.raises(SettingsError):
        read_program(path)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "program-a.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES * 100)
    with pytest.raises(SettingsError, match="larger than"):
        read_program(path)


def test_a_directory_in_a_files_place_is_passed_over(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "m")
    store.path("a").mkdir(parents=True)
    assert len(store.read().problems) == 1


def kept_bytes(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir() if path.is_file()]


@pytest.mark.parametrize("change", ["truncated", "version", "machine", "level", "watts", "app", "", "[]", "\xff\xfe"])
def test_what_is_not_understood_is_kept_aside_and_said_once(tmp_path: Path, change: str) -> None:
    store = KnowledgeStore(tmp_path, "m")
    store.path("a").parent.mkdir()
    store.path("a").write_bytes(spoilt(change))
    store.keep("a", [example()], frozenset())
    store.keep("a", [example(rate_hz=3.0)], frozenset())
    assert (tmp_path / "m" / "program-a.json.aside").read_bytes() == spoilt(change)
    (told,) = store.news()
    assert "kept as program-a.json.aside" in told
    assert store.news() == []
    after = KnowledgeStore(tmp_path, "m").read()
    assert [phase.observations[0].rate_hz for phase in after.knowledge.programs] == [3.0]
    assert not after.problems


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=3), st.sampled_from(["a", "machine"]))
def test_no_byte_that_lay_there_is_ever_lost(
    tmp_path_factory: pytest.TempPathFactory, rubbish: list[bytes], which: str
) -> None:
    root = tmp_path_factory.mktemp("k")
    gone = frozenset({Configuration({"gpu_hz": 1e9})})
    path = root / "m" / ("machine.json" if which == "machine" else "program-a.json")
    path.parent.mkdir()
    for each in rubbish:
        path.write_bytes(each)
        KnowledgeStore(root, "m").keep("a", [example()], gone)
        known = KnowledgeStore(root, "m").read()
        assert not known.problems
        assert [facts(phase) for phase in known.knowledge.programs] == [facts(example())]
        assert known.knowledge.unreachable == gone
    left = kept_bytes(root / "m")
    assert len(left) == 2 + len(rubbish), "an earlier one is never overwritten, and nothing half written is left"
    assert all(each in left for each in rubbish)


def test_a_file_that_comes_while_a_run_goes_on_is_kept_too(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "m")
    store.keep("a", [example()], frozenset())
    store.path("a").write_bytes(spoilt("machine"))
    store.keep("a", [example(rate_hz=3.0)], frozenset())
    assert spoilt("machine") in kept_bytes(tmp_path / "m")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, socket_at], ids=["pipe", "directory", "socket"])
def test_only_ordinary_files_are_read_and_others_make_way(tmp_path: Path, make: Callable[[Path], object]) -> None:
    store = KnowledgeStore(tmp_path, "m")
    (tmp_path / "m").mkdir()
    for path in (store.path("a"), tmp_path / "m" / "machine.json"):
        make(path)
    known = store.read()
    assert len(known.problems) == 2
    assert all("delete it or move it away" in problem for problem in known.problems)
    store.keep("a", [example()], frozenset({Configuration({"gpu_hz": 1e9})}))
    assert len(KnowledgeStore(tmp_path, "m").read().knowledge.programs) == 1
    assert len(list((tmp_path / "m").iterdir())) == 4


def test_where_nothing_can_be_kept_aside_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KnowledgeStore(tmp_path, "m")
    store.path("a").parent.mkdir()
    store.path("a").write_bytes(b"{")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="not permitted"):
        store.keep("a", [example()], frozenset())
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["program-a.json"]
    assert store.path("a").read_bytes() == b"{"


def test_the_remedy_is_one_that_helps(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "m")
    (tmp_path / "m").mkdir()
    for name, remedy in (
        ("program-a.json", "the next run of the program makes it anew, `ceml knowledge import`"),
        ("machine.json", "`ceml doctor --probe` make it anew"),
    ):
        (tmp_path / "m" / name).write_text('{"format": "ceml-knowledge"}')
        (problem,) = store.read().problems
        assert "delete it or move it away" in problem
        assert remedy in problem
        assert "knowledge export" not in problem
        (tmp_path / "m" / name).unlink()
    spoilt_export = tmp_path / "x.json"
    spoilt_export.write_text("{}")
    with pytest.raises(SettingsError, match="give a file that `ceml knowledge export` wrote"):
        imported(tmp_path, spoilt_export)


def test_what_is_exported_can_be_imported_elsewhere_and_never_replaces(tmp_path: Path) -> None:
    here, there = KnowledgeStore(tmp_path / "here", "m"), tmp_path / "there"
    for app in ("a", "b"):
        here.keep(app, [example(app)], frozenset())
    (tmp_path / "here" / "m" / "program-c.json").write_text("{")
    text, count, left_out = exported([here])
    assert count == 2
    assert len(left_out) == 1
    assert "program-c.json" in left_out[0]
    file = tmp_path / "all.json"
    file.write_text(text)
    KnowledgeStore(there, "m").keep("a", [example("a", rate_hz=9.0)], frozenset())
    taken, kept = imported(there, file)
    assert [app for _, app in taken] == ["b"]
    assert [app for _, app in kept] == ["a"]
    rates = {phase.app: phase.observations[0].rate_hz for phase in KnowledgeStore(there, "m").read().knowledge.programs}
    assert rates == {"a": 9.0, "b": 2.0}


@pytest.mark.parametrize("words", ["Jetson AGX Orin", "../../etc", "", "...", "a" * 200, "x\0y"])
def test_a_machines_name_is_a_safe_name_of_a_directory(words: str) -> None:
    name = machine_name(words)
    assert name
    assert len(name) <= 64
    assert Path(name).name == name
    assert not name.startswith(".")


def test_what_runs_see_of_settling_adds_up_and_never_replaces_a_probe(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "board")
    store.keep_settling({"a_hz": Seen(0.02, 10)})
    store.keep_settling({"a_hz": Seen(0.04, 30), "b_hz": Seen(0.001, 1)})
    known = store.read().settling
    assert (known["a_hz"].settle_s, known["a_hz"].changes) == (0.03, 40)
    probed = ProbedKnob(knob=Knob(name="a_hz", levels=(1.0, 2.0)), latencies_s=(0.005, 0.006))
    store.keep_probed([probed], [])
    store.keep_settling({"a_hz": Seen(1.0, 1)})
    store.keep("app", (), frozenset({Configuration({"a_hz": 1.0})}))
    after = store.read()
    assert (after.settling["a_hz"].settle_s, after.settling["a_hz"].probed) == (0.006, True)
    assert after.settling["b_hz"].settle_s == 0.001
    assert after.knowledge.unreachable == {Configuration({"a_hz": 1.0})}


def test_what_was_measured_with_other_knobs_or_levels_is_left_out_and_said() -> None:
    gpu = Knob(name="gpu_hz", levels=(1e9, 2e9))
    space = KnobSpace([gpu])

    def seen(configuration: dict[str, float]) -> Observation:
        return Observation(
            configuration=Configuration(configuration), start_s=0.0, end_s=1.0, beats=5, steps=5.0, rate_hz=5.0
        )

    here, there = seen({"gpu_hz": 1.2e9}), seen({"gpu_hz": 5e9})
    programs = (
        Remembered(app="mixed", knobs=(gpu,), observations=(here, there)),
        Remembered(app="foreign", knobs=(gpu,), observations=(seen({"xpu_hz": 1e9}), there)),
    )
    known = Known(Knowledge(programs=programs)).on(space)
    assert [(phase.app, phase.observations) for phase in known.knowledge.programs] == [("mixed", (here,))]
    (problem,) = known.problems
    assert "program foreign" in problem
    assert "gpu_hz" in problem
    assert known.on(space) == known
