"""The whole loop with real processes: `ceml serve`, `ceml app`, a named pipe between them, a signal at the end.

The board is simulated (a Jetson TX2 by equations fitted to published measurements); everything else is real.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CEML = [sys.executable, "-m", "ceml"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="vit", help="vit, resnet50, lstm, cpu-bound or gpu-bound")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the application (default 1000)")
    parser.add_argument("--speed", type=float, default=50, help="board seconds per second (default 50)")
    parser.add_argument("--objective", default="energy", help="what to want less of (default energy)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ceml-demo-") as folder:
        return demo(Path(folder), options)


def demo(folder: Path, options: argparse.Namespace) -> int:
    record = folder / "run.jsonl"
    where = ["--runtime-dir", str(folder)]
    alone = ["--knowledge", str(folder / "knowledge")]  # every demonstration starts knowing nothing
    speed = ["--speed", str(options.speed)]
    print(f"1. ceml serve --platform simulated --speed {options.speed:g} --objective {options.objective}")
    server = subprocess.Popen(
        [*CEML, "serve", *where, *alone, *speed, "--objective", options.objective, "--record", str(record), "--quiet"],
        stdout=subprocess.DEVNULL,  # its summary says the same as the record, which is shown below
    )
    try:
        wait_for(folder / "beats", server)
        print(f"2. ceml app --workload {options.workload} --steps {options.steps}   (another process)")
        app = subprocess.Popen([*CEML, "app", "--workload", options.workload, "--steps", str(options.steps), *where])
        shown = 0
        while app.poll() is None:
            shown = show_news(record, shown)
            time.sleep(0.1)
    finally:
        server.send_signal(signal.SIGTERM)
        ended = server.wait(timeout=30)
    print("3. ceml record show run.jsonl")
    shown = subprocess.run([*CEML, "record", "show", str(record)], check=False)
    return app.returncode or ended or shown.returncode


def show_news(record: Path, shown: int) -> int:
    """Print what the server recorded since the last look; returns how many lines have been seen."""
    lines = record.read_text().splitlines() if record.exists() else []
    for line in lines[shown:]:
        event = json.loads(line)
        if event["event"] == "configuration_applied":
            print(f"   {event['why']:<24} {text_of(event['effective'])}")
        elif event["event"] == "model_fitted":
            print(f"   fitted: {event['sentence']}")
    return len(lines)


def text_of(configuration: dict[str, float]) -> str:
    return "  ".join(f"{knob.removesuffix('_hz')} {hz / 1e6:7.1f} MHz" for knob, hz in configuration.items())


def wait_for(pipe: Path, server: subprocess.Popen[bytes]) -> None:
    """The pipe is there when the server listens."""
    deadline_s = time.monotonic() + 30
    while not pipe.exists():
        if server.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit(f"ceml serve did not come up (exit status {server.poll()})")
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
