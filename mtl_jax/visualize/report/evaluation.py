"""The page of an evaluation: curves, confusion matrix, attributes and worst images in one file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.records import Category, overlaps
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.calibration import calibration
from mtl_jax.evals.coco import AREAS
from mtl_jax.evals.error_analysis import Case, ErrorAnalysis, explain
from mtl_jax.evals.face_errors import ANGLE_LIMITS, NME_LIMITS, FaceErrors, cumulative
from mtl_jax.evals.table import without_boxes
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.drawing.annotations import record_result
from mtl_jax.visualize.drawing.draw import as_rgb, draw
from mtl_jax.visualize.drawing.sheets import sheet
from mtl_jax.visualize.page import Page
from mtl_jax.visualize.report.attributes import add_attributes

RECALLS = np.linspace(0, 1, 101)
MOST_CURVES = 12  # classes whose curves are drawn
BINS = 10
MOST_PANELS = 30  # plots of the training history
NO_LOSSES = ("grad_norm", "images_per_second", "learning_rate")  # logged beside the losses
METRICS = ("AP", "AP50", "mae", "accuracy", "nme")  # whose history is plotted


def write_report(
    title: str,
    evaluator: Evaluator,
    analysis: ErrorAnalysis,
    metrics: Mapping[str, float],
    folder: Path,
    *,
    channels: int = 3,
    history: Path | None = None,
    has_boxes: bool = True,
) -> Path:
    """Write the page of an evaluation and its images, and return its path.

    `metrics` are those of `evaluator`. `analysis` covers the same images, whose number of channels
    is `channels`. `history` is the run's metrics.jsonl. With `has_boxes=False`, for a model of
    whole images, results on boxes are omitted.
    """
    page = Page(title)
    reasons = explain(analysis, metrics) if has_boxes else []
    _add_numbers(page, reasons, metrics if has_boxes else without_boxes(metrics))
    if has_boxes:
        for kind, precision in evaluator.curves().items():
            _add_curves(page, kind, precision, analysis.names[1:])
        _add_confusion(page, analysis)
        _add_calibration(page, analysis)
    add_attributes(page, evaluator, channels)
    _add_faces(page, evaluator.faces)
    _add_history(page, history, has_boxes)
    if has_boxes:
        _add_worst(page, analysis, channels)
    return page.write(folder)


def _add_numbers(page: Page, reasons: Sequence[str], metrics: Mapping[str, float]) -> None:
    page.heading("Metrics")
    if reasons:
        page.list(reasons)
    page.table(("metric", "value"), metrics.items())


def _add_curves(page: Page, kind: str, precision: np.ndarray, names: Sequence[str]) -> None:
    page.heading(f"Precision and recall of {'boxes' if kind == 'box' else 'masks'}")
    shown = [k for k in range(len(names)) if (precision[0, :, k, 0] > -1).all()]
    best = sorted(shown, key=lambda k: -precision[0, :, k, 0].mean())[:MOST_CURVES]

    def by_class(axes: Axes) -> None:
        for k in best:
            axes.plot(RECALLS, precision[0, :, k, 0], label=names[k], linewidth=1.2)
        _finish(axes, "recall", "precision", legend=bool(best))

    def by_overlap(axes: Axes) -> None:
        for t in (0, 2, 4, 6, 8):
            by_recall = precision[t][:, shown, 0]
            if by_recall.size:
                label = f"IoU {0.5 + 0.05 * t:.2f}"
                axes.plot(RECALLS, by_recall.mean(1), label=label, linewidth=1.2)
        _finish(axes, "recall", "precision", legend=bool(shown))

    cells = [("at IoU 0.5, by class", by_class), ("mean over classes, by IoU", by_overlap)]
    page.image(f"{kind}_curves", plots.plots(cells, 2, (5.4, 4.0)), "Precision-recall curves")
    rows = []
    for k, name in enumerate(names):
        cells_of = [_mean(precision[:, :, k, 0]), _mean(precision[0, :, k, 0])]
        cells_of += [_mean(precision[:, :, k, a]) for a in range(1, len(AREAS))]
        rows.append((name, *cells_of))
    page.table(("class", "AP", "AP50", *AREAS[1:]), rows)


def _mean(precision: np.ndarray) -> float:
    """Return the mean of the precisions that are defined (above -1); NaN if there are none."""
    return float(precision[precision > -1].mean()) if (precision > -1).any() else float("nan")


def _finish(axes: Axes, x: str, y: str, legend: bool = False) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(fontsize=7)


def _add_confusion(page: Page, analysis: ErrorAnalysis) -> None:
    page.heading("Confusion matrix")
    options = analysis.options
    page.text(
        f"Detections with a score of at least {options.alarm_score:g} against ground truth, "
        f"matched at IoU {options.iou_threshold:g} regardless of class. The background row "
        "contains false positives, the background column false negatives."
    )
    image = plots.confusion(analysis.confusion, analysis.names)
    page.image("confusion", image, "Confusion matrix")
    if analysis.best_overlaps:
        page.image(
            "overlaps",
            plots.histogram(analysis.best_overlaps, "IoU"),
            "IoU of each annotated instance with its best detection of any class",
        )


def _add_calibration(page: Page, analysis: ErrorAnalysis) -> None:
    if not analysis.scores:
        return
    page.heading("Score calibration")
    counts, hits, error = calibration(analysis.scores, analysis.right, BINS)
    middle = (np.arange(BINS) + 0.5) / BINS

    def reliability(axes: Axes) -> None:
        filled = counts > 0
        axes.plot([0, 1], [0, 1], color=plots.GRAY, linewidth=1)
        axes.bar(middle[filled], hits[filled] / counts[filled], width=0.9 / BINS, color=plots.BLUE)
        _finish(axes, "score", "share of correct detections")

    def number(axes: Axes) -> None:
        axes.bar(middle, counts, width=0.9 / BINS, color=plots.GRAY)
        axes.set_xlabel("score")
        axes.set_ylabel("detections")

    cells = [("calibration", reliability), ("number of detections", number)]
    page.image("calibration", plots.plots(cells, 2), "Share of correct detections by score")
    page.text(f"Expected calibration error: {error:.3f}.")


def _add_faces(page: Page, faces: FaceErrors) -> None:
    """Plot cumulative distributions of errors, and add a table of landmark errors by yaw."""
    cells = []
    if faces.landmarks is not None and faces.nme:
        page.heading(f"Landmarks of {faces.landmarks.name} by yaw")
        rows = [(name, *errors) for name, errors in faces.by_yaw().items()]
        page.table(("yaw (degrees)", "instances", "misses", "NME (mean)", "NME (std)"), rows)
        cells.append(("visible landmarks", _cumulative("NME", NME_LIMITS, {"": faces.nme})))
    angles = {name: errors for name, errors in faces.angles.items() if errors}
    if angles:
        cells.append(("angles", _cumulative("degrees", ANGLE_LIMITS, angles)))
    if cells:
        caption = "Share of all labelled instances with an error of at most the limit"
        page.image("cumulative_errors", plots.plots(cells, 2), caption)


def _cumulative(
    label: str, limits: np.ndarray, errors: Mapping[str, Sequence[float]]
) -> Callable[[Axes], None]:
    def draw_on(axes: Axes) -> None:
        for name, values in errors.items():
            axes.plot(limits, cumulative(values, limits), label=name)
        _finish(axes, f"limit ({label})", "share of instances", legend=len(errors) > 1)
        axes.set_xlim(0, limits[-1])

    return draw_on


Points = Sequence[tuple[int, float]]  # step, value


def _add_history(page: Page, history: Path | None, has_boxes: bool) -> None:
    """Plot training losses, validation losses and validation metrics over the training steps."""
    series: dict[str, list[tuple[int, float]]] = {}
    for row in _read_history(history):
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                series.setdefault(name, []).append((row["step"], value))
    if not has_boxes:
        series = without_boxes(series)
    panels = _panels(series)
    if not panels:
        return
    page.heading("Training")

    def curves(lines: Mapping[str, Points]) -> Callable[[Axes], None]:
        def draw_on(axes: Axes) -> None:
            for name, points in lines.items():
                mark = "o" if len(points) < 10 else ""
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, label=name, linewidth=1, marker=mark, markersize=3)
            if len(lines) > 1:
                axes.legend(fontsize=7)
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelsize=7)

        return draw_on

    cells = [(title, curves(lines)) for title, lines in list(panels.items())[:MOST_PANELS]]
    page.image("training", plots.plots(cells, 3, (3.6, 2.4)), "Losses and metrics by step")


def _panels(series: Mapping[str, Points]) -> dict[str, dict[str, Points]]:
    """Return the titles of the plots of the training history, and the lines in each."""
    panels: dict[str, dict[str, Points]] = {}
    for name, points in series.items():
        part, _, rest = name.partition("/")
        if part == "train" and rest.startswith("balance/"):
            panels.setdefault("balance", {})[rest.rpartition("/")[2]] = points
        elif part == "train" and rest not in NO_LOSSES:
            panels.setdefault("loss" if rest == "loss" else f"loss/{rest}", {})["train"] = points
        elif part == "val" and rest.startswith("loss/"):
            panels.setdefault("loss" if rest == "loss/loss" else rest, {})["val"] = points
        elif part == "val" and rest.rpartition("/")[2] in METRICS:
            panels[name] = {"val": points}
    return dict(sorted(panels.items(), key=lambda item: item[0].startswith("val/")))


def _read_history(history: Path | None) -> list[dict]:
    if history is None or not history.is_file():
        return []
    rows = []
    for line in history.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line that is being written
            continue
    return rows


def _add_worst(page: Page, analysis: ErrorAnalysis, channels: int) -> None:
    page.heading("Worst images")
    cases = analysis.worst
    if not cases:
        page.text("There are no false negatives and no false positives.")
        return
    page.image(
        "worst",
        sheet(
            [p for case in cases for p in _beside(case, analysis.categories, channels)],
            2,
            [text for case in cases for text in _captions(case)],
            (400, 560),
        ),
        "Ground truth (left) and detections (right)",
    )
    case = max(cases[:4], key=lambda c: len(c.record.instances) * min(len(c.result), 1))
    if len(case.result) and case.record.instances:
        page.image(
            "overlap_grid",
            _overlap_grid(case, analysis.categories),
            f"{case.record.file_name}: IoU of detections and ground truth",
        )


def _beside(case: Case, categories: Sequence[Category], channels: int) -> list[np.ndarray]:
    pixels = as_rgb(read_pixels(case.record, channels))
    truth = record_result(case.record, categories, case.result.declared)
    return [draw(pixels, truth), draw(pixels, case.result)]


def _captions(case: Case) -> list[str]:
    wrong = f"{case.misses} false negatives, {case.false_alarms} false positives"
    return [case.record.file_name, wrong]


def _overlap_grid(case: Case, categories: Sequence[Category]) -> np.ndarray:
    shown = [i for i in range(len(case.result)) if case.result.scores[i] >= case.result.draw_score]
    shown = shown[:20] or list(range(min(len(case.result), 20)))
    boxes = np.array([instance.box for instance in case.record.instances])
    iou, _ = overlaps(case.result.boxes[shown], boxes)
    names = [f"{case.result.class_names[i]} {case.result.scores[i]:.2f}" for i in shown]
    texts = [[f"{value:.2f}" if value > 0.01 else "" for value in row] for row in iou.tolist()]
    classes = [categories[instance.label - 1].name for instance in case.record.instances]
    return plots.matrix(iou, texts, names, classes, "ground truth", "detections")
