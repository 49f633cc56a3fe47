"""Plots as RGB images in one style, drawn by Matplotlib without a display."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from mtl_jax.visualize.drawing import text

BLUE, ORANGE, GRAY = "#2f6db3", "#d9822b", "#9aa3ad"
_DPI = 110


def plot(
    draw: Callable[[Axes], None], title: str = "", size: tuple[float, float] = (6.4, 4.0)
) -> np.ndarray:
    """Return a plot, uint8 `[H, W, 3]`, drawn by `draw` on its axes. `size` is in inches."""
    return plots([(title, draw)], 1, size)


def plots(
    cells: Sequence[tuple[str, Callable[[Axes], None]]],
    columns: int,
    size: tuple[float, float] = (4.2, 3.2),
) -> np.ndarray:
    """Draw plots with titles in rows of `columns`. `size` of each plot is in inches."""
    rows = -(-len(cells) // columns)
    figure = Figure((size[0] * columns, size[1] * rows), dpi=_DPI, layout="constrained")
    canvas = _Canvas(figure)
    for i, (title, draw) in enumerate(cells):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, fontsize=10, parse_math=False)
        draw(axes)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Renderer(RendererAgg):
    """Draws text with other fonts if Matplotlib's font does not have all of its characters."""

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
        if ismath or text.is_simple(s):
            return super().get_text_width_height_descent(s, prop, ismath)
        opacity, baseline = text.draw_text(s, self._pixels(prop))
        rows = np.flatnonzero(opacity.any(1))
        top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, baseline)
        return opacity.shape[1], bottom - min(top, baseline), max(bottom - baseline, 0)

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, *args: Any, **more: Any
    ) -> None:
        if text.is_simple(s):
            return super().draw_text(gc, x, y, s, prop, angle, *args, **more)
        drawn = text.draw_text(s, self._pixels(prop))
        # Rotate about the left end of the baseline, which lies at (x, y).
        height, width = drawn.opacity.shape
        matrix = cv2.getRotationMatrix2D((0, drawn.baseline), angle, 1.0)
        corners = np.array([(a, b, 1) for a in (0, width) for b in (0, height)]) @ matrix.T
        first = np.floor(corners.min(0)).astype(int)
        size = np.ceil(corners.max(0)).astype(int) - first
        matrix[:, 2] -= first
        image = np.empty((size[1], size[0], 4), np.uint8)
        image[..., :3] = np.rint(255 * np.array(gc.get_rgb()[:3]))
        image[..., 3] = cv2.warpAffine(drawn.opacity, matrix, size.tolist())
        bottom = self.height - (y - drawn.baseline + first[1] + size[1])
        self.draw_image(gc, round(x + first[0]), round(bottom), image[::-1])  # from the bottom

    def _pixels(self, prop: Any) -> int:
        return round(prop.get_size_in_points() * self.dpi / 72)


class _Canvas(FigureCanvasAgg):
    _own: _Renderer | None = None

    def get_renderer(self) -> RendererAgg:
        if self._own is None:
            width, height = self.figure.bbox.size
            self._own = _Renderer(width, height, self.figure.dpi)
        return self._own


def histogram(values: Sequence[float] | np.ndarray, label: str, log: bool = False) -> np.ndarray:
    """Draw a histogram of the finite values; with `log`, of positive ones on a log scale."""

    def draw(axes: Axes) -> None:
        found = np.asarray(values, float)
        found = found[np.isfinite(found) & ((found > 0) if log else True)]
        if not len(found):
            axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
            return
        low, high = found.min(), found.max()
        if low == high:
            low, high = (low / 1.1, high * 1.1) if log else (low - 0.5, high + 0.5)
        bins = np.geomspace(low, high, 31) if log else np.linspace(low, high, 31)
        axes.hist(found, bins=bins.tolist(), color=BLUE)
        if log:
            axes.set_xscale("log", base=2)
        axes.set_xlabel(label)
        axes.set_ylabel("count")

    return plot(draw)


def bars(counts: Mapping[str, float], label: str, most: int = 30) -> np.ndarray:
    """Draw a horizontal bar for each of the `most` largest counts."""
    kept = sorted(counts.items(), key=lambda item: -item[1])[:most][::-1]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(kept)), [count for _, count in kept], color=BLUE)
        axes.set_yticks(range(len(kept)), [name for name, _ in kept], fontsize=8, parse_math=False)
        axes.set_xlabel(label, parse_math=False)

    return plot(draw, size=(6.4, 0.9 + 0.22 * max(len(kept), 4)))


def matrix(
    shades: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    across: str,
    down: str,
) -> np.ndarray:
    """Draw a table of shades `[R, C]` in 0..1 with a text in each cell.

    The texts are omitted if a side has more than 30 cells.
    """

    def draw(axes: Axes) -> None:
        axes.imshow(shades, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        plain: dict[str, Any] = dict(fontsize=8, parse_math=False)  # names may contain dollar signs
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", **plain)
        axes.set_yticks(range(len(rows)), rows, **plain)
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        axes.spines[:].set_visible(False)
        for i, row in enumerate(texts if max(shades.shape) <= 30 else ()):
            for j, cell in enumerate(row):
                ink = "white" if shades[i, j] > 0.6 else "black"
                axes.text(j, i, cell, ha="center", va="center", fontsize=7, color=ink)

    size = 2.8 + 0.5 * min(len(columns), 30), 1.9 + 0.35 * min(len(rows), 40)
    return plot(draw, size=size)


def confusion(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix [annotated, predicted]. Shades are shares of the row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    texts = [[f"{count:,}" if count else "" for count in row] for row in counts.tolist()]
    return matrix(shares, texts, names, names, "predicted", "ground truth")
