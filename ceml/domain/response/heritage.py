"""What other programs teach of a board: a prior for the next one (hierarchical, normal-normal).

The parameters theta_i of program i are mu + its own part: mu ~ N(m, B) belongs to the board, the rest N(0, T) to the
program, where N(m, B + T) is what is believed of any program on any board. A fit of program i, with its prior taken out
again, says L_i = C_i^-1 - (B + T)^-1 and h_i = C_i^-1 theta_i - (B + T)^-1 m (precision, and precision times value).
Its own part blurs that: W_i = (1 + L_i T)^-1 L_i and w_i = (1 + L_i T)^-1 h_i. Then

    mu ~ N(P^-1 (B^-1 m + sum w_i), P^-1),  P = B^-1 + sum W_i,

and the next program starts from N(mean of mu, P^-1 + T). Whole matrices, not number by number: what a few states tell
of idle watts and of the scale of power hangs together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

# Share of the prior variance of a number that is the board's: silicon is the same whatever runs on it, work is not.
SHARE_OF_BOARD = {
    **dict.fromkeys(("constant", "idle", "steepness", "voltage", "cores_power"), 0.7),
    **dict.fromkeys(("slowing", "busy", "sharpness", "synchronising", "power_exponent"), 0.2),
    **dict.fromkeys(("time", "power"), 0.0),  # scales are taken from the data, see `solving`
}
USUAL_SHARE = 0.2
LEAST_SHARE = 1e-6  # so that matrices can be inverted


class Belief(NamedTuple):
    """What is believed of parameters.

    Attributes:
        names: Of the parameters, `<device>.<label>` or `<label>`.
        mean: Their means, (q,).
        covariance: Their covariance, (q, q).
    """

    names: tuple[str, ...]
    mean: Numbers
    covariance: Numbers


def inherited(usual: Belief, fits: Sequence[tuple[Belief, Belief]]) -> Belief:
    """The prior of the next program on a board.

    Args:
        usual: What is believed of any program on any board; independent parameters, (q,).
        fits: Prior and posterior of each earlier program; parameters are matched by name.

    Raises:
        numpy.linalg.LinAlgError: A belief is not finite.
    """
    one = np.eye(len(usual.names))
    variance = np.diagonal(usual.covariance)
    share = np.array([SHARE_OF_BOARD.get(name.rpartition(".")[2], USUAL_SHARE) for name in usual.names])
    board = np.maximum(share, LEAST_SHARE) * variance
    own: Numbers = one * (variance - board)
    precision: Numbers = one / board
    pull = usual.mean / board
    for prior, posterior in fits:
        before, after = np.linalg.inv(prior.covariance), np.linalg.inv(posterior.covariance)
        place = _matching(usual.names, prior.names)
        told = place @ (after - before) @ np.transpose(place)
        said = place @ (after @ posterior.mean - before @ prior.mean)
        blurred = np.linalg.inv(one + told @ own)
        precision += blurred @ told
        pull += blurred @ said
    covariance = np.linalg.inv((precision + np.transpose(precision)) / 2.0)
    return Belief(usual.names, covariance @ pull, covariance + own)


def _matching(names: Sequence[str], others: Sequence[str]) -> Numbers:
    """Puts numbers under `others` into the places of `names`, (names, others)."""
    place = np.zeros((len(names), len(others)))
    for row, name in enumerate(names):
        if name in others:
            place[row, others.index(name)] = 1.0
    return place
