"""`ceml top`: how the running server stands, in a terminal. A program of its own, which asks on the control socket.

It asks once a second in a thread, so that a server that does not answer holds nothing up, and shows the last it knew.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

from ceml.api import client
from ceml.domain.knobs import level_text
from ceml.domain.values import spoken
from ceml.errors import CemlError
from ceml.units import between_text, excess_text

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.events import Key

PERIOD_S = 1.0  # as `ceml status --watch`; a refresh costs some 10 ms of CPU
TIMEOUT_S = 2.0
BAR = 12  # cells
NARROW = 60  # columns: below it one thing a line
KEYS = 70  # columns that the footer with all keys needs; below it they are told in short
SHORT_KEYS = "b Budget o Goal p Pause r Resume q Quit"  # 39 columns; narrower still it takes two lines
WISH_KEYS = "Enter: ask for it  Esc: never mind"


class Top(App[None]):
    """The screen.

    Args:
        path: The control socket.
        period_s: Seconds between two questions.
    """

    CSS = """
    #head { text-style: bold; background: $panel; padding: 0 1; }
    #figures, #said { padding: 0 1; }
    #happened { padding: 0 1; border-top: solid $secondary; }
    #said { text-style: bold; }
    #wish { display: none; border: tall $accent; }
    #wish.asked { display: block; }
    #keys { text-style: bold; background: $panel; display: none; }
    .narrow #keys { display: block; }
    .narrow Footer { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("b", "wish('budget')", "Budget"),
        ("o", "wish('objective')", "Objective"),
        ("p", "ask('pause')", "Pause"),
        ("r", "ask('resume')", "Resume"),
        ("q", "quit", "Quit"),
        ("escape", "never_mind", "Never mind"),
    ]
    ENABLE_COMMAND_PALETTE = False
    TITLE = "ceml top"

    def __init__(self, path: Path, *, period_s: float = PERIOD_S) -> None:
        super().__init__()
        self._path = path
        self._period_s = period_s
        self._asking = False
        self._wished = "budget"
        self._shown: dict[str, str | Text] = {}
        self.status: dict[str, Any] | None = None
        self.lost = ""
        self.answer = ""

    def compose(self) -> ComposeResult:
        """What there is to see."""
        yield Static("asking …", id="head", markup=False)
        with VerticalScroll():
            yield Static("", id="figures")
            yield Static("", id="happened")
        yield Static("", id="said", markup=False)
        yield Input(id="wish")
        yield Static(SHORT_KEYS, id="keys", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Ask from now on."""
        for number in (signal.SIGTERM, signal.SIGHUP):  # as `q`: else the terminal stays as we made it
            asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)
        self.query_one(VerticalScroll).focus()
        self.set_interval(self._period_s, self._look)
        self._look()

    def on_resize(self) -> None:
        """Write it anew for another width."""
        self.screen.set_class(self.size.width < KEYS, "narrow")
        self._shown.clear()
        self._show()

    # Asking ----------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._asking:  # a server that is slow is not asked twice
            self._asking = True
            self.run_worker(self._ask_status, thread=True)

    def _ask_status(self) -> None:
        try:
            status, lost = client.ask(self._path, "status", timeout_s=TIMEOUT_S), ""
        except CemlError as error:
            status, lost = None, str(error)
        self.call_later(self._heard, status, lost)

    def _heard(self, status: dict[str, Any] | None, lost: str) -> None:
        self._asking = False
        self.status, self.lost = status or self.status, lost
        self._show()

    def action_ask(self, verb: str, **fields: object) -> None:
        """Ask for a change; what comes of it is told."""
        self.answer = f"{verb} …"
        self._show()

        def ask() -> None:
            try:
                told = client.ask(self._path, verb, timeout_s=client.TIMEOUT_S, **fields)
                limits = ", ".join(told["limits"]) or "none"
                answer = f"done: objective {told['objective']}, limits {limits}{', paused' if told['paused'] else ''}"
            except CemlError as error:
                answer = str(error)
            self.call_later(self._answered, answer)

        self.run_worker(ask, thread=True)

    def _answered(self, answer: str) -> None:
        self.answer = answer
        self._show()
        self._look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that come in one go with the one that opened the field mean letters, not what they do otherwise."""
        return action == "never_mind" or not self._opening

    @property
    def _opening(self) -> bool:
        """Whether the field is there and has not the focus yet."""
        return any(field.has_class("asked") and not field.has_focus for field in self.query("#wish"))

    def action_wish(self, verb: str) -> None:
        """Let the person write what is wished for."""
        self._wished = verb
        field = self.query_one("#wish", Input)
        field.placeholder = {"budget": "8W, 7500mW or none", "objective": "energy, edp, performance"}[verb]
        field.border_title = verb
        field.value = ""
        field.add_class("asked")
        field.focus()
        self.query_one("#keys", Static).update(WISH_KEYS)

    def action_never_mind(self) -> None:
        """Wish for nothing."""
        self.query_one("#wish", Input).remove_class("asked")
        self.query_one("#keys", Static).update(SHORT_KEYS)
        self.query_one(VerticalScroll).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """It is written."""
        said = event.value.strip()
        self.action_never_mind()
        if said and self._wished == "budget":
            self.action_ask("budget", limits={"budget": said})
        elif said:
            self.action_ask("objective", objective=said)

    def on_key(self, event: Key) -> None:
        """Such letters belong into the field."""
        field = self.query_one("#wish", Input)
        if not self._opening:
            return
        if event.key == "enter":
            field.post_message(Input.Submitted(field, field.value))
        elif event.character is not None and event.is_printable:
            field.insert_text_at_cursor(event.character)

    # Showing ---------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        status = self.status
        if not self.query("#said"):  # not drawn yet, or no more
            return
        self._put("said", self.answer)
        if status is None:
            self._put("head", self.lost or "asking …")
            return
        app = status["app"] or "no program"
        lost = f"NO ANSWER, what follows is old: {self.lost}\n" if self.lost else ""
        phase = spoken(status["phase"])
        labels = ", ".join(dict.fromkeys([status["platform"], *status["labels"]]))
        self._put("head", f"{lost}{phase} · {app} · {status['objective']} · {labels}")
        self._put("figures", figures(status, self.size.width))
        self._put("happened", happened(status))

    def _put(self, name: str, content: str | Text) -> None:
        """Show it, if it is new; where it takes as many lines as before nothing else has to move."""
        before, self._shown[name] = self._shown.get(name), content
        if content == before:
            return
        lines, known = str(content).splitlines(), str(before or "").splitlines()
        fits = all(len(line) < self.size.width - 4 for line in (*lines, *known))
        self.query_one(f"#{name}", Static).update(content, layout=len(lines) != len(known) or not fits)


def figures(status: dict[str, Any], columns: int) -> Text:
    """Power, rate, energy, knobs, rails and limits, with units; bars where there is room for them."""
    latest: dict[str, Any] = status["latest"] or {}
    power, cap = status["power_w"], status["budget_w"]
    bars = columns >= NARROW
    rows: list[tuple[str, str, float | None, bool]] = []

    def add(name: str, text: str, share: float | None = None, *, grave: bool = False) -> None:
        rows.append((name, text, share, grave))

    if cap is None:
        add("power", number(power, ".2f", "W"))
    elif power is None:
        add("power", f"? W of {cap:g} W")
    else:
        left = cap - power
        head = f"{left:.2f} W headroom" if left >= 0 else f"EXCEEDED by {-left:.2f} W"
        add("power", f"{power:.2f} W of {cap:g} W, {head}", power / cap, grave=left < 0)
    before = " before the pause" if status["phase"] == "paused" else ""
    add("rate", number(latest.get("rate_hz"), ".4g", "steps/s") + before)
    add("energy", number(latest.get("energy_j"), ".4g", "J/step") + before)
    if status["saving"] is not None:
        add("saving", f"{status['saving']:.1%} against {status['baseline']}{before}")
    elif told := between_text(status["saving_between"]):
        add("saving", f"{told} against {status['baseline']}{before}")
    if status["others"]:
        add("beware", f"another program, {status['others']}, was here: power is of all")
    add("so far", f"{status['steps']:.0f} steps, {status['seconds']:.0f} s, {number(status['energy_j'], '.0f', 'J')}")
    if status["temperature_c"] is not None:
        add("hottest", f"{status['temperature_c']:.1f} °C")
    highest: dict[str, float] = status["highest"]
    levels: dict[str, float | str] = status["configuration"] or {}
    for name, level in levels.items():
        share = level / highest[name] if isinstance(level, float | int) and highest.get(name) else None
        add(f"{name.rpartition('_')[0] or name} knob", level_text(name, level), share)
    rails: dict[str, float | None] = status["rails_w"]
    most = max((watts for watts in rails.values() if watts is not None), default=0.0)
    for rail, watts in rails.items():
        rail_cap = status["rail_budgets_w"].get(rail)
        of, whole = (f" of {rail_cap:g} W", rail_cap) if rail_cap is not None else ("", most)
        share = watts / whole if watts is not None and whole else None
        add(f"{rail} rail", number(watts, ".2f", "W") + of, share, grave=rail_cap is not None and (share or 0.0) > 1.0)
    for limit in status["limits"]:
        left = limit["headroom"]
        told = (
            "headroom not known"
            if left is None
            else f"{left:.1%} headroom"
            if left >= 0
            else f"EXCEEDED by {excess_text(-left)}"
        )
        add("limit", f"{limit['name']}: {told}{before}", grave=left is not None and left < 0)
    add("because", status["why"] or "nothing was applied yet")
    width = max(len(name) for name, *_ in rows)
    text = Text(overflow="fold")
    for name, told, share, grave in rows:
        text.append(f"{name:<{width}}  ", style="dim")
        if bars and share is not None:
            text.append(f"{bar(share)} ")
        text.append(f"{'! ' if grave else ''}{told}\n", style="bold reverse" if grave else "")
    text.rstrip()
    return text


def happened(status: dict[str, Any]) -> Text:
    """What happened, the newest first."""
    text = Text(overflow="fold")
    for entry in reversed(status["happened"]):
        ago = max(status["at_s"] - entry["at_s"], 0.0)
        when = f"{ago / 60:.0f} min" if ago < 6000 else f"{ago / 3600:.1f} h"
        if ago < 100:
            when = f"{ago if ago < 10 else ago // 10 * 10:.0f} s"  # in steps: what stands still costs nothing
        text.append(f"{when:>6} ago  ", style="dim")
        text.append(f"{'! ' if entry['grave'] else ''}{entry['what']} ", style="bold")
        text.append(f"{entry['text']}\n")
    text.rstrip()
    return text


def bar(share: float) -> str:
    """A share as a bar that needs no colour."""
    full = round(min(max(share, 0.0), 1.0) * BAR)
    return "█" * full + "░" * (BAR - full)


def number(value: float | None, form: str, unit: str) -> str:
    """With its unit; `?` where it is not known."""
    return f"{'?' if value is None else format(value, form)} {unit}"
