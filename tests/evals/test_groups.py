"""Metrics of one attribute by the value of another, against selecting the instances directly."""

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.groups import compared_metric, read_groupings
from mtl_jax.results import Result

CATEGORIES = (Category(1, "face"),)
ATTRIBUTES = from_config(
    {
        "age": {"kind": "continuous", "range": (-116, 116)},
        "gender": {"kind": "categorical", "classes": ("male", "female")},
        "smile": {"kind": "ordinal", "classes": ("none", "slight", "broad")},
        "head": {"kind": "pose"},
    }
)
AGE, GENDER, SMILE, HEAD = ATTRIBUTES
MASKED = Categorical("masked", classes=("no", "yes"))
GROUPS = (("age", 10.0), ("gender", 0), ("masked", 0.0))


def face(**labels):
    return Instance((0, 0, 10, 10), 1, attributes=parse_labels((*ATTRIBUTES, MASKED), labels))


RANGES = [
    (0, "0 to 10"),
    (9.9, "0 to 10"),
    (10, "10 to 20"),
    (116, "110 to 120"),
    (-3, "-10 to 0"),
    ((20, 29), "20 to 30"),
    ((3, 9), "0 to 10"),
    ((70, 116), "70 to 116"),
    ((19, 20), "19 to 20"),
    (None, None),
]


@pytest.mark.parametrize(("age", "group"), RANGES)
def test_ranges_begin_with_their_lower_end(age, group):
    (by_age,) = read_groupings((("age", 10.0),), ATTRIBUTES)
    assert by_age.group_of(face(age=age)) == group
    assert by_age.group_of(face()) is None


def test_classes_and_texts_are_groups_in_order():
    by_gender, by_smile, by_mask = read_groupings(
        (("gender", 0.0), ("smile", 0.0), ("masked", 0.0)), (*ATTRIBUTES, MASKED)
    )
    assert by_gender.group_of(face(gender=1)) == "female"
    assert by_smile.group_of(face(smile="slight")) == "slight"
    assert by_mask.group_of(face(masked="yes")) == "yes"
    assert by_mask.group_of(face()) is None
    assert by_gender.attribute.order_groups(["female", "male"]) == ["male", "female"]
    assert by_smile.attribute.order_groups(["broad", "none"]) == ["none", "broad"]
    (by_age,) = read_groupings((("age", 10.0),), ATTRIBUTES)
    names = ["100 to 110", "-10 to 0", "70 to 116", "20 to 30", "70 to 80"]
    assert by_age.attribute.order_groups(names) == [
        "-10 to 0",
        "20 to 30",
        "70 to 80",
        "70 to 116",
        "100 to 110",
    ]


def test_what_cannot_be_grouped_by_is_refused():
    with refused("config.eval.groups", "head", "pose", error=ValueError):
        read_groupings((("head", 0.0),), ATTRIBUTES)
    with refused("config.eval.groups", "age", error=ValueError):
        read_groupings((("age", 0.0),), ATTRIBUTES)
    with refused("config.eval.groups", "masked", "gender", error=ValueError):
        read_groupings((("masked", 0.0),), ATTRIBUTES)
    with refused("config.eval.groups", error=ValueError):
        read_groupings((("age", 5.0), ("age", 10.0)), ATTRIBUTES)
    with refused("config.eval.limits", "gender", error=ValueError):
        Evaluator(CATEGORIES, ATTRIBUTES, EvalOptions(limits=(("gender", 5.0),)))
    with refused("groups", "age", error=ValueError):
        EvalOptions(groups=("age", 10.0))


def test_groups_are_compared_by_the_first_error():
    counts = {"labelled": 1.0, "misses": 1.0}
    assert compared_metric({"a": counts, "b": {**counts, "mae": 1.0, "accuracy": 0.5}}) == "mae"
    assert compared_metric({"a": {**counts, "yaw/std": 1.0, "yaw/mae": 1.0}}) == "yaw/mae"
    assert compared_metric({"a": counts}) is None


