"""Makes a record of a long day: a real run in virtual time, whose steady part is repeated with new times and noise.

python -m tests.benchmarks.long_record FILE [--hours 24] [--level windows|all]
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from ceml.bench.play import play
from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import Limits, Observation
from ceml.sources import load
from ceml.telemetry.record import RecordWriter, as_event, read

BEATS_HZ = 10.0
SAMPLES_HZ = 10.0


def long_record(source: Path, target: Path, *, hours: float = 24.0, level: str = "windows", seed: int = 0) -> int:
    """Write it.

    Args:
        source: A real record, up to whose first window after the decision everything is taken over.
        target: Where to.
        hours: Length.
        level: `windows` or `all`.
        seed: Of the noise.

    Returns:
        How many lines were written. One sample in the middle is far above all others: pictures must show it.
    """
    rng = random.Random(seed)
    writer = RecordWriter(target, level)  # type: ignore[arg-type]
    count, model = 0, None

    def write(event: events.Event) -> None:
        nonlocal count
        left_out = level == "windows" and isinstance(event, events.Sampled | events.Heartbeat)
        count += not left_out
        writer.write(event)

    for entry in read(source):
        event = as_event(entry)
        assert event is not None
        write(event)
        if isinstance(event, events.WindowClosed) and event.phase == "idle":
            model = event
            break
    assert model is not None
    seen = model.observation
    step_s, end_s, now_s, beat, started_s = 1 / BEATS_HZ, hours * 3600.0, model.at_s, 1000, model.at_s
    tick, spike_at = 0, int(hours * 1800 * SAMPLES_HZ)
    while now_s < end_s:
        now_s += step_s
        tick += 1
        beat += 1
        watts = seen.power_w * rng.gauss(1.0, 0.025) * (5.0 if tick == spike_at else 1.0)
        rails = {**{rail: w * watts / seen.power_w for rail, w in seen.rail_w.items()}, "total": watts}
        write(events.Sampled(at_s=now_s, sensor="board", rails_w=rails, utilisation=seen.utilisation))
        write(events.Heartbeat(at_s=now_s, app=model.app, source=model.source, beat=beat))
        if tick % int(BEATS_HZ) == 0:  # a window a second
            rate_hz = BEATS_HZ * rng.gauss(1.0, 0.006)
            window = Observation(
                configuration=Configuration(dict(seen.configuration)), start_s=started_s, end_s=now_s,
                beats=int(BEATS_HZ), steps=BEATS_HZ, rate_hz=rate_hz, power_w=seen.power_w * rng.gauss(1.0, 0.008),
                rail_w=seen.rail_w, utilisation=seen.utilisation, power_samples=int(SAMPLES_HZ),
                step_cv=0.02, power_cv=0.025,
            )  # fmt: skip
            write(events.WindowClosed(
                at_s=now_s, app=model.app, observation=window, phase="idle", source=model.source,
                predicted_rate_hz=BEATS_HZ, predicted_power_w=model.predicted_power_w,
            ))  # fmt: skip
            started_s = now_s
        if tick % int(3600 * BEATS_HZ) == 0:  # somebody changes the cap every hour
            cap_w = 12.0 if (tick // int(3600 * BEATS_HZ)) % 2 else 9.0
            write(events.BudgetChanged(at_s=now_s, limits=Limits(power_cap_w=cap_w), source="file"))
    writer.close()
    return count


def real_record(path: Path) -> Path:
    """A short real run with everything in it."""
    flags = {"platform": "simulated", "workload": "vit", "record": path, "record_level": "all"}
    play(load(None, flags, {}), steps=200, timed=False)
    return path


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--level", default="windows", choices=("windows", "all"))
    options = parser.parse_args()
    source = real_record(options.file.with_suffix(".source"))
    print(long_record(source, options.file, hours=options.hours, level=options.level), "lines")
    source.unlink()


if __name__ == "__main__":
    main()
