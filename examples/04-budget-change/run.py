"""Figure 10 of the paper on the simulated board: a budget that falls and rises, and what became of it.

Writes `windows.csv` (measured power, rate and configuration over time, beside the cap in force) and, where matplotlib
is installed, `figure.svg`: the timeline that `ceml report` draws of the run's record.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CEML = [sys.executable, "-m", "ceml"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="vit", help="vit, resnet50, lstm, cpu-bound or gpu-bound")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the application (default 2000)")
    parser.add_argument("--out", type=Path, default=Path(), help="where to write (default: here)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ceml-fig10-") as folder:
        record = Path(folder) / f"{options.workload}.jsonl"
        words = ["replay", "jetson-tx2", "--workload", options.workload, "--steps", str(options.steps), "--json"]
        words += ["--objective", "performance", "--scenario", str(HERE / "scenario.toml"), "--record", str(record)]
        words += ["--record-level", "all"]
        done = subprocess.run([*CEML, *words], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return done.returncode
        rows = windows(record)
        options.out.mkdir(parents=True, exist_ok=True)
        drawn = figure(record, options.out / "figure.svg")
    with (options.out / "windows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    played = json.loads(done.stdout)
    print(f"{options.workload}: {played['run_s']:.1f} s, {played['run_energy_j']:.0f} J (simulated)")
    print(f"above the cap by more than 2 %: {played['seconds_above_cap']:.2f} s")
    for name, from_s, to_s in (("high", 60, 600.1), ("low", 600.1, 760.1), ("high again", 760.1, 1e9)):
        inside = [row for row in rows if from_s <= row["from_s"] and row["to_s"] <= to_s]
        means = {key: sum(row[key] for row in inside) / max(len(inside), 1) for key in ("power_w", "rate_hz")}
        print(f"{name:<11} {means['power_w']:6.2f} W {means['rate_hz']:6.3f} steps/s in {len(inside)} windows")
    print(f"written: {options.out / 'windows.csv'}" + (f", {options.out / 'figure.svg'}" if drawn else "; no picture"))
    return 0


def windows(record: Path) -> list[dict[str, float]]:
    """Every window of measurement as a row, with the cap in force when it began."""
    rows, caps = [], [(0.0, float("nan"))]
    for line in record.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "budget_changed":
            caps.append((event["at_s"], event["limits"]["power_cap_w"]))
        elif event["event"] == "window_closed":
            seen = event["observation"]
            cap_w = next(cap for at_s, cap in reversed(caps) if at_s <= seen["start_s"])
            times = {"from_s": seen["start_s"], "to_s": seen["end_s"], "cap_w": cap_w}
            rows.append({**times, "power_w": seen["power_w"], "rate_hz": seen["rate_hz"], **seen["configuration"]})
    return rows


def figure(record: Path, target: Path) -> bool:
    """The timeline of a record; False where it could not be drawn, which `ceml report` has explained then."""
    with tempfile.TemporaryDirectory(prefix="ceml-fig10-") as folder:
        words = ["report", str(record), "--svg", folder]
        if subprocess.run([*CEML, *words], stdout=subprocess.DEVNULL, check=False).returncode:
            return False
        shutil.copyfile(Path(folder) / "timeline.svg", target)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
