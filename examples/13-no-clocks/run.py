"""A real training process on a machine without clocks: tuned by CEML, then measured in every configuration."""

from __future__ import annotations

import argparse
import json
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ceml.platforms.bandwidth import bandwidth
from ceml.platforms.cgroup import own_group
from ceml.store.paths import PlatformContext

if TYPE_CHECKING:
    from collections.abc import Iterator

CEML = [sys.executable, "-m", "ceml"]
COUNT = struct.Struct("q")


# Tuned, then measured -------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", choices=("torch", "numpy"), help="default: torch if it is installed")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the training (default: this one)")
    parser.add_argument("--state-s", type=float, default=2.0, help="seconds of each state and round of the sweep")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the sweep (default 3)")
    parser.add_argument("--idle-w", type=float, default=5.0, help="assumed watts of the idle machine (default 5)")
    parser.add_argument("--core-w", type=float, default=5.0, help="assumed watts of a busy processor (default 5)")
    parser.add_argument("--longest-stay-s", type=float, default=5.0, help="of CEML in a state on trial (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args()
    framework = options.framework or ("torch" if _has_torch(options.python) else "numpy")
    with tempfile.TemporaryDirectory(prefix="ceml-no-clocks-") as name, ExitStack() as stack:
        folder = Path(name)
        process = stack.enter_context(training(options.python, folder, framework))
        share = stack.enter_context(own_group(process.pid, ahead=True))  # what else runs here would be measured, too
        said = f"bandwidth:pid={process.pid},estimate=program,idle_w={options.idle_w:g},core_w={options.core_w:g}"
        chosen = tuned(folder, said, options.longest_stay_s)
        swept = anyio.run(sweep, folder, process.pid, options)
    report(framework, share, chosen, swept, as_json=options.json)
    return 0


@contextmanager
def training(python: str, folder: Path, framework: str) -> Iterator[subprocess.Popen[str]]:
    words = [python, str(Path(__file__).with_name("train.py")), str(folder), framework]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or not process.stdout.readline():
            raise SystemExit(f"the training did not start: {' '.join(words)}")
        yield process
    finally:
        process.kill()
        process.wait()


def tuned(folder: Path, platform: str, longest_s: float) -> dict[str, float]:
    """What CEML chooses; it puts everything back when it ends."""
    words = ["--platform", platform, "--longest-stay-s", f"{longest_s:g}", "--exploration-budget", "0"]
    where = ["--runtime-dir", str(folder), "--knowledge", str(folder / "known"), "--record", str(folder / "run.jsonl")]
    server = subprocess.Popen(
        [*CEML, "serve", "--quiet", *where, *words], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline_s = time.monotonic() + 120
        while not (decided := events(folder, "decided")):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit("ceml serve came to no decision")
            time.sleep(0.1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    return {
        **decided[-1]["configuration"],
        "states": len({str(e["effective"]) for e in events(folder, "configuration_applied")}),
    }


def events(folder: Path, kind: str) -> list[dict]:
    record = folder / "run.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    return [event for line in lines if line.endswith("}") and (event := json.loads(line))["event"] == kind]


async def sweep(folder: Path, pid: int, options: argparse.Namespace) -> list[dict]:
    """Rate and estimated power of every configuration, in rounds, so that what else the machine does evens out."""
    made = bandwidth(
        PlatformContext(runtime_dir=folder),
        pid=pid,
        idle_w=options.idle_w,
        core_w=options.core_w,
        estimate="program",
    )
    (actuator,), (sensor,) = made.actuators, made.sensors
    states = [made.space.configuration(int(state)) for state in made.space.states]
    sums = [{"steps": [], "joules": [], "seconds": []} for _ in states]
    saved = await actuator.save()
    try:
        for number in range(options.rounds):
            for at in range(len(states)) if number % 2 == 0 else reversed(range(len(states))):
                await actuator.apply(states[at])
                await anyio.sleep(made.space.settle_s(None, states[at]) + 0.2)
                await sensor.read()
                began, began_s = steps_done(folder), time.monotonic()
                await anyio.sleep(options.state_s)
                sample = await sensor.read()
                sums[at]["steps"].append(steps_done(folder) - began)
                sums[at]["seconds"].append(time.monotonic() - began_s)
                sums[at]["joules"].append(sample.rails_w["estimated"] * sample.covers_s)
    finally:
        await actuator.restore(saved)
    return [{"configuration": dict(state), **each} for state, each in zip(states, sums, strict=True)]


def steps_done(folder: Path) -> int:
    return COUNT.unpack((folder / "steps").read_bytes())[0]


def report(framework: str, share: bool, chosen: dict[str, float], swept: list[dict], *, as_json: bool) -> None:
    tried = chosen.pop("states")
    rows = []
    for each in swept:
        steps, joules = sum(each["steps"]), sum(each["joules"])
        rounds = [j / n for j, n in zip(each["joules"], each["steps"], strict=True) if n]
        row = {"configuration": each["configuration"], "rate_hz": steps / sum(each["seconds"])}
        rows.append(row | {"estimated_j": joules / max(steps, 1), "rounds_j": rounds})
    best = min(rows, key=lambda row: row["estimated_j"])
    mine = next(row for row in rows if row["configuration"] == chosen)
    above = mine["estimated_j"] / best["estimated_j"] - 1
    found = {"framework": framework, "share_is_a_knob": share, "states_tried": tried, "chosen": mine, "best": best}
    found |= {"above_best": above, "power": "estimated", "states": rows}
    if as_json:
        print(json.dumps(found))
        return
    print(f"{framework} training, {len(rows)} configurations; energy is ESTIMATED from processor time")
    for row in sorted(rows, key=lambda row: row["estimated_j"]):
        mark = " <- chosen" if row is mine else ""
        knobs = "  ".join(f"{name} {level:g}" for name, level in row["configuration"].items())
        print(f"  {1e3 * row['estimated_j']:8.1f} mJ/step (estimated)  {row['rate_hz']:7.2f} steps/s  {knobs}{mark}")
    print(f"chosen after {tried} states; {above:.1%} above the best of the sweep (estimated energy)")


def _has_torch(python: str) -> bool:
    asked = "import sys; from importlib.util import find_spec; sys.exit(find_spec('torch') is None)"
    return subprocess.run([python, "-c", asked], check=False).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
