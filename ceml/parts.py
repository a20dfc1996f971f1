"""Settings become parts: the plugins they name, made, checked, and fitted to each other, but not yet alive."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter  # noqa: TID251 - how long a plugin really takes, in virtual time too
from typing import TYPE_CHECKING, cast

import numpy as np

from ceml.api.scenario import read_scenario
from ceml.control.bundle import bundled, members
from ceml.domain.budget import constraints_of
from ceml.domain.contracts import UncertainFit
from ceml.domain.mind import Mind
from ceml.domain.values import Knowledge, Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins import find
from ceml.plugins.checked import ANSWER_S, CheckedDetector, CheckedObjective, CheckedSampler, CheckedSearch
from ceml.store import device_power
from ceml.store.knowledge import KnowledgeStore, Known, machine_name
from ceml.store.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ceml.api.scenario import Scenario
    from ceml.control.ports import Platform
    from ceml.domain.contracts import ChangeDetector, Objective, ResponseModel, Sampler, Search
    from ceml.domain.values import DevicePower, Limits
    from ceml.settings import Settings
    from ceml.sources import Loaded
    from ceml.store.paths import PlatformContext

PLATFORM_OPTIONS = {
    **{name: name for name in ("board", "range", "table", "workload", "batch", "fix", "limit", "measured")},
    **{name: name for name in ("seed", "noise_time", "noise_power", "sensor_period_s")},
}
ATTEMPTS = 3  # the best of which counts: the first may prepare something, and the machine may be busy
SAMPLER_OPTIONS = {
    "beats_per_state": "beats",
    "state_share": "share",
    "default_beats": "default_beats",
    "power_samples_per_state": "power_samples",
    "longest_stay_s": "longest_s",
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything a run is made of, chosen and checked but not yet alive.

    Attributes:
        store: Where to keep what is learnt; None: nowhere.
        sampler: The sampler in force, by name.
        problems: What should be said of knowledge that was passed over, one sentence each.
    """

    settings: Settings
    context: PlatformContext
    platform: Platform
    mind: Mind
    make_detector: Callable[[], ChangeDetector]
    limits: Limits
    scenario: Scenario | None
    store: KnowledgeStore | None
    sampler: str
    problems: tuple[str, ...]


def choose(
    loaded: Loaded, context: PlatformContext, *, platform: Platform | None = None, **platform_options: object
) -> Parts:
    """Make the plugins that the settings name, and check that they fit together.

    Args:
        loaded: The settings, and which of them somebody set.
        context: What the platform may know of this process.
        platform: One that is already made, in place of the one that the settings name.
        platform_options: Options of the platform that are no settings.

    Raises:
        SettingsError: A plugin is unknown, its options are wrong, or the parts do not fit.
        Unavailable: The platform is not here.
    """
    settings = loaded.settings
    if platform is None:
        options = {**_given(loaded, PLATFORM_OPTIONS), **platform_options}
        references = members(settings.platform)
        made = [cast("Platform", find("platforms", reference, context, **options)) for reference in references]
        platform = bundled(made)
    objective = choose_objective(settings.objective, platform)
    model = cast("ResponseModel", find("models", settings.model))
    store = knowledge_store(settings, context, platform)
    known = store.read() if store is not None and not settings.fresh else Known(Knowledge())
    calibrated, problems = _calibration(store, platform, fresh=settings.fresh)
    platform = replace(platform, space=known.settled(platform.space))
    known = known.on(platform.space)
    mind = Mind(
        objective=objective,
        model=model,
        sampler=choose_sampler(loaded, model, platform),
        search=CheckedSearch(settings.search, cast("Search", find("searches", settings.search))),
        knowledge=replace(known.knowledge, board=calibrated),
        total_rails=platform.total_rails,
        power_sensors=frozenset(s.name for s in platform.sensors) if platform.total_rails else frozenset(),
        lag_s=max((sensor.lag_s for sensor in platform.sensors), default=0.0),
        exploration_budget=settings.exploration_budget,
        turns=settings.turns,
    )
    check_limits(settings.limits, platform)
    detector = find("detectors", settings.detector)  # made once; each signal gets a copy of its own
    return Parts(
        settings=settings,
        context=context,
        platform=platform,
        mind=mind,
        make_detector=lambda: CheckedDetector(settings.detector, cast("ChangeDetector", deepcopy(detector))),
        limits=settings.limits,
        scenario=_scenario(settings, platform),
        store=None if settings.dry_run else store,
        sampler=sampler_name(settings, model, platform),
        problems=(*known.problems, *problems),
    )


def knowledge_store(settings: Settings, context: PlatformContext, platform: Platform) -> KnowledgeStore | None:
    """Where knowledge of this machine lies; a run in virtual time has none unless it is told where."""
    root = settings.knowledge or (None if context.in_process else state_dir() / "knowledge")
    return None if root is None else KnowledgeStore(root, machine_name(platform.machine or platform.name))


def _calibration(
    store: KnowledgeStore | None, platform: Platform, *, fresh: bool
) -> tuple[Mapping[str, DevicePower], tuple[str, ...]]:
    """C9: what `ceml calibrate` measured here, device by device, else what the platform knows; and what was no good."""
    beforehand = (platform.knowledge or Knowledge()).board
    if store is None or fresh:
        return beforehand, ()
    try:
        return {**beforehand, **device_power.read(store)}, ()
    except SettingsError as error:
        return beforehand, (str(error),)


