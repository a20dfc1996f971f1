"""Small made-up tables: a bowl in energy over two knobs, with and without smoothed columns, with and without power."""

from __future__ import annotations

from pathlib import Path


def written(
    folder: Path,
    name: str,
    *,
    smoothed: bool = True,
    power: bool = True,
    workloads: tuple[str, ...] = ("w",),
    levels: int = 5,
) -> Path:
    titles = ["device", "workload", "batch", "cpu_hz", "gpu_hz", "step_s"] + ["power_w"] * power
    titles += (["step_smooth_s"] + ["power_smooth_w"] * power) if smoothed else []
    lines = [",".join(titles)]
    for shift, workload in enumerate(workloads):
        for cpu in range(1, levels + 1):
            for gpu in range(1, levels + 1):
                step_s = 0.05 + 0.2 / cpu + (0.3 + 0.1 * shift) / gpu
                watts = 3.0 + 0.1 * cpu**2 + 0.2 * gpu**2
                row = ["board", workload, "8", f"{cpu}e8", f"{gpu}e8", f"{step_s * 1.01:.6f}"] + [
                    f"{watts:.6f}"
                ] * power
                row += ([f"{step_s:.6f}"] + [f"{watts:.6f}"] * power) if smoothed else []
                lines.append(",".join(row))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path
