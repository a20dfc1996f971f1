"""ONNX Runtime: `session = Session(onnxruntime.InferenceSession("model.onnx"), "resnet")`. A step is a run.

Each heartbeat carries `latency_s`, the time that the run took. What is wrapped only needs a method `run`.
"""

import time

from ceml.apps.callbacks.beating import Beating

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class Session:
    """An inference session whose runs are heartbeats; every other attribute is the session's own.

    `run`, `run_with_ort_values` and `run_with_iobinding` count once they are done; `run_async` does not count.

    Attributes:
        inside: The session.
    """

    def __init__(
        self, session: "Any", app: str, total_runs: "Optional[int]" = None, pipe: "Optional[str]" = None
    ) -> None:
        """Wrap a session; once is enough, and twice counts once.

        Args:
            session: An `onnxruntime.InferenceSession`.
            app: Name of the program.
            total_runs: Runs that it will do in all, where that is known.
            pipe: Path of the named pipe; None: as `ceml.attach` finds it.
        """
        if isinstance(session, Session):
            self.inside: "Any" = session.inside
            self._beating = session._beating  # noqa: SLF001 - ours
        else:
            self.inside = session
            self._beating = Beating(app, pipe)
            self._beating.start(self, total_runs)

    def run(self, *args: "Any", **options: "Any") -> "Any":
        """As the session's own."""
        return self._timed(self.inside.run, args, options)

    def run_with_ort_values(self, *args: "Any", **options: "Any") -> "Any":
        """As the session's own."""
        return self._timed(self.inside.run_with_ort_values, args, options)

    def run_with_iobinding(self, *args: "Any", **options: "Any") -> "Any":
        """As the session's own."""
        return self._timed(self.inside.run_with_iobinding, args, options)

    def _timed(self, run: "Any", args: "Any", options: "Any") -> "Any":
        began_s = time.monotonic()
        answer = run(*args, **options)
        self._beating.beat(1, {"latency_s": time.monotonic() - began_s})
        return answer

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("_"):  # ours, and not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.inside, name)

    def close(self) -> None:
        """No more runs are to come; it is also over when this object is gone, and at the end of the program."""
        self._beating.close()
