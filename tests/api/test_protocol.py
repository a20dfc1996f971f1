"""The lines of the control socket: what is a request, what is not, and the schema that is shipped.

Not covered: who says them to whom (test_socket.py).
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.api import protocol
from ceml.api.client import MAX_REQUEST_BYTES
from ceml.api.protocol import (
    Bad,
    BudgetRequest,
    Changed,
    Error,
    ExplainRequest,
    Good,
    Measurement,
    ProtocolError,
    line_of,
    parse,
    schema,
)
from ceml.domain.values import NO_LIMITS
from ceml.errors import SettingsError
from ceml.settings import LIMITS
from ceml.sources import changed_limits

SCHEMA_FILE = Path(protocol.__file__).with_name("protocol.schema.json")
VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_the_shipped_schema_is_the_one_that_the_code_gives():
    """Where the protocol changed: `SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\\n")`."""
    assert json.loads(SCHEMA_FILE.read_text()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_limit_of_the_settings_can_be_said():
    assert set(protocol.LimitName.__args__) == set(LIMITS)  # type: ignore[attr-defined]


texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3),
    max_leaves=8,
)
verbs = st.sampled_from(["status", "explain", "budget", "objective", "pause", "resume"]) | texts
near_requests = st.fixed_dictionaries(
    {"version": st.just(1) | json_values, "verb": verbs},
    optional={
        "limits": st.dictionaries(st.sampled_from(list(LIMITS)) | texts, json_values, max_size=3) | json_values,
        "clear": json_values,
        "top": json_values,
        "objective": json_values,
    },
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_noise_is_refused_in_one_printable_line(line: bytes):
    with pytest.raises(ProtocolError) as refused:
        parse(line)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@given(near_requests)
def test_what_is_almost_a_request_is_one_by_the_schema_or_refused(said: dict):
    line = json.dumps(said).encode()
    try:
        request = parse(line)
    except ProtocolError:
        return
    VALIDATOR.validate(json.loads(line))
    assert parse(request.model_dump_json().encode()) == request


@given(near_requests.filter(lambda said: isinstance(said.get("limits"), dict)))
def test_limits_that_a_request_may_hold_are_limits_or_refused_by_name(said: dict):
    try:
        request = parse(json.dumps(said | {"verb": "budget", "version": 1}).encode())
    except ProtocolError:
        return
    assert isinstance(request, BudgetRequest)
    with suppress(SettingsError):
        limits = changed_limits(NO_LIMITS, request.limits, "control socket")
        assert all(value is None or value >= 0 for value in (limits.power_cap_w, limits.target_hz, limits.deadline_s))


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"", "malformed", "no JSON"),
        (b"[" * 60_000, "malformed", "no JSON"),
        (b'{"version": 1, "verb": "status"', "malformed", "no JSON"),
        (b'{"version": 1, "verb": "budget", "limits": {"budget": NaN}}', "malformed", "no JSON"),
        (b'{"version": 1, "verb": "budget", "limits": {"budget": true}}', "malformed", "limits.budget"),
        (b'{"version": 1, "verb": "budget", "limits": {"bugdet": "8W"}}', "malformed", "limits.bugdet"),
        (b"7", "malformed", "must be an object"),
        (b'{"verb": "status"}', "version", "version None"),
        (b'{"version": 2, "verb": "status"}', "version", "version 2"),
        (b'{"version": true, "verb": "status"}', "version", "version True"),
        (b'{"version": 1}', "malformed", "verb"),
        (b'{"version": 1, "verb": "reboot"}', "malformed", "'status'"),
        (b'{"version": 1, "verb": "status", "budget": 8}', "malformed", "budget"),
        (b'{"version": 1, "verb": "explain", "top": 0}', "malformed", "top"),
        (b'{"version": 1, "verb": "explain", "top": 51}', "malformed", "top"),
        (b'{"version": 1, "verb": "objective", "objective": ""}', "malformed", "objective"),
        (b" " * (MAX_REQUEST_BYTES + 1), "too_long", "65536"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, code: str, words: str):
    with pytest.raises(ProtocolError) as refused:
        parse(line)
    assert refused.value.code == code
    assert words in str(refused.value)


def test_fields_left_out_have_their_defaults():
    request = parse(b'{"version": 1, "verb": "explain"}')
    assert isinstance(request, ExplainRequest)
    assert request.top == 5


@given(st.floats(), st.floats(), st.text(max_size=30))
def test_replies_are_one_line_that_the_schema_allows(rate_hz: float, power_w: float, text: str):
    measured = Measurement(configuration={"gpu_hz": 1e9}, rate_hz=rate_hz, power_w=power_w, energy_j=None)
    assert json.loads(measured.model_dump_json())["rate_hz"] == (rate_hz if abs(rate_hz) < float("inf") else None)
    changed = Changed(verb="budget", objective=text, paused=False, limits=[text])
    for reply in (Good(server="0", result=changed), Bad(server="0", error=Error(code="refused", text=text))):
        line = line_of(reply)
        assert line.count(b"\n") == 1
        VALIDATOR.validate(json.loads(line))