def _scenario(settings: Settings, platform: Platform) -> Scenario | None:
    if settings.scenario is None:
        return None
    check = partial(check_limits, platform=platform)
    return read_scenario(
        settings.scenario, settings.limits, platform, check, partial(choose_objective, platform=platform)
    )


def choose_sampler(loaded: Loaded, model: ResponseModel, platform: Platform) -> Sampler:
    """The sampler that was asked for, else the one that suits the model.

    Raises:
        SettingsError: It needs to know how sure the model is, and the model does not say.
    """
    settings = loaded.settings
    sure = _states_uncertainty(model, platform)
    reference = sampler_name(settings, model, platform)
    if reference.partition(":")[0] == "improvement" and not sure:
        raise SettingsError(
            f"sampler = {reference!r} needs a model that states its uncertainty, and model {settings.model} does not: "
            "use --model overlap, or --sampler paper"
        )
    return CheckedSampler(reference, cast("Sampler", find("samplers", reference, **_given(loaded, SAMPLER_OPTIONS))))


def sampler_name(settings: Settings, model: ResponseModel, platform: Platform) -> str:
    """The sampler that was asked for, else the one that suits the model."""
    return settings.sampler or ("improvement" if _states_uncertainty(model, platform) else "paper")


def _states_uncertainty(model: ResponseModel, platform: Platform) -> bool:
    return isinstance(model.fit(platform.space, ()), UncertainFit)


def _given(loaded: Loaded, options: dict[str, str]) -> dict[str, object]:
    """Settings that were set by somebody, under the names of a plugin's options."""
    return {
        option: getattr(loaded.settings, name) for name, option in options.items() if loaded.origins[name] != "default"
    }


def choose_objective(reference: str, platform: Platform) -> Objective:
    """The objective that a person named, tried on this board.

    Raises:
        SettingsError: It is unknown, its options are wrong, or it does not fit.
    """
    objective = CheckedObjective(reference, cast("Objective", find("objectives", reference)))
    check_objective(reference, platform, objective)
    return objective


def check_objective(name: str, platform: Platform, objective: Objective) -> None:
    """Try the objective on made-up states, as many as the board has, with power only where it is measured.

    Raises:
        SettingsError: It raises, answers in another shape, needs power that is not measured, or takes too long.
    """
    rate_hz = np.linspace(1.0, 3.0, max(len(platform.space), 2))
    power_w = 2.0 + rate_hz if platform.total_rails else np.full(len(rate_hz), np.nan)
    now = Situation(remaining_work=100.0, rate_at_max_hz=3.0)
    predicted = Prediction(rate_hz=rate_hz, power_w=power_w)
    cost, took_s = _asked(objective, predicted, now)
    if took_s > ANSWER_S:
        raise SettingsError(
            f"objective {name} takes {took_s:.2g} s to answer for {len(cost)} states; at most {ANSWER_S:g} s is "
            "allowed, since a decision asks it several times and no beat, sample or cap is looked at meanwhile. "
            "Compute with whole arrays, and look things up once, in the factory"
        )
    for constraint in objective.constraints:
        if np.isinf(constraint.violation(predicted, now)).all() and not platform.total_rails:
            raise SettingsError(_no_power(platform, f"constraint {constraint.name} of objective {name}"))
    if not platform.total_rails and np.isnan(cost).any():
        raise SettingsError(_no_power(platform, f"objective {name}"))
    if platform.total_rails and not np.isfinite(cost).all():
        bad = int(np.count_nonzero(~np.isfinite(cost)))
        raise SettingsError(
            f"objective {name} gives no finite cost for {bad} of {len(cost)} ordinary states; costs must be finite"
        )


def _asked(objective: Objective, predicted: Prediction, now: Situation) -> tuple[NDArray[np.float64], float]:
    """What it answers, and the seconds that took."""
    took_s: list[float] = []
    while True:
        began_s = perf_counter()
        cost = objective.cost(predicted, now)
        took_s.append(perf_counter() - began_s)
        if took_s[-1] <= ANSWER_S or len(took_s) == ATTEMPTS:
            return cost, min(took_s)


def check_limits(limits: Limits, platform: Platform) -> None:
    """Whether the board can tell if these limits are kept.

    Raises:
        SettingsError: It does not measure what one of them needs.
    """
    powers = replace(limits, target_hz=None, max_slowdown=None, deadline_s=None)
    if not platform.total_rails and (needing := constraints_of(powers)):
        raise SettingsError(_no_power(platform, f"constraint {needing[0].name}"))
    for rail in limits.rail_caps_w:
        if rail not in platform.rails:
            has = ", ".join(platform.rails) or "none alone"
            raise SettingsError(
                f"rail_budget {rail}={limits.rail_caps_w[rail]:g}W: {platform.name} measures no rail {rail}; "
                f"it measures: {has}"
            )
    if limits.max_temperature_c is not None and not platform.zones:
        raise SettingsError(
            f"max_temperature = {limits.max_temperature_c:g}C: {platform.name} measures no temperature; use a budget"
        )


def _no_power(platform: Platform, what: str) -> str:
    return (
        f"{what} needs power, and {platform.name} measures none; choose a table or board with power, "
        "or an objective and limits that need the rate alone"
    )
