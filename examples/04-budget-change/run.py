"""Figure 10 of the paper on the simulated board: a budget that falls and rises, and what became of it.

Writes `windows.csv` (measured power, rate and configuration over time, beside the cap in force) and `figure.svg`.
"""

from __future__ import annotations

import argparse
import csv
import json
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
        record = Path(folder) / "run.jsonl"
        words = ["replay", "jetson-tx2", "--workload", options.workload, "--steps", str(options.steps), "--json"]
        words += ["--objective", "performance", "--scenario", str(HERE / "scenario.toml"), "--record", str(record)]
        done = subprocess.run([*CEML, *words], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return done.returncode
        rows = windows(record)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "windows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "figure.svg").write_text(figure(rows))
    played = json.loads(done.stdout)
    print(f"{options.workload}: {played['run_s']:.1f} s, {played['run_energy_j']:.0f} J (simulated)")
    print(f"above the cap by more than 2 %: {played['seconds_above_cap']:.2f} s")
    for name, from_s, to_s in (("high", 60, 600.1), ("low", 600.1, 760.1), ("high again", 760.1, 1e9)):
        inside = [row for row in rows if from_s <= row["from_s"] and row["to_s"] <= to_s]
        means = {key: sum(row[key] for row in inside) / max(len(inside), 1) for key in ("power_w", "rate_hz")}
        print(f"{name:<11} {means['power_w']:6.2f} W {means['rate_hz']:6.3f} steps/s in {len(inside)} windows")
    print(f"written: {options.out / 'windows.csv'}, {options.out / 'figure.svg'}")
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


def figure(rows: list[dict[str, float]]) -> str:
    """Power against the cap, the rate and each knob over time, each from 0 up."""
    knobs = [key for key in rows[0] if key.endswith("_hz") and key != "rate_hz"]
    panels = [("power_w", "power in W, cap dashed"), ("rate_hz", "steps/s"), *((knob, knob) for knob in knobs)]
    end_s, width, height = rows[-1]["to_s"], 900, 90
    parts: list[str] = []
    for at, (key, title) in enumerate(panels):
        top = 20 + at * (height + 30)
        most = 1.05 * max(row[key] for row in rows)
        if key == "power_w":
            most = max(most, 1.05 * max(row["cap_w"] for row in rows))
            parts.append(f'<path d="{path(rows, "cap_w", end_s, most, top)}" stroke="#c00" stroke-dasharray="5 3"/>')
        parts.append(f'<path d="{path(rows, key, end_s, most, top)}" stroke="#036"/>')
        parts.append(f'<text x="40" y="{top - 4}">{title}, up to {most / 1.05:.4g}</text>')
        parts.append(f'<path d="M40 {top}V{top + height}H{width - 10}" stroke="#888"/>')
    bottom = 20 + len(panels) * (height + 30)
    parts.append(f'<text x="40" y="{bottom}">0 to {end_s:.0f} s; jetson-tx2, simulated</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 10}" font-family="sans-serif" '
        f'font-size="12"><g fill="none">{"".join(part for part in parts if part.startswith("<path"))}</g>'
        f"{''.join(part for part in parts if part.startswith('<text'))}</svg>\n"
    )


def path(rows: list[dict[str, float]], key: str, end_s: float, most: float, top: float) -> str:
    """A line of steps, 850 wide and 90 high."""
    points = [(row[end], row[key]) for row in rows for end in ("from_s", "to_s")]
    return "M" + "L".join(
        f"{40 + 850 * at_s / end_s:.1f} {top + 90 * (1 - value / most):.1f}" for at_s, value in points
    )


if __name__ == "__main__":
    raise SystemExit(main())
