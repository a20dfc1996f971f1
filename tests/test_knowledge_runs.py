"""Knowledge through real runs: the second run of a program profiles less, and the verbs tell of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ceml import cli
from ceml.bench.play import play
from ceml.sources import load


def played(directory: Path | None, *, workload: str = "vit", seed: int = 0, **flags: object) -> dict[str, object]:
    given = {"platform": "simulated", "workload": workload, "seed": seed, **flags}
    if directory is not None:
        given["knowledge"] = str(directory)
    return play(load(None, given, {}), steps=600).as_json()


def test_the_second_run_of_a_program_tries_less_and_chooses_as_well(tmp_path: Path) -> None:
    first = played(tmp_path)
    second = played(tmp_path, seed=1)
    assert second["states_tried"] <= 3 < first["states_tried"]
    assert second["run_excess"] < first["run_excess"]
    assert second["regret"] <= 0.03


@pytest.mark.parametrize("times", [0.6, 1.4])
def test_power_remembered_wrongly_breaks_no_cap(tmp_path: Path, times: float) -> None:
    """Until a window has shown what the program draws today, the first state would keep the cap at twice as much."""
    played(tmp_path, objective="performance")
    machine = next(tmp_path.iterdir())
    known = json.loads((machine / "program-vit.json").read_text())
    for phase in known["phases"]:
        for seen in phase["measured"]:
            seen["power_w"] *= times
            seen["rail_w"] = {rail: watts * times for rail, watts in seen["rail_w"].items()}
    (machine / "program-vit.json").write_text(json.dumps(known))
    told = played(tmp_path, objective="performance", budget="6W", seed=1)
    assert told["seconds_above_cap"] <= 0.208, "two looks of a tenth of a second"
    assert told["regret"] <= 0.05


def test_a_cap_of_an_earlier_run_is_met_at_once_by_the_next(tmp_path: Path) -> None:
    first = played(tmp_path, objective="performance", budget="6W")
    second = played(tmp_path, objective="performance", budget="6W", seed=1)
    assert second["states_tried"] <= first["states_tried"] // 2
    assert second["seconds_above_cap"] <= 0.208
    assert second["regret"] <= first["regret"] + 0.02


def test_fresh_ignores_what_is_known(tmp_path: Path) -> None:
    first = played(tmp_path)
    again = played(tmp_path, fresh=True)
    assert {k: v for k, v in again.items() if k != "decision_s"} == {
        k: v for k, v in first.items() if k != "decision_s"
    }


def test_without_a_directory_runs_are_independent(tmp_path: Path) -> None:
    assert played(None)["states_tried"] == played(None)["states_tried"]
    assert not any(tmp_path.iterdir())


def test_a_program_that_only_shares_the_name_is_not_mistaken_for_it(tmp_path: Path) -> None:
    played(tmp_path, workload="gpu-bound")
    machine = next(tmp_path.iterdir())
    known = json.loads((machine / "program-gpu-bound.json").read_text())
    (machine / "program-vit.json").write_text(json.dumps(known | {"app": "vit"}))
    assert played(tmp_path)["regret"] == pytest.approx(0.0, abs=0.04)


def test_spoilt_knowledge_is_said_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(tmp_path)
    machine = next(tmp_path.iterdir())
    (machine / "program-vit.json").write_text("{")
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--knowledge", str(tmp_path)]
    assert cli.main(words) == 0
    said = capsys.readouterr().err
    assert "program-vit.json is not understood" in said
    assert said.count("it is kept as program-vit.json.aside") == 1
    assert (machine / "program-vit.json.aside").read_text() == "{"
    assert cli.main(words) == 0
    assert not capsys.readouterr().err


def test_a_pipe_among_the_knowledge_does_not_hang_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(tmp_path)
    (known,) = tmp_path.glob("*/program-vit.json")
    known.unlink()
    os.mkfifo(known)
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--knowledge", str(tmp_path)]
    assert cli.main(words) == 0
    assert "is a pipe" in capsys.readouterr().err


def test_what_is_not_understood_of_a_machine_is_shown_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board").mkdir()
    for name in ("machine.json", "power.json"):
        (tmp_path / "board" / name).write_text('{"version": 99, "machine": "board"}')
    shown = told(capsys, "show", "--knowledge", str(tmp_path))
    assert "machine.json is not understood: version" in shown
    assert "nothing is known" not in shown
    listed = told(capsys, "list", "--knowledge", str(tmp_path))
    assert "machine.json is not understood" in listed
    assert "`ceml calibrate` makes it anew" in listed


def test_a_directory_that_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cli.main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--knowledge", str(blocked)]) == 0
    assert capsys.readouterr().err.count("cannot be kept") == 1


# The verbs ------------------------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(["knowledge", *words]) == status
    out = capsys.readouterr()
    return out.err if status else out.out


def test_list_show_forget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--knowledge", str(tmp_path))
    assert "nothing is known yet" in told(capsys, "list", *where)
    played(tmp_path)
    assert "vit: 1 phase" in told(capsys, "list", *where)
    shown = told(capsys, "show", "vit", *where)
    assert "J/step" in shown
    assert "cpu_hz=" in shown
    assert "nothing is known of it" in told(capsys, "show", "nosuch", *where, status=2)
    assert "nothing is known of it" in told(capsys, "forget", "nosuch", *where, status=2)
    assert "name one program, or give --all" in told(capsys, "forget", *where, status=2)
    assert "forgot 1 file" in told(capsys, "forget", "vit", *where)
    assert "vit" not in told(capsys, "list", *where)
    assert "forgot" in told(capsys, "forget", "--all", *where)
    assert "nothing is known yet" in told(capsys, "list", *where)


def test_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(tmp_path / "here")
    file, here, there = str(tmp_path / "all.json"), str(tmp_path / "here"), str(tmp_path / "there")
    assert "wrote 1 program" in told(capsys, "export", file, "--knowledge", here)
    assert "took in 1 program" in told(capsys, "import", file, "--knowledge", there)
    assert "kept" in told(capsys, "import", file, "--knowledge", there)
    assert "cannot be read" in told(capsys, "import", str(tmp_path / "nosuch"), "--knowledge", there, status=2)
    assert "nothing to export" in told(capsys, "export", file, "--knowledge", str(tmp_path / "none"), status=2)
    assert "nothing is known of it" in told(capsys, "list", "--machine", "x", "--knowledge", here, status=2)


@pytest.mark.parametrize("action", ["list", "show x", "forget x", "forget --all"])
def test_names_that_would_lead_elsewhere_lead_nowhere(
    tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "program-x.json"
    victim.write_text("{}")
    monkeypatch.setitem(os.environ, "CEML_KNOWLEDGE", str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    cli.main(["knowledge", *action.replace("x", "../../program-x").split()])
    capsys.readouterr()
    assert victim.exists()
