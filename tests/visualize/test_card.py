"""Model cards: what was measured, and for whom."""

from evals.test_groups import ATTRIBUTES, CATEGORIES, random_people

from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.options import EvalOptions
from mtl_jax.visualize.card import write_card


def card(path, evaluator, data=("utkface: as a program guessed",)):
    written = write_card(path / "new/card.md", "my run", data, evaluator.metrics(), evaluator)
    return written.read_text()


def filled(count, **options):
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, EvalOptions(**options))
    for *_, record, result in random_people(count):
        evaluator.add(record, result)
    return evaluator


def table(text, title):
    """Read a table back: its cells by row."""
    lines = text[text.index(f"| {title} |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_a_card_says_what_was_measured_and_for_whom(tmp_path):
    groups = (("age", 10.0), ("gender", 0.0))
    evaluator = filled(300, groups=groups, limits=(("age", 5.0),), coverage=0.9)
    evaluator.calibrate(evaluator)
    text, metrics = card(tmp_path, evaluator), evaluator.metrics()
    assert text.startswith("# Model card: my run\n")
    for line in (
        "- age: a number from -116 to 116",
        "- gender: one of male, female",
        "- head: pose",
        "- utkface: as a program guessed",
    ):
        assert f"\n{line}\n" in text
    whole = table(text, "metric")
    assert whole["age/mae"]["value"] == f"{metrics['age/mae']:.4g}"
    assert "detections/false_alarms" not in whole
    assert "\n- age: intervals of 90%, " in text
    assert f"cover {metrics['age/interval/coverage']:.1%} of the labels that were found" in text
    by_gender = table(text, "age by gender")
    found = evaluator.by_group()["age", "gender"]
    for group in ("male", "female"):
        for name, value in found[group].items():
            wanted = f"{value:.0f}" if name in ("labelled", "misses") else f"{value:.4g}"
            assert by_gender[group][name] == wanted
    best, worst = sorted(found, key=lambda group: found[group]["mae"])
    line = next(line for line in text.splitlines() if line.startswith("- age by gender: mae from"))
    assert line.index(best) < line.index(f" to {found[worst]['mae']:.4g} ({worst}")
    right = evaluator.by_group()["gender", "age"]
    enough = {g: s["accuracy"] for g, s in right.items() if s["labelled"] >= 30}
    best, worst = max(enough, key=enough.__getitem__), min(enough, key=enough.__getitem__)
    line = next(line for line in text.splitlines() if line.startswith("- gender by age:"))
    assert f"accuracy from {enough[best]:.4g} ({best}" in line
    assert f"to {enough[worst]:.4g} ({worst}" in line


def test_a_few_labels_make_no_worst_group(tmp_path):
    text = card(tmp_path, filled(40, groups=(("gender", 0.0),)))
    assert "| gender by gender |" in text
    assert "mae from" not in text
    assert "Not measured" in card(tmp_path, filled(40))
