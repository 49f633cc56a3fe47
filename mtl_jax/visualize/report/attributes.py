"""Sections of an evaluation's page on attributes: errors, errors by group, and examples."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mtl_jax.attributes.base import Attribute, Bars, Confusion, Labels, Scatter
from mtl_jax.data.pixels import read_pixels
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.best_worst import AttributeCase, AttributeCases
from mtl_jax.evals.groups import columns_of, compared_metric
from mtl_jax.evals.table import COUNTS
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.drawing.draw import as_rgb
from mtl_jax.visualize.drawing.sheets import sheet
from mtl_jax.visualize.page import Page

Groups = Mapping[str, Mapping[str, float]]  # metrics by group and name
_BINS = 10


def add_attributes(page: Page, evaluator: Evaluator, channels: int) -> None:
    """Add the results of each attribute. `channels` is the number of channels of the images."""
    tables = evaluator.by_group()
    for attribute, labels, predictions in evaluator.matched():
        _add_attribute(page, attribute, labels, predictions)
        name = attribute.name
        _add_groups(page, name, {by: table for (a, by), table in tables.items() if a == name})
    _add_cases(page, evaluator.cases, channels)


def _add_attribute(
    page: Page, attribute: Attribute, labels: Labels, predictions: np.ndarray
) -> None:
    page.heading(f"Attribute {attribute.name}")
    if not len(predictions):
        page.text("No labelled instance was detected.")
        return
    for name, figure in attribute.figures(predictions, labels):
        match figure:
            case Confusion():
                _add_confusion(page, name, figure)
            case Scatter():
                _add_scatter(page, name, figure)
            case Bars():
                image = plots.bars(figure.values, figure.label, most=68)
                page.image(f"attribute_{name}", image, f"{name}: mean {figure.label}")


def _add_groups(page: Page, name: str, tables: Mapping[str, Groups]) -> None:
    """Add a table of an attribute's metrics for each grouping, and plot the compared metric."""
    cells = []
    for by, groups in tables.items():
        columns = columns_of(groups)
        page.table((f"{name} by {by}", *columns), _group_rows(groups, columns))
        if len(groups) > 1 and (metric := compared_metric(groups)):
            known = {group: scores[metric] for group, scores in groups.items() if metric in scores}
            labelled = [int(groups[group]["labelled"]) for group in known]
            cells.append((f"{metric} by {by}", _group_bars(metric, known, labelled)))
    if cells:
        caption = f"{name} by group, with the number of labels above each bar"
        page.image(f"groups_{name}", plots.plots(cells, 2), caption)


def _group_rows(groups: Groups, columns: Sequence[str]) -> Iterator[tuple]:
    for group, scores in groups.items():
        numbers = [scores.get(column, float("nan")) for column in columns]
        counts = [column in COUNTS for column in columns]
        yield group, *(int(x) if n else x for x, n in zip(numbers, counts, strict=True))


def _group_bars(
    metric: str, values: Mapping[str, float], labelled: Sequence[int]
) -> Callable[[Axes], None]:
    """Return a function that draws a bar and the number of labels for each group."""

    def draw_on(axes: Axes) -> None:
        bars = axes.bar(range(len(values)), list(values.values()), color=plots.BLUE)
        axes.bar_label(bars, [str(count) for count in labelled], fontsize=7, color=plots.GRAY)
        axes.set_xticks(range(len(values)), list(values), rotation=45, ha="right", fontsize=7)
        if metric == "accuracy":
            axes.set_ylim(0, 1.05)

    return draw_on


def _add_confusion(page: Page, name: str, figure: Confusion) -> None:
    counts = np.zeros((len(figure.classes), len(figure.classes)), int)
    np.add.at(counts, (figure.truth, figure.predicted), 1)
    caption = f"{name}: confusion matrix"
    page.image(f"attribute_{name}", plots.confusion(counts, figure.classes), caption)


def _add_scatter(page: Page, name: str, figure: Scatter) -> None:
    truth, found, errors = figure
    if not len(truth):
        return
    low, high = float(min(truth.min(), found.min())), float(max(truth.max(), found.max()))
    high = max(high, low + 1e-6)
    edges = np.linspace(low, high, _BINS + 1)
    place = np.clip(np.digitize(truth, edges) - 1, 0, _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    means = np.bincount(place, errors, minlength=_BINS) / np.maximum(counts, 1)

    def scatter(axes: Axes) -> None:
        axes.plot([low, high], [low, high], color=plots.GRAY, linewidth=1)
        axes.scatter(truth, found, s=6, alpha=0.5, color=plots.BLUE, linewidths=0)
        axes.set_xlabel("ground truth")
        axes.set_ylabel("predicted")

    def by_range(axes: Axes) -> None:
        filled = counts > 0
        middle = (edges[:-1] + edges[1:]) / 2
        axes.bar(middle[filled], means[filled], width=0.9 * (edges[1] - edges[0]), color=plots.BLUE)
        axes.set_xlabel("ground truth")
        axes.set_ylabel("mean error")

    cells = [("predicted against ground truth", scatter), ("error by ground truth", by_range)]
    page.image(
        f"attribute_{name}", plots.plots(cells, 2), f"{name}: mean error {errors.mean():.3g}"
    )


def _add_cases(page: Page, cases: AttributeCases, channels: int) -> None:
    """Add the instances whose attributes are predicted best and worst."""
    if not cases.best:
        return
    page.heading("Best and worst attribute predictions")
    for name, chosen in (("successes", cases.best), ("failures", cases.worst)):
        crops = [_crop(case, channels) for case in chosen]
        captions = [_prediction_and_label(case, cases.attributes) for case in chosen]
        what = f"{name}: prediction (ground truth)"
        page.image(name, sheet(crops, 3, captions, (240, 340)), what)


def _crop(case: AttributeCase, channels: int) -> np.ndarray:
    """Crop an instance's box from its image."""
    pixels = as_rgb(read_pixels(case.record, channels))
    x1, y1, x2, y2 = (round(v) for v in case.instance.box)
    height, width = pixels.shape[:2]
    top, left = min(max(y1, 0), height - 1), min(max(x1, 0), width - 1)
    return pixels[top : max(y2, top + 1), left : max(x2, left + 1)]


def _prediction_and_label(case: AttributeCase, attributes: Sequence[Attribute]) -> str:
    labelled = [attribute for attribute in attributes if attribute.name in case.labels]
    found = ", ".join(a.caption(case.predictions[a.name]) for a in labelled)
    annotated = ", ".join(a.caption_label(*case.labels[a.name]) for a in labelled)
    return f"{found} ({annotated})"
