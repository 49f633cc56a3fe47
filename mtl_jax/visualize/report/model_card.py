"""Model cards in Markdown, with measured metrics, for models that predict attributes of people.

Source of the sections: Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mtl_jax.config.options.evaluation import higher_is_better
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.groups import columns_of, compared_metric
from mtl_jax.evals.table import COUNTS
from mtl_jax.io.atomic import write_whole

FEWEST = 30  # labels that a group must have to be named as the best or the worst

_LABELS = """\
Labels of people are impressions: annotators or a program assigned them to faces. They are not what
these people state about themselves. They are noisy, and a model reproduces their errors. The two
classes of gender and the few of race describe how the data were sorted, not how people are."""
_LIMITS = """\
The metrics apply to the split named above and say little about other images. Metrics of a group
with few labels are unreliable, and a group that the data do not contain is not measured at all."""
_USES = """\
The model is intended for research on such models, and for statistics over many images where single
errors do no harm. It must not be used

- to decide anything about a person: work, credit, insurance, schooling, asylum, policing, care;
- to verify an age where the law or someone's safety depends on it;
- to identify or track people, or to sort them by gender or race;
- on people who have not given their consent, where consent is required.

If the tables show larger errors for some groups than for others, every use of the model affects
those groups more."""


def write_card(
    path: Path,
    title: str,
    data: Sequence[str],
    metrics: Mapping[str, float],
    evaluator: Evaluator,
) -> Path:
    """Write the card of a model with the `metrics` of an `evaluator`, and return its path.

    `data` contains a line for each source that describes its labels of people.
    """
    attributes = evaluator.attributes
    names = {attribute.name for attribute in attributes}
    measured = [(k, v) for k, v in metrics.items() if k.partition("/")[0] in names]
    parts = [
        f"# Model card: {title}",
        "## Predictions",
        *_list(f"{attribute.name}: {attribute.summary}" for attribute in attributes),
        "## Labels",
        *_list(data),
        _LABELS,
        "## Metrics",
        _table(("metric", "value"), ((name, _number(value)) for name, value in measured)),
        *_list(_intervals(metrics, evaluator)),
        _LIMITS,
        "## Metrics by group",
        *_groups(evaluator.by_group()),
        "## Intended use and limitations",
        _USES,
    ]
    with write_whole(path) as draft:
        draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _intervals(metrics: Mapping[str, float], evaluator: Evaluator) -> Iterator[str]:
    for name, interval in evaluator.intervals.items():
        covered = metrics.get(f"{name}/interval/coverage")
        if covered is not None:
            yield (
                f"{name}: {interval.coverage:.0%} prediction intervals of plus or minus "
                f"{interval.half_width:.3g}, from the errors on {interval.labels} labels of the "
                f"validation split; they cover {covered:.1%} of the labels of detected instances"
            )


def _groups(tables: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Yield the best and the worst group of each table, then the tables."""
    if not tables:
        yield "Not measured: config.eval.groups is empty or names attributes without labels here."
    yield from _list(
        line for (name, by), table in tables.items() for line in _extremes(f"{name} by {by}", table)
    )
    for (name, by), table in tables.items():
        columns = columns_of(table)
        rows = (
            (group, *(_cell(scores, column) for column in columns))
            for group, scores in table.items()
        )
        yield _table((f"{name} by {by}", *columns), rows)


def _extremes(title: str, table: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    metric = compared_metric(table) or ""
    known = [
        (scores[metric], group, scores["labelled"])
        for group, scores in table.items()
        if metric in scores and scores["labelled"] >= FEWEST
    ]
    if len(known) > 1:
        known.sort(reverse=higher_is_better(metric))
        ends = (f"{_number(value)} ({group}, {n:.0f} labels)" for value, group, n in known)
        best, *_, worst = ends
        yield f"{title}: {metric} from {best} to {worst}"


def _cell(scores: Mapping[str, float], column: str) -> str:
    if column not in scores:
        return "-"
    return f"{scores[column]:.0f}" if column in COUNTS else _number(scores[column])


def _number(value: float) -> str:
    return f"{value:.4g}"


def _list(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    text = "\n".join(f"- {line}" for line in lines)
    if text:
        yield text


def _table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
