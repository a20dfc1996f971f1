"""How the service manager hears of us: sd_notify(3), a few lines of text in a datagram.

Nothing happens where no service manager listens, and nothing that goes wrong here ever ends the run.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import structlog

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    ControlPaused,
    ControlResumed,
    Decided,
    Event,
    SensorLost,
    SensorRecovered,
)
from ceml.domain.knobs import level_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from anyio.abc import TaskStatus

    from ceml.domain.knobs import Configuration

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PATIENCE_S = 0.5  # where its inbox is full, for the two words that it acts on; a lost status line is no loss
LONGEST_STATUS = 200  # characters; `systemctl status` shows one line


class ServiceManager:
    """Whoever started us and wants to hear how it goes; in most cases systemd, or nobody.

    Attributes:
        watchdog_s: It ends us where it hears nothing for so long; 0: never.
    """

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0, speed: float = 1.0) -> None:
        """Nothing is sent.

        Args:
            address: Path of its socket; `@` begins an abstract one. Empty: nobody listens.
            watchdog_s: As the attribute.
            speed: Seconds of the loop per second of the clock.
        """
        self.watchdog_s = watchdog_s if address else 0.0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._speed = speed
        self._status = ""
        self._deaf = False

    @staticmethod
    def named_in(environ: MutableMapping[str, str], pid: int, *, speed: float = 1.0) -> ServiceManager:
        """The one that the environment names. The variables are taken out, since no child may speak for us."""
        address, usec, whom = (environ.pop(name, "") for name in VARIABLES)
        ours = usec.isascii() and usec.isdigit() and whom in ("", str(pid))
        known = address.startswith(("/", "@")) and len(address) > 1 and "\0" not in address
        return ServiceManager(address if known else "", watchdog_s=int(usec) * 1e-6 if ours else 0.0, speed=speed)

    def ready(self) -> None:
        """The doors are open."""
        self.tell("READY=1", wait_s=PATIENCE_S)

    def stopping(self, reason: str) -> None:
        """The end has begun: knobs are being put back."""
        self.tell(f"STOPPING=1\nSTATUS=putting the knobs back ({reason})", wait_s=PATIENCE_S)

    def tell(self, lines: str, *, wait_s: float = 0.0) -> None:
        """Send; what finds no room within so many seconds of the clock, or no listener, is said once and forgotten."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
                way.settimeout(wait_s)  # 0: not at all
                way.sendto(lines.encode("utf-8", "backslashreplace"), self._address)
        except OSError as error:
            if not self._deaf:
                self._deaf = True
                structlog.get_logger().warning("service_manager_deaf", problem=error.strerror or str(error))

    def on(self, event: Event) -> None:
        """Keep the one line that `systemctl status` shows; for the few events that change it."""
        said = _status_of(event)
        if said and said != self._status:
            self._status = said
            self.tell(f"STATUS={said[:LONGEST_STATUS]}")

    async def watch(self, verified: Callable[[], Awaitable[None]], *, task_status: TaskStatus[None]) -> None:
        """Feed the watchdog twice in its time, each time after the machine was read back; until cancelled.

        A read-back that does not come is waited for no longer than that: the watchdog then goes hungry, and what the
        service manager does about it ends in `ceml restore`.
        """
        task_status.started()
        while True:
            due_s = anyio.current_time() + self.watchdog_s / 2 * self._speed
            with anyio.move_on_after(self.watchdog_s / 2 * self._speed):
                await verified()
                self.tell("WATCHDOG=1")
            await anyio.sleep(max(due_s - anyio.current_time(), 0.0))


def _status_of(event: Event) -> str:
    match event:
        case AppJoined():
            return f"measuring {_line(event.app)}"
        case Decided():
            return f"{_line(event.app)} at {_levels(event.configuration)}"
        case AppLeft():
            return f"waiting; {_line(event.app)} left"
        case ControlPaused():
            return "paused"
        case ControlResumed():
            return "resumed"
        case SensorLost():
            return f"sensor {_line(event.sensor)} is lost"
        case SensorRecovered():
            return f"sensor {_line(event.sensor)} is back"
        case _:
            return ""


def _levels(configuration: Configuration) -> str:
    return " ".join(f"{name}={level_text(name, level)}" for name, level in configuration.items())


def _line(name: str) -> str:
    """A name as part of one line: a program chooses its own, and a line break in it would begin another field."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
