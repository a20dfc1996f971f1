"""What is said on the control socket: one JSON object a line, a request and then its reply; `protocol.schema.json`.

    {"version": 1, "verb": "budget", "limits": {"budget": "8W"}}
    {"ok": true, "version": 1, "server": "0.1.0", "result": {"kind": "changed", ...}}

SI units inside, told by the names; what is not known is null. A request is at most 64 KiB long. Fields may be added
to replies without a new version: a client passes over those that it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import pydantic_core
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from ceml.api.client import MAX_REQUEST_BYTES, VERSION
from ceml.errors import CemlError

MOST_CANDIDATES = 50

LimitName = Literal[
    "budget", "rail_budget", "target", "max_slowdown", "deadline", "energy_allowance", "max_temperature"
]
Said = StrictStr | StrictFloat | StrictInt | list[StrictStr] | None
ErrorCode = Literal["malformed", "too_long", "version", "forbidden", "refused", "busy", "internal"]


class ProtocolError(CemlError):
    """A line that is no request; `code` says which kind of mistake it is."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


# Requests -------------------------------------------------------------------------------------------------------------


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = Field(description="Of this protocol.")


class StatusRequest(_Said):
    """How the run stands; for everybody who can connect."""

    verb: Literal["status"]


class ExplainRequest(_Said):
    """Why this configuration; for everybody who can connect."""

    verb: Literal["explain"]
    top: StrictInt = Field(5, ge=1, le=MOST_CANDIDATES, description="How many candidates.")


class BudgetRequest(_Said):
    """New limits. Those named are replaced, null or "none" lifts one; the others stay unless `clear` lifts them all."""

    verb: Literal["budget"]
    limits: dict[LimitName, Said] = Field(
        default_factory=dict[LimitName, Said],
        description="Under the names of the settings and written as there: 8W, 2.5/s, 10%.",
    )
    clear: StrictBool = Field(False, description="Lift all limits first.")


class ObjectiveRequest(_Said):
    """Another objective; models stay as they are, only the search runs."""

    verb: Literal["objective"]
    objective: Annotated[StrictStr, Field(min_length=1, max_length=200, description="NAME[:key=number,...]")]


class PauseRequest(_Said):
    """Put the knobs back to their prior values and leave them alone."""

    verb: Literal["pause"]


class ResumeRequest(_Said):
    """Take control again."""

    verb: Literal["resume"]


Request = StatusRequest | ExplainRequest | BudgetRequest | ObjectiveRequest | PauseRequest | ResumeRequest
Reading = (StatusRequest, ExplainRequest)
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="verb")])

# Replies --------------------------------------------------------------------------------------------------------------


