"""Keras 3, on any of its backends: `model.fit(..., callbacks=[Heartbeat("mnist")])`. A step is a batch."""

from ceml.apps.callbacks.beating import Beating, framework

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_Callback: "Any" = framework("keras", (3, 0), "keras").callbacks.Callback


class Heartbeat(_Callback):
    """Beats once per batch, with epoch, loss and the compiled metrics; announces the batches to come."""

    async_safe = True  # Keras need not wait for the accelerator on our account

    def __init__(self, app: "Optional[str]" = None, pipe: "Optional[str]" = None) -> None:
        """Make it.

        Args:
            app: Name of the program; None: the model's name.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._beating = Beating(app, pipe)
        self._epoch = 0

    def on_train_begin(self, logs: "Any" = None) -> None:
        """Forget a training before, which may have ended by an error."""
        self._beating.close()

    def on_epoch_begin(self, epoch: int, logs: "Any" = None) -> None:
        """Say who we are and how much is to come, before the first one."""
        self._epoch = epoch
        if not self._beating.started:
            epochs, steps = self.params.get("epochs"), self.params.get("steps")
            total = (epochs - epoch) * steps if epochs and steps else None
            self._beating.start(self.model, total, app=self.model.name)
        self._beating.restart()  # batches are counted from anew

    def on_train_batch_end(self, batch: int, logs: "Any" = None) -> None:
        """Beat; with `steps_per_execution` for several batches at once."""
        beating = self._beating
        work = beating.reached(batch + 1)
        if work > 0:
            beating.beat(work, dict(logs or {}, epoch=self._epoch) if beating.wants_metrics() else None)

    def on_train_end(self, logs: "Any" = None) -> None:
        """Say goodbye."""
        self._beating.close()
