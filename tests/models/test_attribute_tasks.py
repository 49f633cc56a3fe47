"""Each kind of attribute: a perfect head has no loss and decodes to its label; missing labels cost
nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.attributes import Categorical, Continuous, Landmarks, Ordinal, Pose
from mtl_jax.losses import term_value
from mtl_jax.models import attribute_tasks
from mtl_jax.models.attribute_tasks import BINS, decode, output_size, place

GENDER = Categorical("gender", classes=("male", "female"))
SMILE = Ordinal("smile", classes=("none", "slight", "broad"), levels=(0.0, 1.0, 4.0))
AGE = Continuous("age", range=(0.0, 116.0))
SEX = Categorical("sex", classes=("male", "female"), loss="binary_cross_entropy")
YEARS = Continuous("years", range=(0.0, 116.0), scale=1.0, loss="l2")
AGE_BINS = Continuous("age", range=(0.0, 100.0), loss="distribution")
HEAD = Pose("head", angles=("yaw", "pitch"))
FACE = Landmarks("face", points=("eye", "nose"))
BOXES = jnp.array([[10.0, 20.0, 50.0, 100.0], [0.0, 0.0, 8.0, 4.0]])

PERFECT = [
    # attribute, outputs, label, prediction
    (GENDER, [[20.0, -20.0], [-20.0, 20.0]], [["male"], ["female"]], [[1, 0], [0, 1]]),
    (SEX, [[-20.0], [20.0]], [["male"], ["female"]], [[1, 0], [0, 1]]),
    (YEARS, [[-20.0], [58.0]], [[38.0], [116]], [[38.0], [116.0]]),
    (SMILE, [[30.0, 30.0], [30.0, -30.0]], [["broad"], ["slight"]], [[4.0], [1.0]]),
    (AGE, [[0.0], [0.5]], [[58.0], [116]], [[58.0], [116.0]]),
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


def attribute_loss(*arguments):
    return term_value(attribute_tasks.attribute_loss(*arguments))


def labels(attribute, raw):
    parsed = [attribute.parse(row[0]) for row in raw]
    return jnp.stack([p[0] for p in parsed]), jnp.stack([p[1] for p in parsed])


@pytest.mark.parametrize(("attribute", "outputs", "raw", "prediction"), PERFECT)
def test_a_perfect_head_has_no_loss_and_decodes_to_its_label(attribute, outputs, raw, prediction):
    outputs = jnp.array(outputs)
    assert outputs.shape[1] == output_size(attribute)
    loss = attribute_loss(attribute, outputs, *labels(attribute, raw), BOXES)
    assert float(loss) < 1e-6
    found = place(attribute, decode(attribute, outputs), BOXES)
    np.testing.assert_allclose(found, prediction, atol=1e-4)


@pytest.mark.parametrize("attribute", [GENDER, SMILE, AGE, AGE_BINS, HEAD, FACE])
def test_missing_labels_give_no_loss_and_no_gradient(attribute):
    outputs = jax.random.normal(jax.random.key(0), (2, output_size(attribute)))
    values = jnp.full((2, attribute.label_size), jnp.nan)
    known = jnp.zeros((2, attribute.label_size), bool)
    value, gradient = jax.value_and_grad(attribute_loss, 1)(
        attribute, outputs, values, known, BOXES
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("attribute", [GENDER, SMILE, AGE, AGE_BINS, HEAD, FACE])
def test_a_missing_label_counts_no_more_than_an_absent_instance(attribute):
    raw = {
        "gender": "female",
        "smile": "slight",
        "age": 30,
        "head": [10, 20],
        "face": [(3, 1, 2), (2, 2, 1)],
    }
    values, known = attribute.parse(raw[attribute.name])
    outputs = jax.random.normal(jax.random.key(1), (2, output_size(attribute)))
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


@pytest.mark.parametrize("attribute", [AGE, AGE_BINS])
def test_inside_an_interval_a_number_costs_nothing(attribute):
    values, known = attribute.parse((20, 29))
    gradient = jax.grad(lambda o: attribute_loss(AGE, o, values[None], known[None], BOXES[:1]))
    inside, below = (24.0 / 116 - 0.5), (10.0 / 116 - 0.5)
    assert gradient(jnp.array([[inside]]))[0, 0] == 0
    assert gradient(jnp.array([[below]]))[0, 0] < 0


def test_a_distribution_decodes_to_its_mean_and_learns_towards_its_label():
    outputs = jnp.full((1, BINS), -30.0).at[0, 40].set(30.0)
    np.testing.assert_allclose(decode(AGE_BINS, outputs), [[40.0]], atol=1e-3)
    values, known = AGE_BINS.parse(40)
    outputs = jnp.zeros((1, BINS))
    for _ in range(300):
        grad = jax.grad(attribute_loss, 1)(AGE_BINS, outputs, values[None], known[None], BOXES[:1])
        outputs -= 20 * grad
    np.testing.assert_allclose(decode(AGE_BINS, outputs), [[40.0]], atol=0.5)


def test_a_landmark_of_unknown_visibility_teaches_its_place_alone():
    values, known = FACE.parse([(30, 80), None])
    gradient = jax.grad(attribute_loss, 1)(
        FACE, jnp.ones((1, 6)), values[None], known[None], BOXES[:1]
    )
    assert (np.asarray(gradient[0]) != 0).tolist() == [True, True, False, False, False, False]


def test_the_scale_is_what_counts_as_one():
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
