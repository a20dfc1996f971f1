"""Hugging Face: `Trainer(..., callbacks=[Heartbeat("bert")])`. A step is a step of the optimizer."""

from ceml.apps.callbacks.beating import Beating, framework

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

_TrainerCallback: "Any" = framework("transformers", (4, 0), "transformers accelerate").TrainerCallback


class Heartbeat(_TrainerCallback):
    """Beats once per step, with epoch and the latest log (loss, gradient norm, learning rate, evaluation)."""

    def __init__(self, app: str = "transformers", pipe: "Optional[str]" = None) -> None:
        """Make it.

        Args:
            app: Name of the program.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._beating = Beating(app, pipe)
        self._logged: "Dict[str, Any]" = {}

    def on_train_begin(self, args: "Any", state: "Any", control: "Any", **more: "Any") -> None:
        """Say who we are and how much is to come."""
        self._logged = {}
        rank = 0 if state.is_local_process_zero else 1
        self._beating.start(state, state.max_steps - state.global_step, rank=rank, step=state.global_step)

    def on_step_end(self, args: "Any", state: "Any", control: "Any", **more: "Any") -> None:
        """Beat."""
        beating = self._beating
        work = beating.reached(state.global_step)
        if work > 0:
            self._logged["epoch"] = state.epoch
            beating.beat(work, self._logged)

    def on_log(self, args: "Any", state: "Any", control: "Any", logs: "Any" = None, **more: "Any") -> None:
        """Keep what is logged for the next beat: here it is on the host already."""
        self._logged.update(logs or {})

    def on_train_end(self, args: "Any", state: "Any", control: "Any", **more: "Any") -> None:
        """Say goodbye."""
        self._beating.close()
