"""A Jetson without the silicon: built from its profile, with drivers that behave and power that follows the clocks.

How fast a program runs and what it draws are made up (only the shape is meant: work divided by clocks, watts that
grow with clock and voltage); frequency tables and rails are those that were published, see the profile's `[fake]`.
"""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import TYPE_CHECKING

from ceml.platforms import profiles
from ceml.testing.clocks import Clock, Version
from ceml.testing.cpufreq import Cpufreq
from ceml.testing.devfreq import Devfreq, Memory
from ceml.testing.kernel import FakeKernel

if TYPE_CHECKING:
    from ceml.platforms.profiles import Chip, Fake

STEP_S = 0.006  # of the made-up program, everything at its highest
WORK = {"cpu": 0.25, "gpu": 0.6, "mem": 0.45}  # share of a step that each device is busy, alone, at full clock
TICKS_HZ = 100


class FakeJetson(FakeKernel):
    """A board with its drivers.

    Attributes:
        profile: The board.
        policies: CPU clocks.
        gpu: GPU clock.
        memory: Memory clock.
        running: Whether the made-up program runs: the load, and most of the watts.
        load: Device -> share that something else keeps busy, in place of the program; None: nothing does.
        noise: Factor on every rail, for tests.
    """

    def __init__(self, board: str, *, kernel: Version | None = None, latency_s: float = 0.0) -> None:
        """Build it as it is found after a start: governors in charge, nothing locked."""
        super().__init__()
        self.profile = profiles.named(board)
        fake = self.profile.fake
        if fake is None:
            raise ValueError(f"profile {board} has no [fake]")
        self.fake: Fake = fake
        version: Version = kernel or fake.kernel
        self.running = True
        self.load: dict[str, float] | None = None
        self.policies = [
            Cpufreq(version=version, cpus=cpus, clock=Clock(table=fake.cpu_khz, delay_s=latency_s))
            for cpus in fake.clusters
        ]
        self.gpu = Devfreq(version=version, name=fake.gpu_node, clock=Clock(table=fake.gpu_hz, delay_s=latency_s))
        self.memory = Memory(clock=Clock(table=fake.memory_hz, delay_s=latency_s))
        self.bandwidth: Devfreq | None = None
        self._from_s = time.monotonic()
        self._install(version)

    # What it is ---------------------------------------------------------------------------------------------------

    def _install(self, version: Version) -> None:
        fake = self.fake
        compatible = [*self.profile.match.boards[:1], *(f"nvidia,{part}" for part in self.profile.match.parts[:1])]
        self.constant("/proc/device-tree/compatible", "\0".join([*compatible, self.profile.soc]) + "\0")
        model = (self.profile.match.models or self.profile.names)[0]
        self.constant("/proc/device-tree/model", f"{model}\0")
        self.add("/proc/stat", self._stat)
        for policy in self.policies:
            policy.install(self)
        self.gpu.install(self)
        load = self.profile.gpu.load[0]
        path = load if load.startswith("/") else f"/sys/class/devfreq/{self.gpu.name}/{load}"
        self.add(path, lambda: str(round(1000 * self.busy()["gpu"])))
        if fake.memory == "bpmp":
            self.memory.install_bpmp(self, rows=self.profile.soc == "nvidia,tegra234")
        elif fake.memory == "override":
            self.memory.install_override(self)
        elif fake.memory == "limits":
            self.memory.install_limits(self)
        elif fake.memory == "devfreq":
            self.bandwidth = Devfreq(version=version, name="bwmgr", clock=self.memory.clock, governor="bpmp-bwmgr")
            self.bandwidth.install(self, gate=False)
        for path in self.profile.memory.activity[:1]:
            self.add(path, lambda: str(round(self.busy()["mem"] * self.memory.clock.value / 1e3)))
        for number, chip in enumerate(fake.chips):
            (self._iio if fake.driver == "iio" else self._hwmon)(number, chip)
        for number, zone in enumerate(("CPU-therm", "GPU-therm", "PMIC-Die")):
            folder = f"/sys/class/thermal/thermal_zone{number}"
            self.constant(f"{folder}/type", zone)
            self.add(f"{folder}/temp", partial(self._millidegrees, number))
        for device in WORK:
            self.add(f"/fake/load_{device}", lambda: "", partial(self._put_load, device))
        self.add("/fake/step_s", lambda: f"{self.step_s():.9f}")  # what silicon tells a program; no kernel has it

    def _put_load(self, device: str, text: str) -> None:
        self.load = (self.load or {}) | {device: float(text)}

    def _iio(self, number: int, chip: Chip) -> None:
        folder = f"/sys/bus/i2c/drivers/ina3221x/{chip.at}/iio:device{number}"
        for channel, label in enumerate(chip.labels):
            read = partial(self._milli, chip, channel)
            self.constant(f"{folder}/rail_name_{channel}", label or "NC")
            self.add(f"{folder}/ui_input_{channel}", lambda read=read: "{} {}".format(*read()))
            self.add(f"{folder}/in_voltage{channel}_input", lambda read=read: str(read()[0]))
            self.add(f"{folder}/in_current{channel}_input", lambda read=read: str(read()[1]))
            self.add(f"{folder}/crit_current_limit_{channel}", lambda: "32760 ma", _threshold)

    def _hwmon(self, number: int, chip: Chip) -> None:
        folder = f"/sys/class/hwmon/hwmon{number}"
        if not chip.shunts_uohm:  # an INA238, which gives power by itself
            self.constant(f"{folder}/name", "ina238")
            self.constant(f"{folder}/power1_label", chip.labels[0])
            self.add(f"{folder}/power1_input", lambda: str(round(self.watts(chip.labels[0]) * 1e6)))
            return
        self.constant(f"{folder}/name", "ina3221")
        for channel, label in enumerate(chip.labels, start=1):
            if label:
                self.constant(f"{folder}/in{channel}_label", label)
            read = partial(self._milli, chip, channel - 1)
            self.add(f"{folder}/in{channel}_input", lambda read=read: str(read()[0]))
            self.add(f"{folder}/curr{channel}_input", lambda read=read: str(read()[1]))
            self.add(f"{folder}/curr{channel}_crit", lambda: "32760", _threshold)
        self.constant(f"{folder}/in7_label", "sum of shunt voltages")
        self.add(f"{folder}/in7_input", _no_data)

    # What it does -------------------------------------------------------------------------------------------------

    def shares(self) -> dict[str, float]:
        """Each clock as share of its highest; the slowest policy with a processor online counts for the CPU."""
        cpu = [p.clock.value / p.clock.table[-1] for p in self.policies if p.online]
        gpu, memory = self.gpu.clock, self.memory.clock
        return {"cpu": min(cpu), "gpu": gpu.value / gpu.table[-1], "mem": memory.value / memory.table[-1]}

    def step_s(self) -> float:
        """Seconds of a step: GPU and memory overlap by half, the CPU beside them."""
        shares = self.shares()
        times = {device: STEP_S * work / shares[device] for device, work in WORK.items()}
        accelerated = (times["gpu"] ** 2 + times["mem"] ** 2) ** 0.5
        return 0.05 * STEP_S + (times["cpu"] ** 4 + accelerated**4) ** 0.25

    def busy(self) -> dict[str, float]:
        """Busy share of each device."""
        if self.load is not None:
            return dict.fromkeys(WORK, 0.0) | self.load
        if not self.running:
            return dict.fromkeys(WORK, 0.0)
        shares, step_s = self.shares(), self.step_s()
        return {device: min(STEP_S * work / shares[device] / step_s, 1.0) for device, work in WORK.items()}

    def device_w(self) -> dict[str, float]:
        """Watts of the three devices."""
        shares, busy = self.shares(), self.busy()
        full_w = {"cpu": 2.6, "gpu": 4.4, "mem": 1.6}
        return {
            device: watts * shares[device] * (0.6 + 0.4 * shares[device]) ** 2 * (0.12 + 0.88 * busy[device])
            for device, watts in full_w.items()
        }

    def watts(self, label: str) -> float:
        """Watts of one rail, before the sensor."""
        devices = self.device_w()
        rest = {"soc": 0.7, "cv": 0.1, "other": 0.9}
        rail = self.profile.rails.get(label, "carrier")
        if rail == "total":
            return (sum(devices.values()) + rest["soc"]) * 1.15 + 0.9
        if rail == "other" and self.profile.id == "jetson-agx-orin":
            return rest["other"] + devices["mem"]
        return sum((devices | rest).get(part, 0.3) for part in rail.split("+"))

    def _milli(self, chip: Chip, channel: int) -> tuple[int, int]:
        """Millivolts in steps of 8, milliamperes in steps of 40 uV over the shunt, as an INA3221 gives them."""
        label = chip.labels[channel]
        if not label:
            raise OSError(errno.ENODATA, "channel off")
        millivolts = int(self.fake.supply_v * 1e3 / 8) * 8
        step_ma = 40e3 / chip.shunts_uohm[channel]
        return millivolts, round(round(self.watts(label) / self.fake.supply_v * 1e3 / step_ma) * step_ma)

    def _millidegrees(self, zone: int) -> str:
        return "100000" if zone == 2 else str(round(1e3 * (35.0 + 3.0 * sum(self.device_w().values()))))

    def _stat(self) -> str:
        """Ticks since this board was made, as if its load had always been that of now."""
        ticks = (time.monotonic() - self._from_s) * TICKS_HZ
        busy = self.busy()["cpu"]
        online = [cpu for policy in self.policies for cpu in policy.online]
        line = f"{round(ticks * busy)} 0 0 {round(ticks * (1 - busy))} 0 0 0 0 0 0"
        return "\n".join([f"cpu  {line}", *(f"cpu{cpu} {line}" for cpu in sorted(online)), "intr 0"])


def _no_data() -> str:
    raise OSError(errno.ENODATA, "shunts differ")


def _threshold(text: str) -> None:
    raise AssertionError(f"a protection threshold was written: {text}")
