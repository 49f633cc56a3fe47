"""Heads of each kind of attribute: perfect outputs have no loss and decode to the label; missing
labels have no loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.losses import term_value
from mtl_jax.models.attribute_heads.continuous import BINS, STEPS
from mtl_jax.models.attribute_heads.heads import head_of

GENDER = Categorical("gender", classes=("male", "female"))
SMILE = Ordinal("smile", classes=("none", "slight", "broad"), levels=(0.0, 1.0, 4.0))
AGE = Continuous("age", range=(0.0, 116.0))
SEX = Categorical("sex", classes=("male", "female"), loss="binary_cross_entropy")
YEARS = Continuous("years", range=(0.0, 116.0), scale=1.0, loss="l2")
PLAIN = Continuous("years", range=(0.0, 116.0), scale=1.0, centered=False, loss="l2")
AGE_BINS = Continuous("age", range=(0.0, 100.0), loss="distribution")
AGE_CLASSES = Continuous("age", range=(0.0, 100.0), loss="classification")
AGE_STEPS = Continuous("age", range=(0.0, 100.0), loss="coral")
HEAD = Pose("head", angles=("yaw", "pitch"))
FACE = Landmarks("face", points=("eye", "nose"))
BOXES = jnp.array([[10.0, 20.0, 50.0, 100.0], [0.0, 0.0, 8.0, 4.0]])

PERFECT = [
    # attribute, outputs, label, prediction
    (GENDER, [[20.0, -20.0], [-20.0, 20.0]], [["male"], ["female"]], [[1, 0], [0, 1]]),
    (SEX, [[-20.0], [20.0]], [["male"], ["female"]], [[1, 0], [0, 1]]),
    (YEARS, [[-20.0], [58.0]], [[38.0], [116]], [[38.0], [116.0]]),
    (PLAIN, [[38.0], [116.0]], [[38.0], [116]], [[38.0], [116.0]]),
    (SMILE, [[30.0, 30.0], [30.0, -30.0]], [["broad"], ["slight"]], [[4.0], [1.0]]),
    (AGE, [[0.0], [0.5]], [[58.0], [116]], [[58.0], [116.0]]),
    (
        AGE_STEPS,
        [[40.0] * 58 + [-40.0] * 42, [40.0] * 100],
        [[58], [(99.5, 100)]],
        [[58.0], [100.0]],
    ),
    (
        HEAD,
        [[1.0, -1.0], [0.0, 0.5]],
        [[{"yaw": 45, "pitch": -45}], [[0, 22.5]]],
        [[45, -45], [0, 22.5]],
    ),
    (
        FACE,
        [[0.0, 0.25, 40.0, -0.5, 0.0, -40.0]] * 2,
        [[[(30, 80, 2), (10, 60, 1)]], [[(4, 3, 2), (0, 2, 1)]]],
        [[30, 80, 1, 10, 60, 0], [4, 3, 1, 0, 2, 0]],
    ),
]  # fmt: skip


def attribute_loss(attribute, *arguments):
    return term_value(head_of(attribute).loss(*arguments))


def decode(attribute, outputs):
    return head_of(attribute).decode(outputs, jnp.zeros((len(outputs), 4)))


differentiate = jax.jit(jax.value_and_grad(attribute_loss, 1), static_argnums=0)


def labels(attribute, raw):
    parsed = [attribute.parse(row[0]) for row in raw]
    return jnp.stack([p[0] for p in parsed]), jnp.stack([p[1] for p in parsed])


@pytest.mark.parametrize(("attribute", "outputs", "raw", "prediction"), PERFECT)
def test_a_perfect_head_has_no_loss_and_decodes_to_its_label(attribute, outputs, raw, prediction):
    outputs = jnp.array(outputs)
    assert outputs.shape[1] == head_of(attribute).output_size
    loss = attribute_loss(attribute, outputs, *labels(attribute, raw), BOXES)
    assert float(loss) < 1e-6
    found = head_of(attribute).place(decode(attribute, outputs), BOXES)
    np.testing.assert_allclose(found, prediction, atol=1e-4)


@pytest.mark.parametrize("attribute", [GENDER, SMILE, AGE, AGE_BINS, AGE_STEPS, HEAD, FACE])
def test_missing_labels_have_no_loss_and_no_gradient(attribute):
    outputs = jax.random.normal(jax.random.key(0), (2, head_of(attribute).output_size))
    values = jnp.full((2, attribute.label_size), jnp.nan)
    known = jnp.zeros((2, attribute.label_size), bool)
    value, gradient = differentiate(attribute, outputs, values, known, BOXES)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("attribute", [GENDER, SMILE, AGE, AGE_BINS, AGE_STEPS, HEAD, FACE])
def test_a_missing_label_counts_no_more_than_an_absent_instance(attribute):
    raw = {
        "gender": "female",
        "smile": "slight",
        "age": 30,
        "head": [10, 20],
        "face": [(3, 1, 2), (2, 2, 1)],
    }
    values, known = attribute.parse(raw[attribute.name])
    outputs = jax.random.normal(jax.random.key(1), (2, head_of(attribute).output_size))
    alone = attribute_loss(attribute, outputs[:1], values[None], known[None], BOXES[:1])
    both = attribute_loss(
        attribute,
        outputs,
        jnp.stack([values, jnp.full_like(values, jnp.inf)]),
        jnp.stack([known, jnp.zeros_like(known)]),
        BOXES,
    )
    np.testing.assert_allclose(both, alone, rtol=1e-6)
    assert alone > 0


def test_a_pose_with_one_angle_missing_learns_the_other():
    values, known = HEAD.parse({"yaw": 45})
    loss = jax.grad(attribute_loss, 1)(
        HEAD, jnp.zeros((1, 2)), values[None], known[None], BOXES[:1]
    )
    assert loss[0, 0] < 0
    assert loss[0, 1] == 0


def test_angles_are_compared_and_averaged_around_the_circle():
    values, known = HEAD.parse({"yaw": 179, "pitch": 0})
    near, same = (jnp.array([[degrees / 45, 0.0]]) for degrees in (-179, 181))
    for outputs in (near, same):  # the same angle in two forms
        loss, gradient = jax.value_and_grad(attribute_loss, 1)(
            HEAD, outputs, values[None], known[None], BOXES[:1]
        )
        assert loss < 1e-2
        assert gradient[0, 0] > 0  # down to 179 from above
        np.testing.assert_allclose(decode(HEAD, outputs), [[-179, 0]], atol=1e-4)
    two = [jnp.array([[179.0, 10.0]]), jnp.array([[-177.0, 14.0]])]
    np.testing.assert_allclose(head_of(HEAD).mean(two), [[-179, 12]], atol=1e-4)
    np.testing.assert_array_equal(head_of(AGE).mean(two), [[1, 12]])


def at(attribute, number):
    """Return outputs that predict `number` with certainty."""
    if attribute is AGE:
        return jnp.array([[number / 116 - 0.5]])
    if attribute in (AGE_BINS, AGE_CLASSES):
        return jnp.where(jnp.arange(BINS) == number, 40.0, -40.0)[None]
    return jnp.where(jnp.arange(STEPS) < number, 40.0, -40.0)[None]


@pytest.mark.parametrize("attribute", [AGE, AGE_BINS, AGE_CLASSES, AGE_STEPS])
def test_a_number_inside_an_interval_has_no_loss(attribute):
    values, known = attribute.parse((20, 29))

    def loss(outputs):
        return attribute_loss(attribute, outputs, values[None], known[None], BOXES[:1])

    cost = {number: float(loss(at(attribute, number))) for number in (10, 20, 24, 29, 40)}
    for number in (20, 24, 29):
        np.testing.assert_allclose(cost[number], 0, atol=1e-6)
        np.testing.assert_allclose(jax.grad(loss)(at(attribute, number)), 0, atol=1e-6)
    assert cost[10] > 0.01
    assert cost[40] > 0.01


@pytest.mark.parametrize("attribute", [AGE, AGE_BINS, AGE_CLASSES, AGE_STEPS])
def test_training_moves_a_number_into_its_interval(attribute):
    values, known = attribute.parse((20, 29))
    outputs = jnp.zeros((1, head_of(attribute).output_size))
    rate = {"smooth_l1": 0.01, "distribution": 20, "classification": 2, "coral": 100}[
        attribute.loss
    ]
    for _ in range(300):
        _, gradient = differentiate(attribute, outputs, values[None], known[None], BOXES[:1])
        outputs -= rate * gradient
    assert 19 < decode(attribute, outputs)[0, 0] < 30


def test_the_loss_of_an_interval_is_the_logarithm_of_its_probability():
    outputs = jax.random.normal(jax.random.key(3), (1, BINS))
    values, known = AGE_BINS.parse((20, 29))
    loss = attribute_loss(AGE_BINS, outputs, values[None], known[None], BOXES[:1])
    p = np.exp(np.array(outputs[0], float))
    p /= p.sum()
    inside = 0.0
    for k in range(BINS):
        outside = max(20 - k, k - 29, 0)  # in bins; 2 % of the range are two bins
        inside += p[k] * np.exp(-0.5 * (outside / 2) ** 2)
    mean = sum(k * p[k] for k in range(BINS))
    np.testing.assert_allclose(loss, -0.1 * np.log(inside) + (mean - 29) / 100, rtol=1e-5)


def test_classification_is_the_cross_entropy_of_the_bins_around_a_number():
    outputs = jax.random.normal(jax.random.key(3), (1, BINS))
    p = np.exp(np.array(outputs[0], float))
    p /= p.sum()

    def loss(raw):
        values, known = AGE_CLASSES.parse(raw)
        return attribute_loss(AGE_CLASSES, outputs, values[None], known[None], BOXES[:1])

    np.testing.assert_allclose(loss(40), -np.log(p[40]), rtol=1e-5)
    between = -0.75 * np.log(p[40] / 0.75) - 0.25 * np.log(p[41] / 0.25)
    np.testing.assert_allclose(loss(40.25), between, rtol=1e-4)
    np.testing.assert_allclose(loss((20, 29)), -np.log(p[20:30].sum()), rtol=1e-5)
    np.testing.assert_allclose(decode(AGE_CLASSES, outputs), [[p @ np.arange(BINS)]], rtol=1e-5)


def test_coral_is_the_mean_cross_entropy_over_steps():
    outputs = jax.random.normal(jax.random.key(4), (2, STEPS)) * 3
    values, known = labels(AGE_STEPS, [[37], [(62, 62)]])
    total = 0.0
    for row, number in enumerate((37, 62)):
        for k in range(STEPS):
            p = 1 / (1 + np.exp(-float(outputs[row, k])))
            total -= np.log(p) if number > k else np.log(1 - p)
    loss = attribute_loss(AGE_STEPS, outputs, values, known, BOXES)
    np.testing.assert_allclose(loss, total / (2 * STEPS), rtol=1e-5)
    value = sum(1 / (1 + np.exp(-np.array(outputs[0], float))))
    np.testing.assert_allclose(decode(AGE_STEPS, outputs)[0, 0], value, rtol=1e-5)


def test_coral_by_hand():
    # All probabilities are 1 / 2, so the prediction is 50. Of 100 steps those between 20 and 29
    # have no loss, the others log 2 each. The outputs below 20 must increase, those above 29
    # decrease.
    values, known = AGE_STEPS.parse((20, 29))
    outputs = jnp.zeros((1, STEPS))
    assert decode(AGE_STEPS, outputs)[0, 0] == 50
    loss, gradient = jax.value_and_grad(attribute_loss, 1)(
        AGE_STEPS, outputs, values[None], known[None], BOXES[:1]
    )
    np.testing.assert_allclose(loss, 0.91 * np.log(2), rtol=1e-6)
    expected = [-0.5] * 20 + [0.0] * 9 + [0.5] * 71
    np.testing.assert_allclose(gradient[0], np.array(expected) / 100, atol=1e-7)
    # For a number within a step, the fraction of the step below it is the probability without loss.
    values, known = AGE_STEPS.parse(30.25)
    best = at(AGE_STEPS, 30).at[0, 30].set(np.log(0.25 / 0.75))
    loss = attribute_loss(AGE_STEPS, best, values[None], known[None], BOXES[:1])
    np.testing.assert_allclose(loss, 0, atol=1e-7)
    np.testing.assert_allclose(decode(AGE_STEPS, best), [[30.25]], rtol=1e-6)


@pytest.mark.parametrize("raw", [0, 100, 33, 33.3, (0, 100), (20, 29), (99, 100)])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("attribute", [AGE_BINS, AGE_CLASSES, AGE_STEPS])
def test_losses_over_steps_stay_finite(attribute, size, raw):
    values, known = attribute.parse(raw)
    outputs = jnp.linspace(size, -size, head_of(attribute).output_size)[None]
    loss, gradient = differentiate(attribute, outputs, values[None], known[None], BOXES[:1])
    assert loss >= 0
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", Continuous.losses)
def test_a_missing_number_has_no_gradient_if_the_range_is_far_from_0(loss):
    attribute = Continuous("year", range=(1900.0, 2000.0), loss=loss)
    values, known = attribute.parse(None)
    value, gradient = jax.value_and_grad(attribute_loss, 1)(
        attribute,
        jnp.ones((1, head_of(attribute).output_size)),
        values[None],
        known[None],
        BOXES[:1],
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_a_distribution_decodes_to_its_mean_and_learns_towards_its_label():
    outputs = jnp.full((1, BINS), -30.0).at[0, 40].set(30.0)
    np.testing.assert_allclose(decode(AGE_BINS, outputs), [[40.0]], atol=1e-3)
    values, known = AGE_BINS.parse(40)
    outputs = jnp.zeros((1, BINS))
    for _ in range(300):
        _, gradient = differentiate(AGE_BINS, outputs, values[None], known[None], BOXES[:1])
        outputs -= 20 * gradient
    np.testing.assert_allclose(decode(AGE_BINS, outputs), [[40.0]], atol=0.5)


def test_a_landmark_of_unknown_visibility_only_trains_its_position():
    values, known = FACE.parse([(30, 80), None])
    gradient = jax.grad(attribute_loss, 1)(
        FACE, jnp.ones((1, 6)), values[None], known[None], BOXES[:1]
    )
    assert (np.asarray(gradient[0]) != 0).tolist() == [True, True, False, False, False, False]


def test_the_loss_is_in_units_of_the_scale():
    values, known = YEARS.parse(40)
    loss = attribute_loss(YEARS, jnp.array([[-15.0]]), values[None], known[None], BOXES[:1])
    assert loss == 9  # 58 - 15 is 43 years, 3 too many


def test_a_binary_head_is_a_softmax_of_two_outputs():
    outputs = jnp.array([[0.7], [-1.2]])
    pair = jnp.concatenate([-outputs / 2, outputs / 2], -1)
    np.testing.assert_allclose(decode(SEX, outputs), decode(GENDER, pair), rtol=1e-6)
    values, known = labels(SEX, [["female"], ["female"]])
    both = [attribute_loss(a, o, values, known, BOXES) for a, o in ((SEX, outputs), (GENDER, pair))]
    np.testing.assert_allclose(*both, rtol=1e-6)
