"""How pictures of this house look, and how they leave it: as SVG and PNG, the same bytes for the same record.

Readable in greyscale: lines differ in weight, dash and marker, areas in hatching; surfaces use a scale whose lightness
falls evenly (cividis). Colours are those of Okabe and Ito, chosen so that colour-blind readers tell them apart.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

import io
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Generator

    from matplotlib.axes import Axes

BLACK, GREY, PALE = "#000000", "#7f7f7f", "#d9d9d9"
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
SCALE = "cividis_r"  # dark is much
WIDTH = 7.2  # inches: two columns of a paper
PNG_DPI = 200
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.5,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
    "text.parse_math": False,  # names are names, whatever signs they have
    "axes.unicode_minus": False,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "ceml",
    "figure.facecolor": "white",
}


@dataclass(eq=False)
class Picture:
    """One picture and what is said of it.

    Attributes:
        name: For file names.
        title: Above it.
        caption: Below it: what is drawn how, and what is missing.
        figure: As drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    @cached_property
    def svg(self) -> bytes:
        """As vectors."""
        metadata = {"Date": None, "Creator": "ceml", "Title": plain(self.title)}
        return self._saved(format="svg", metadata=metadata)

    @cached_property
    def png(self) -> bytes:
        """As pixels."""
        return self._saved(format="png", dpi=PNG_DPI, metadata={"Software": "ceml"})

    def _saved(self, **how: Any) -> bytes:
        content = io.BytesIO()
        with styled():
            self.figure.savefig(content, **how)
        return content.getvalue()


@contextmanager
def styled() -> Generator[None, None, None]:
    """Pictures that are made within look like ours; nobody else's settings are read or changed."""
    with mpl.rc_context():
        mpl.rcdefaults()
        cast("dict[str, Any]", mpl.rcParams).update(_STYLE)
        yield


def sheet(height: float, width: float = WIDTH) -> Figure:
    """An empty figure."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(text: str, most: int = 200) -> str:
    """A text from a record as the font can draw it."""
    text = " ".join(text.encode("ascii", "replace").decode("ascii").split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class Unit(NamedTuple):
    """How a quantity is shown: divided by `size`, called `name`."""

    name: str
    size: float


def unit_of(biggest: float, units: tuple[Unit, ...]) -> Unit:
    """The largest unit of which there is at least one; units ascend."""
    fitting = [unit for unit in units if isfinite(biggest) and biggest >= unit.size]
    return fitting[-1] if fitting else units[0]


SECONDS = (Unit("s", 1.0), Unit("min", 60.0), Unit("h", 3600.0))
JOULES = (Unit("J", 1.0), Unit("kJ", 1e3), Unit("MJ", 1e6), Unit("GJ", 1e9))


def time_unit(span_s: float) -> Unit:
    """Seconds up to twenty minutes, minutes up to five hours."""
    return SECONDS[0] if span_s < 1200 else SECONDS[1] if span_s < 18000 else SECONDS[2]


def knob_unit(knob: str) -> Unit:
    """`cpu_hz` in MHz, `power_limit_w` in W, others as they are."""
    if knob.endswith("_hz"):
        return Unit("MHz", 1e6)
    return Unit("W", 1.0) if knob.endswith("_w") else Unit("", 1.0)


def knob_label(knob: str) -> str:
    """What an axis of a knob is called: `cpu in MHz`."""
    unit = knob_unit(knob).name
    name = knob.rpartition("_")[0] if unit else knob
    return f"{plain(name, 16)}\nin {unit}" if unit else plain(knob, 16).replace("_", "\n", 1)


def from_zero(axes: Axes, most: float) -> None:
    """The vertical axis begins at 0, with some air above."""
    axes.set_ylim(0.0, most * 1.08 if isfinite(most) and most > 0 else 1.0)


def above(axes: Axes, columns: int) -> None:
    """The legend in one line above the axes, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderaxespad=0.0, handlelength=2.2)


def headed(figure: Figure, title: str) -> None:
    """A title over everything, on the left, in as many lines as it takes."""
    lines = textwrap.wrap(title, int(figure.get_figwidth() * 15))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8.5)
