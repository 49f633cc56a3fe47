"""A model card of a model that says something about people, with what was measured. Markdown.

Source of its parts: Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mtl_jax.config.options.evaluation import higher_is_better
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.groups import columns_of, compared_metric
from mtl_jax.evals.table import COUNTS
from mtl_jax.io.atomic import write_whole

FEWEST = 30  # labels of a group from which on it is named as the best or the worst

_LABELS = """\
Labels of people are impressions: what annotators or a program took a face for. They are not what
these people say of themselves, and they are noisy; a model repeats their mistakes. That gender has
two classes, or race a few, is how the data were sorted, not how people are."""
_LIMITS = """\
The numbers are of the split named above; of other pictures they say little. A group with few labels
is measured badly, and one that the data do not hold is not measured at all."""
_USES = """\
It is for research on such models, and for counting over many pictures where single mistakes do no
harm. It must not be used

- to decide anything about a person: work, credit, insurance, schooling, asylum, policing, care;
- to check an age where the law or someone's safety depends on it;
- to identify or follow people, or to sort them by gender or race;
- on people who have not agreed to it, where their agreement is needed.

Where the tables show that it errs more for some than for others, any use passes that on to them."""


def write_card(
    path: Path,
    title: str,
    data: Sequence[str],
    metrics: Mapping[str, float],
    evaluator: Evaluator,
) -> Path:
    """Write the card of a model with the `metrics` of an `evaluator`, and give its path; `data`
    says of each source what its labels of people are.
    """
    attributes = evaluator.attributes
    names = {attribute.name for attribute in attributes}
    measured = [(k, v) for k, v in metrics.items() if k.partition("/")[0] in names]
    parts = [
        f"# Model card: {title}",
        "## What it predicts",
        *_list(f"{attribute.name}: {attribute.summary}" for attribute in attributes),
        "## What the labels are",
        *_list(data),
        _LABELS,
        "## How well",
        _table(("metric", "value"), ((name, _number(value)) for name, value in measured)),
        *_list(_intervals(metrics, evaluator)),
        _LIMITS,
        "## For whom",
        *_groups(evaluator.by_group()),
        "## What it is for, and what not",
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
                f"{name}: intervals of {interval.coverage:.0%}, {interval.half_width:.3g} less or "
                f"more than predicted by the errors on {interval.labels} labels of the split val; "
                f"they cover {covered:.1%} of the labels that were found"
            )


def _groups(tables: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Give who is best and worst off in each table, and then the tables."""
    if not tables:
        yield "Not measured: config.eval.groups names nothing to group by that is labelled here."
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