def random_people(count, seed=0):
    """Yield labels, detections and an image per person; every seventh is not detected."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        labels = {
            "age": int(rng.integers(0, 60)) if i % 5 else None,
            "gender": str(rng.choice(["male", "female"])),
            "masked": str(rng.choice(["no", "yes"])),
        }
        record = Record(np.zeros((10, 10, 3), np.uint8), 10, 10, i, f"{i}.png", (face(**labels),))
        found = 0 if i % 7 == 0 else 1
        guess = float(rng.uniform(0, 60)), float(rng.uniform())
        none = np.zeros((found, 1), np.float32)
        result = Result(
            boxes=np.tile(np.array([[0, 0, 10, 10]], np.float32), (found, 1)),
            scores=np.ones(found, np.float32),
            classes=np.ones(found, int),
            class_names=("face",) * found,
            category_ids=np.ones(found, int),
            height=10,
            width=10,
            attributes={
                "age": none + np.float32(guess[0]),
                "gender": np.tile(np.array([guess[1], 1 - guess[1]], np.float32), (found, 1)),
                "smile": none,
                "head": np.zeros((found, 3), np.float32),
            },
            declared=ATTRIBUTES,
        )
        yield labels, found, guess, record, result


def test_each_group_is_scored_separately():
    options = EvalOptions(groups=GROUPS, limits=(("age", 5.0),))
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, options, (MASKED,))
    people = list(random_people(300))
    for *_, record, result in people:
        evaluator.add(record, result)
    metrics = evaluator.group_metrics()
    tested = 0
    for by, values in (
        ("age", [f"{low} to {low + 10}" for low in range(0, 60, 10)]),
        ("gender", ["male", "female"]),
        ("masked", ["no", "yes"]),
    ):
        for value in values:
            group = []
            for labels, found, guess, *_ in people:
                own = labels[by]
                if by == "age" and own is not None:
                    own = f"{own // 10 * 10} to {own // 10 * 10 + 10}"
                if own == value:
                    group.append((labels, found, guess))
            aged = [
                (labels["age"], found, g[0])
                for labels, found, g in group
                if labels["age"] is not None
            ]
            errors = [abs(np.float32(g) - age) for age, found, g in aged if found]
            assert metrics[f"age/by_{by}/{value}/labelled"] == len(aged)
            assert metrics[f"age/by_{by}/{value}/misses"] == len(aged) - len(errors)
            mean = sum(errors) / len(errors)
            assert metrics[f"age/by_{by}/{value}/mae"] == pytest.approx(mean)
            near = sum(e <= 5 for e in errors) / len(errors)
            assert metrics[f"age/by_{by}/{value}/cs5"] == pytest.approx(near)
            right = [
                (g[1] > 0.5) == (labels["gender"] == "male") for labels, found, g in group if found
            ]
            name = f"gender/by_{by}/{value}"
            assert metrics[f"{name}/labelled"] == len(group)
            assert metrics[f"{name}/accuracy"] == pytest.approx(sum(right) / len(right))
            assert (f"{name}/macro_f1" in metrics) == (by != "gender")
            tested += 1
    # Smile and head have no labels; instances without an age are in no age group.
    assert {name.split("/")[0] for name in metrics} == {"age", "gender"}
    assert len({name.rsplit("/", 1)[0] for name in metrics}) == 2 * tested


def test_groups_of_one_attribute_add_up_to_all():
    options = EvalOptions(groups=GROUPS, limits=(("age", 5.0),))
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, options, (MASKED,))
    for *_, record, result in random_people(100, seed=1):
        evaluator.add(record, result)
    whole = evaluator.metrics()
    for table in (evaluator.by_group()["age", by] for by, _ in GROUPS):
        found = {g: s["labelled"] - s["misses"] for g, s in table.items()}
        assert sum(s["labelled"] for s in table.values()) == whole["age/labelled"]
        assert sum(s["misses"] for s in table.values()) == whole["age/misses"]
        for name in ("mae", "cs5"):
            total = sum(found[g] * s[name] for g, s in table.items() if found[g])
            assert total / sum(found.values()) == pytest.approx(whole[f"age/{name}"])


def test_a_group_that_was_always_missed_has_only_counts():
    options = EvalOptions(groups=(("gender", 0.0),))
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, options, (MASKED,))
    (_, found, _, record, result), *_ = random_people(1)
    assert not found
    evaluator.add(record, result)
    (scores,) = evaluator.by_group()["gender", "gender"].values()
    assert scores == {"labelled": 1.0, "misses": 1.0}