def _known(value: object) -> object:
    """What is not known is null."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


Number = Annotated[float | None, BeforeValidator(_known)]
Levels = dict[str, float | str]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limit(_Told):
    """One limit in force."""

    name: str = Field(description="With its bound and unit: power cap 8 W.")
    headroom: Number = Field(description="Share of the bound that is left, as measured last; negative where broken.")


class Measurement(_Told):
    """What was measured, or is expected, in one configuration."""

    configuration: Levels
    rate_hz: Number = Field(description="Steps per second.")
    power_w: Number = Field(description="Of the whole board.")
    energy_j: Number = Field(description="Per step.")


class Decision(_Told):
    """The latest choice, with what was expected of it."""

    at_s: float = Field(description="Seconds of the run's clock.")
    configuration: Levels
    rate_hz: Number
    power_w: Number
    cost: Number
    feasible: bool
    violation: Number
    why: str
    other: Levels | None = Field(
        default=None, description="Of a two-state schedule the state for the rest of the time."
    )
    share: float = Field(default=1.0, description="Share of the time in `configuration`.")


class Happening(_Told):
    """One thing that happened, in a sentence."""

    number: int = Field(description="Counted from 1 in this run, without gaps.")
    at_s: float = Field(description="Seconds of the run's clock.")
    what: str = Field(description="Which kind of thing: decided, applied, guard, limits, ...")
    text: str
    grave: bool = Field(description="Whether a person should look at it.")


class Status(_Told):
    """How the run stands."""

    kind: Literal["status"] = "status"
    at_s: float
    platform: str
    labels: list[str] = Field(description="What must be said wherever these numbers are shown: simulated, estimated.")
    objective: str
    phase: Literal["waiting", "profiling", "idle", "paused"]
    app: str | None
    configuration: Levels | None = Field(description="In force now, as read back.")
    highest: dict[str, float] = Field(description="The highest level of each knob whose levels have an order.")
    why: str
    power_w: Number = Field(description="Of the whole board, last readings.")
    budget_w: Number = Field(description="Cap on it in force.")
    rails_w: dict[str, Number] = Field(description="Last reading of each rail.")
    rail_budgets_w: dict[str, Number] = Field(description="Caps on single rails in force.")
    temperature_c: Number = Field(description="Of the hottest zone, last reading.")
    latest: Measurement | None = Field(description="The latest window.")
    limits: list[Limit]
    decided: Decision | None
    decisions: int = Field(description="In this run, of all programs.")
    states_tried: int = Field(description="Configurations measured since the program came or last changed.")
    steps: float
    seconds: float
    energy_j: Number = Field(description="Of the board since the run began.")
    profiling_s: float = Field(description="In this run, of all programs.")
    saving: Number = Field(
        description="Of the energy per step since the latest decision, as share of the baseline's; null where that is "
        "an estimate too vague for one figure: then see saving_between."
    )
    saving_so_far: Number = Field(description="The same over all steps, profiling included.")
    saving_between: tuple[float, float] | None = Field(
        description="Where saving lies with 95 %, where the baseline is an estimate."
    )
    others: str | None = Field(
        description="Other programs that were here while windows were measured; power is of all, and no saving is told "
        "where they were here for a part of the time."
    )
    baseline: str | None = Field(description="What savings are held against.")
    guard_steps: int = Field(description="How often a broken limit was stepped away from.")
    phase_changes: int = Field(description="How often the program changed.")
    refused_lines: int = Field(description="Lines on the pipe that were no good.")
    happened: list[Happening] = Field(description="The latest of what happened, the newest last, at most 20.")


class Changed(_Told):
    """A wish is in force."""

    kind: Literal["changed"] = "changed"
    verb: str
    objective: str
    paused: bool
    limits: list[str] = Field(description="In force now.")


class Candidate(_Told):
    """One configuration as the models see it."""

    configuration: Levels
    in_force: bool
    rate_hz: Number
    power_w: Number
    energy_j: Number
    cost: Number
    violation: Number = Field(description="Largest relative excess over a limit, as expected.")
    violation_surely: Number = Field(description="The same at the pessimistic 95 % quantile, which a search keeps.")
    rate_sd: Number = Field(description="Relative standard deviation of the rate expected.")
    power_sd: Number
    margins: dict[str, Number] = Field(description="Limit -> share of its bound that is left.")
    measured: Measurement | None


class ModelNumber(_Told):
    """One number of the fitted model."""

    name: str
    value: Number
    unit: str


class Explained(_Told):
    """Why this configuration."""

    kind: Literal["explained"] = "explained"
    app: str | None
    objective: str
    why: str
    model: str
    fit: str = Field(description="How the fit went: good, too_few, singular, not_finite; none: nobody is here.")
    sentence: str
    states: int
    measured_states: int
    candidates: list[Candidate]
    measured: list[Measurement] = Field(description="What was measured, the latest first, at most 50 of them.")
    parameters: list[ModelNumber]
    unjudged: str


Result = Status | Changed | Explained


class Error(_Told):
    """Why not, in a sentence for a person."""

    code: ErrorCode
    text: str


class Good(_Told):
    """Asked and answered."""

    ok: Literal[True] = True
    version: Literal[1] = VERSION
    server: str = Field(description="Version of ceml that answers.")
    result: Annotated[Result, Field(discriminator="kind")]


class Bad(_Told):
    """Not done; what was in force stays so."""

    ok: Literal[False] = False
    version: Literal[1] = VERSION
    server: str
    error: Error


Reply = Good | Bad


# Lines ----------------------------------------------------------------------------------------------------------------


def parse(line: bytes) -> Request:
    """One line as a request.

    Raises:
        ProtocolError: It is none; the text says what is wrong with it.
    """
    if len(line) > MAX_REQUEST_BYTES:
        raise ProtocolError("too_long", f"the request is longer than {MAX_REQUEST_BYTES} bytes")
    try:
        said: object = pydantic_core.from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise ProtocolError("malformed", f"the request is no JSON: {_short(str(error))}") from None
    if not isinstance(said, dict):
        raise ProtocolError("malformed", 'the request must be an object such as {"version": 1, "verb": "status"}')
    version = cast("dict[str, Any]", said).get("version")
    if version != VERSION or isinstance(version, bool | float):
        raise ProtocolError("version", f"this server speaks version {VERSION}, the request version {_short(version)}")
    try:
        return _REQUESTS.validate_python(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(_short(part) for part in first["loc"])
        raise ProtocolError(
            "malformed", f"{where}: {_short(first['msg'])}" if where else _short(first["msg"])
        ) from None


def line_of(reply: Reply) -> bytes:
    """A reply as one line."""
    return reply.model_dump_json().encode("utf-8", "backslashreplace") + b"\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of requests and replies; kept in `protocol.schema.json`."""
    whole: TypeAdapter[Any] = TypeAdapter(
        Annotated[Request, Field(discriminator="verb")] | Annotated[Reply, Field(discriminator="ok")]
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line on CEML's control socket, version {VERSION}",
        **whole.json_schema(),
    }


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 200 else f"{text[:197]}..."
    return text if text.isprintable() else ascii(text)[1:-1]
