"""PyTorch Lightning: `Trainer(callbacks=[Heartbeat("resnet")])`. A step is a step of the optimizer.

Both packages will do, `lightning` and `pytorch_lightning`: the one that the program imported already wins.
"""

import sys

from ceml.apps.callbacks.beating import Beating, framework

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

_OLD, _NEW = "pytorch_lightning", "lightning.pytorch"
_Callback: "Any" = framework(
    _OLD if _OLD in sys.modules and _NEW not in sys.modules else _NEW, (2, 0), "lightning"
).Callback


class Heartbeat(_Callback):
    """Beats once per step, with epoch, loss and whatever the module logs; announces the steps to come."""

    def __init__(self, app: "Optional[str]" = None, pipe: "Optional[str]" = None) -> None:
        """Make it.

        Args:
            app: Name of the program; None: the name of the module's class.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._beating = Beating(app, pipe)

    def on_train_start(self, trainer: "Any", pl_module: "Any") -> None:
        """Say who we are and how much is to come; how often a module optimizes by hand nobody knows beforehand."""
        step = trainer.global_step
        name = type(pl_module).__name__
        total = _to_come(trainer, step) if getattr(pl_module, "automatic_optimization", True) else None
        self._beating.start(trainer, total, rank=trainer.local_rank, app=name, step=step)

    def on_train_batch_end(
        self, trainer: "Any", pl_module: "Any", outputs: "Any", batch: "Any", batch_idx: int
    ) -> None:
        """Beat, if the optimizer moved."""
        beating = self._beating
        work = beating.reached(trainer.global_step)
        if work > 0:
            beating.beat(work, _metrics(trainer, outputs) if beating.wants_metrics() else None)

    def on_train_end(self, trainer: "Any", pl_module: "Any") -> None:
        """Say goodbye."""
        self._beating.close()

    def on_exception(self, trainer: "Any", pl_module: "Any", exception: BaseException) -> None:
        """Say goodbye, too."""
        self._beating.close()


def _to_come(trainer: "Any", step: int) -> "Optional[float]":
    try:
        total = float(trainer.estimated_stepping_batches)
    except Exception:  # Lightning refuses to tell, e.g. where the accumulation changes between epochs
        return None
    return total - step if step < total < float("inf") else None


def _metrics(trainer: "Any", outputs: "Any") -> "Dict[str, Any]":
    metrics: "Dict[str, Any]" = {"epoch": trainer.current_epoch}
    try:
        metrics["loss"] = outputs["loss"] if isinstance(outputs, dict) else outputs
        metrics.update(trainer.callback_metrics)
    except Exception:  # a metric of the user's that cannot be computed
        return metrics
    return metrics
