"""Model cards: metrics, overall and by group."""

import re

from evals.test_groups import ATTRIBUTES, CATEGORIES, random_people
from mistakes import check_names

from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.visualize.report.model_card import write_card


def card(path, evaluator, data=("utkface: as a program guessed",)):
    written = write_card(path / "new/card.md", "my run", data, evaluator.metrics(), evaluator)
    return written.read_text()


def filled(count, **options):
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, EvalOptions(**options))
    for *_, record, result in random_people(count):
        evaluator.add(record, result)
    return evaluator


def tables(text):
    """Parse tables: yield the first cell of each header, and the other cells by row."""
    for part in text.split("\n\n"):
        if part.startswith("|"):
            lines = part.splitlines()
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            head, _, *rows = cells
            yield head[0], {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def by_group(text, name, group):
    """Return the cells of the table of attribute `name` by `group`."""
    (found,) = [t for title, t in tables(text) if re.fullmatch(rf"{name}\b.*\b{group}", title)]
    return found


def items(text, start):
    """Return the list items that begin with `start`."""
    return [line for line in text.splitlines() if line.startswith(f"- {start}")]


def check_order(line, *parts):
    """Assert that `line` contains `parts` in this order."""
    assert re.search(".*".join(rf"(?<!\w){re.escape(part)}(?!\w)" for part in parts), line), line


def test_a_card_contains_metrics_overall_and_by_group(tmp_path):
    groups = (("age", 10.0), ("gender", 0.0))
    evaluator = filled(300, groups=groups, limits=(("age", 5.0),), coverage=0.9)
    evaluator.calibrate(evaluator)
    text, metrics = card(tmp_path, evaluator), evaluator.metrics()
    assert re.match("# .*my run\n", text)
    described, interval = items(text, "age: ")
    check_names(described, -116, 116)
    for name, *named in (("gender", "male", "female"), ("head", "pose")):
        (line,) = items(text, f"{name}: ")
        check_names(line, *named)
    assert items(text, "utkface: ") == ["- utkface: as a program guessed"]
    _, whole = next(tables(text))
    assert list(whole["age/mae"].values()) == [f"{metrics['age/mae']:.4g}"]
    assert "detections/false_alarms" not in whole
    check_names(interval, "90%", f"{metrics['age/interval/coverage']:.1%}")
    by_gender = by_group(text, "age", "gender")
    found = evaluator.by_group()["age", "gender"]
    for group in ("male", "female"):
        for name, value in found[group].items():
            expected = f"{value:.0f}" if name in ("labelled", "misses") else f"{value:.4g}"
            assert by_gender[group][name] == expected
    best, worst = sorted(found, key=lambda group: found[group]["mae"])
    (line,) = [line for line in items(text, "age ") if re.search(r"\bgender\b", line)]
    values = [f"{found[group]['mae']:.4g}" for group in (best, worst)]
    check_order(line, "mae", values[0], best, values[1], worst)
    right = evaluator.by_group()["gender", "age"]
    enough = {g: s["accuracy"] for g, s in right.items() if s["labelled"] >= 30}
    best, worst = max(enough, key=enough.__getitem__), min(enough, key=enough.__getitem__)
    (line,) = [line for line in items(text, "gender ") if re.search(r"\bage\b", line)]
    check_order(line, "accuracy", f"{enough[best]:.4g}", best, f"{enough[worst]:.4g}", worst)


def test_groups_with_few_labels_are_not_compared(tmp_path):
    text = card(tmp_path, filled(40, groups=(("gender", 0.0),)))
    assert by_group(text, "gender", "gender")
    assert not re.search(r"^- .*\bmae\b", text, re.MULTILINE)
    assert "config.eval.groups" not in text
    assert "config.eval.groups" in card(tmp_path, filled(40))
