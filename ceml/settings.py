"""The whole configuration as one flat tree of fields; each unit is in the name, each reason in the description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ceml import units
from ceml.setting_types import (
    Celsius,
    File,
    Hertz,
    Items,
    Joules,
    Rails,
    Real,
    Seconds,
    Share,
    Text,
    Token,
    Url,
    Watts,
    Where,
    Whole,
)

if TYPE_CHECKING:
    from ceml.domain.values import Limits

RUN, AIM, MEASURE, FILES = "What to run on", "What to optimise", "Measuring", "Files"
VIEWS, OUTPUT = "Live views", "Output"


def _field(default: object, group: str, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"group": group}, **bounds)


class Settings(BaseModel):
    """Everything that can be set; see the description of each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    platform: Text = _field(
        "simulated",
        RUN,
        "Board to run on: NAME[:key=value,...] or path/to/file.py:factory; several joined by +, e.g. linux+nvml. "
        "Simulated, because it runs everywhere and can harm nothing.",
    )
    board: Text | None = _field(None, RUN, "Which board of the platform; unset, the platform takes its own first one.")
    range: Literal["paper", "full"] | None = _field(
        None,
        RUN,
        "Frequencies of the simulated board: the paper's 540 states, or all that were measured. Unset, the platform's "
        "own: paper.",
    )
    table: File | None = _field(None, RUN, "Measured table (CSV) that the replay platform plays; there is no default.")
    workload: Text | None = _field(
        None, RUN, "Which program of the table or of the simulated board; no default, since tables hold several."
    )
    batch: Real | None = _field(
        None, RUN, "Which batch size of the table; needed only where the workload was measured with several.", gt=0
    )
    fix: Items = _field(
        (), RUN, "KNOB=VALUE, keep this knob of the table there; repeatable. Nothing is fixed unless you say so."
    )
    limit: Items = _field(
        (), RUN, "KNOB=LOW..HIGH, use only these levels; repeatable. No limit, so that all measured states are used."
    )
    measured: bool = _field(
        False,
        RUN,
        "Play the raw measurements of the table. Off, because the smoothed columns plus fresh noise do not "
        "reward luck.",
    )
    speed: Real = _field(
        1.0,
        RUN,
        "Seconds of the board per second of the clock, simulated and replayed boards only; 1 is life. Only `ceml app` "
        "keeps that time: of other programs no figure per step means anything then.",
        gt=0,
        le=1e4,
    )
    seed: Whole = _field(
        0, RUN, "Seed of all noise: the same seed gives the same run, so the default is always the same.", ge=0
    )
    noise_time: Real = _field(
        0.02, RUN, "Noise on the time of a step (CV); 2 % is what logs of a real board show.", ge=0, lt=1
    )
    noise_power: Real = _field(
        0.025, RUN, "Noise on a power sample (CV); 2.5 % is what logs of a real board show.", ge=0, lt=1
    )
    sensor_period_s: Real = _field(
        0.1, RUN, "Seconds between two readings of power; a board's sensors average over about 0.1 s.", gt=0
    )

    objective: Text = _field(
        "energy",
        AIM,
        "What to want less of: NAME[:key=value,...] or path/to/file.py:factory. Energy per step, as in the paper; "
        "energy:risk=0.9 (0.5 to 0.99, any built-in one) judges by the rate and power kept with that probability.",
    )
    budget: Watts = _field(
        None, AIM, "Cap on the power of the board, e.g. 8W or 7500mW. None: the board's own limits are the only ones."
    )
    budget_file: File | None = _field(
        None,
        AIM,
        "Watched TOML file of limits (budget, rail_budget, target, ... as here): what it names is in force whenever it "
        "is saved, what it does not name stays as it is. Unset: they change by ceml budget or a restart.",
    )
    scenario: File | None = _field(
        None,
        AIM,
        "TOML timeline of limits that change and of mishaps, for trials and tests (see the README). Unset: nothing is "
        "staged.",
    )
    rail_budget: Rails = _field(
        (), AIM, "RAIL=POWER, cap on the power of one rail, e.g. gpu=3W; repeatable. None: most boards need no more."
    )
    target: Hertz = _field(
        None, AIM, "Steps per second that must be reached, e.g. 2.5/s or 150/min. None: the objective decides alone."
    )
    max_slowdown: Share = _field(
        None,
        AIM,
        "By how much a step may take longer than at maximum frequencies, e.g. 10% or 0.1. None: as much as it pays.",
    )
    deadline: Seconds = _field(
        None,
        AIM,
        "Time from the application's start in which the work that it announces must be done, e.g. 300s or 5min. "
        "None: nobody waits.",
    )
    energy_allowance: Joules = _field(
        None,
        AIM,
        "Energy of the board that the work announced by the application may cost, e.g. 2kJ or 5Wh. None: no allowance.",
    )
    max_temperature: Celsius = _field(
        None, AIM, "Cap on the hottest zone of the board, e.g. 80C. None: the board throttles by itself."
    )
    model: Text = _field(
        "overlap",
        AIM,
        "How rate and power answer to the knobs. Device times that overlap: on measured boards it chooses far better "
        "than the paper's equations (paper).",
    )
    search: Text = _field(
        "exhaustive", AIM, "How the best state is found. Scoring all states takes microseconds, so none is left out."
    )
    dry_run: bool = _field(
        False, AIM, "Say what would be applied and change nothing. Off: without changes nothing can be measured."
    )

    sampler: Text | None = _field(
        None,
        MEASURE,
        "Which states are measured, and for how long. Unset, what fits the model: improvement (what is expected to pay "
        "for itself) where it states its uncertainty, else paper (the seven profiling states).",
    )
    detector: Text = _field(
        "cusum",
        MEASURE,
        "How a change of the program is noticed: cumulative sums, of windows and against the model. They find what "
        "`difference`, the paper's way, misses in noise, and models that are wrong.",
    )
    beats_per_state: Whole | None = _field(
        None, MEASURE, "Heartbeats to count in each state on trial, at least. Unset, the sampler decides.", ge=1
    )
    state_share: Real = _field(
        0.01,
        MEASURE,
        "Share of the announced work that sampler paper spends in each state; 1 % as in the paper.",
        gt=0,
        le=1,
    )
    default_beats: Whole = _field(
        20,
        MEASURE,
        "Heartbeats of sampler paper in each state where no total was announced; 20 bring noise of 2 % below 0.5 %.",
        ge=1,
    )
    power_samples_per_state: Whole | None = _field(
        None,
        MEASURE,
        "Power samples to wait for in each state on trial, at least. Unset, the sampler decides; paper waits for 5, "
        "half a second at 10 Hz.",
        ge=0,
    )

    longest_stay_s: Real = _field(
        60.0,
        MEASURE,
        "Seconds that sampler improvement may stay in a state on trial; it ends earlier where rate and power are sure "
        "enough. A minute holds a step or more of all but the slowest programs, and ten trials then take ten minutes.",
        gt=0,
    )
    exploration_budget: Real = _field(
        0.01,
        MEASURE,
        "Share of the energy that trials may take once the first profiling is over (time, where no power is measured): "
        "all energy while a state is on trial, of the energy of the whole run after profiling as far as the program "
        "announced its length, else of what was spent so far. 1 % is hardly noticed and pays for a trial now and "
        "then; 0 never tries again while the program stays the same.",
        ge=0,
        le=1,
    )
    turns: bool = _field(
        True,
        AIM,
        "Let two states take turns, a second or more each time, where no single one meets a target, slowdown, deadline "
        "or energy allowance exactly and that gains more than 1 %. On, because the limit is still met on average and "
        "every power cap at each instant.",
    )

    knowledge: File | None = _field(
        None,
        FILES,
        "Directory of what earlier runs learnt of this machine and its programs. Unset: serve keeps it in the state "
        "directory ($XDG_STATE_HOME/ceml, /var/lib/ceml for root), so that the next run profiles less; replay keeps "
        "none, so that its runs are independent.",
    )
    fresh: bool = _field(
        False, FILES, "Begin as if nothing were known of machine and programs. Off: what was learnt once saves trials."
    )
    pipe: File | None = _field(None, FILES, "Named pipe for heartbeats. Unset: `beats` in the runtime directory.")
    runtime_dir: File | None = _field(
        None,
        FILES,
        "Directory of pipe, control socket, lock and journal. Unset: $XDG_RUNTIME_DIR/ceml, else /run/ceml.",
    )
    group: Text | None = _field(
        None,
        FILES,
        "Group whose members may send heartbeats and use the control socket. Unset: only you, which is the safe "
        "choice.",
    )
    record: File | None = _field(
        None, FILES, "Write what happens to this file, a JSON object a line, in place of an older record. Unset: none."
    )
    record_level: Literal["decisions", "windows", "all"] = _field(
        "windows", FILES, "How much to record; windows, because everything of a day at 10 Hz is 300 MB."
    )

    web: Where = _field(
        None,
        VIEWS,
        "HOST:PORT of a page that shows the run as it goes on, e.g. 127.0.0.1:8765 (extra web). An address that "
        "others can reach needs a token. Unset: none; ceml status tells the same.",
    )
    web_token: Token | None = _field(
        None,
        VIEWS,
        "What lets limits and objective be changed on the page, and whoever comes from elsewhere look. Better set as "
        "CEML_WEB_TOKEN: flags can be read by everybody on the machine. Unset: the page only shows.",
    )

    metrics: Where = _field(
        None,
        VIEWS,
        "HOST:PORT where Prometheus finds /metrics, e.g. 127.0.0.1:9105 (extra prometheus). An address that others can "
        "reach asks for the token. Unset: none.",
    )

    otlp: Url = _field(
        None,
        VIEWS,
        "URL of an OpenTelemetry collector that the same figures are sent to every 10 s, e.g. http://127.0.0.1:4318 "
        "(extra otel). Unset: nothing is sent anywhere.",
    )

    verbose: bool = _field(False, OUTPUT, "Log every beat, sample and window too. Off: that is for finding mistakes.")
    quiet: bool = _field(False, OUTPUT, "Log only warnings. Off: a person wants to see what is decided.")
    log_format: Literal["console", "json"] = _field(
        "console", OUTPUT, "Log lines for people, or one JSON object a line for machines; people are the first readers."
    )

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.verbose and self.quiet:
            raise ValueError("verbose and quiet contradict each other: set one of them")
        if self.speed != 1.0 and self.platform.partition(":")[0] not in ("simulated", "replay"):
            raise ValueError(
                f"speed {self.speed:g} is for the platforms simulated and replay; "
                f"on platform {self.platform} time passes as it does: leave speed at 1"
            )
        for name, where in (("web", self.web), ("metrics", self.metrics)):
            if where is not None and not where.is_local and self.web_token is None:
                raise ValueError(
                    f"{name} = {where} can be reached by other machines: set a token (CEML_WEB_TOKEN), or use an "
                    f"address of this machine alone such as 127.0.0.1:{where.port}"
                )
        return self

    @property
    def limits(self) -> Limits:
        """What must hold, as one value."""
        from ceml.domain.values import Limits  # numpy comes with it: `ceml config show` need not wait for that

        return Limits(
            power_cap_w=self.budget,
            rail_caps_w=dict(map(units.rail_power, self.rail_budget)),
            target_hz=self.target,
            max_slowdown=self.max_slowdown,
            deadline_s=self.deadline,
            energy_allowance_j=self.energy_allowance,
            max_temperature_c=self.max_temperature,
        )


FIELDS = tuple(Settings.model_fields)
LIMITS = {
    "budget": "power_cap_w",
    "rail_budget": "rail_caps_w",
    "target": "target_hz",
    "max_slowdown": "max_slowdown",
    "deadline": "deadline_s",
    "energy_allowance": "energy_allowance_j",
    "max_temperature": "max_temperature_c",
}
"""Settings that are limits, and the fields of `Limits` that they become."""
