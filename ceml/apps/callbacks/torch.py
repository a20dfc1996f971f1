"""PyTorch: a loop over batches that beats by itself, and a helper for loops of any other kind.

    from ceml.apps.callbacks.torch import Steps

    for batch in Steps(loader, "resnet", epochs=10):    # in place of: for batch in loader
        train(batch)

A step counts once its batch was worked on: when the next one is asked for. PyTorch itself is not needed here: what
is iterated over may be anything, and a data loader's workers, forked or spawned, are mute. Where something shards the
loader (`accelerator.prepare`), wrap what that gives back: it would not know a wrapped one.
"""

from ceml.apps.callbacks.beating import Beating

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Dict, Optional


class Steps:
    """A data loader whose batches are heartbeats; every other attribute is the loader's own.

    Attributes:
        inside: The loader.
    """

    def __init__(
        self,
        batches: "Any",
        app: str,
        epochs: "Optional[int]" = None,
        total_steps: "Optional[int]" = None,
        pipe: "Optional[str]" = None,
    ) -> None:
        """Wrap a loader; once is enough, and twice counts once.

        Args:
            batches: What gives the batches, once per epoch: a `DataLoader`, a list, a generator.
            app: Name of the program.
            epochs: How often it will be gone through; with its length it gives the total work.
            total_steps: The total work itself, where it is known otherwise.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        self.inside = batches.inside if isinstance(batches, Steps) else batches
        self._total = total_steps if total_steps is not None else _product(self.inside, epochs)
        self._beating = Beating(app, pipe)
        self._metrics: "Dict[str, Any]" = {}
        self._epoch = -1

    def __iter__(self) -> "Iterator[Any]":
        beating = self._beating
        if not beating.started:
            beating.start(self, self._total)
        self._epoch += 1
        self._metrics["epoch"] = self._epoch
        for batch in self.inside:
            yield batch
            beating.beat(1, self._metrics)

    def __len__(self) -> int:
        return len(self.inside)

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("_"):  # ours, and not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.inside, name)

    def report(self, **metrics: "Any") -> None:
        """Say these with the next heartbeats: loss, accuracy. Tensors on an accelerator are not waited for."""
        if self._beating.wants_metrics():  # else they would be held, with all that they were computed from, for nothing
            for name, value in metrics.items():
                self._metrics[name] = value.detach() if hasattr(value, "detach") else value

    def close(self) -> None:
        """The training is over; it is also when this object is gone, and at the end of the program."""
        self._beating.close()


class Loop:
    """A training loop of any shape.

    with Loop("resnet", total_steps=1000) as loop:
        while training:
            loop.step(loss=loss)
    """

    def __init__(self, app: str, total_steps: "Optional[int]" = None, pipe: "Optional[str]" = None) -> None:
        """Begin.

        Args:
            app: Name of the program.
            total_steps: Steps that it will do in all, where that is known.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        self._beating = Beating(app, pipe)
        self._beating.start(self, total_steps)

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def step(self, steps: int = 1, **metrics: "Any") -> None:
        """Steps were done. Tensors on an accelerator are not waited for."""
        self._beating.beat(steps, metrics)

    def close(self) -> None:
        """The training is over; it is also when this object is gone, and at the end of the program."""
        self._beating.close()


def _product(batches: "Any", epochs: "Optional[int]") -> "Optional[int]":
    try:
        return len(batches) * epochs if epochs else None
    except Exception:  # a stream of data has no length
        return None
