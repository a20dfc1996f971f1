"""How many may come of whom nothing is known: some at once, then a few a second, whatever is written to the pipe."""

from __future__ import annotations

from math import inf

AT_ONCE = 256  # programs that start together, far more than one machine is tuned for
PER_S = 5.0  # afterwards: a script that is started again and again is heard, a flood costs few events


class Newcomers:
    """A bucket of places, filled again at a steady rate."""

    def __init__(self) -> None:
        self._places = float(AT_ONCE)
        self._since_s = inf

    def admit(self, now_s: float) -> bool:
        """Give a place away; False: none is left now."""
        self._places = min(AT_ONCE, self._places + PER_S * max(now_s - self._since_s, 0.0))
        self._since_s = now_s
        if self._places < 1.0:
            return False
        self._places -= 1.0
        return True
