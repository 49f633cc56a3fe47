"""The layer whose outputs share a score, alone and in models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scenes import TINY, random_batch

from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.layers.output import OneScore
from mtl_jax.losses import term_value
from mtl_jax.models.attribute_heads.continuous import STEPS
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.hyperface.network import hyperface
from mtl_jax.models.mask_mtl.network import mask_mtl
from mtl_jax.models.mask_rcnn.network import mask_rcnn

AGE = Continuous("age", range=(0.0, 20.0), loss="coral")
SIZE = Ordinal("size", classes=("s", "m", "l"), loss="coral")
PLAIN = Ordinal("plain", classes=("s", "m", "l"))


def test_outputs_differ_only_by_their_biases():
    layer = OneScore(3, jax.nn.initializers.normal())
    x = jax.random.normal(jax.random.key(0), (5, 4))
    params = layer.init(jax.random.key(1), x)["params"]
    np.testing.assert_array_equal(params["bias"], 0)
    weights, biases = np.array(params["kernel"], float)[:, 0], np.array([2.0, 0.5, -1.0])
    found = layer.apply({"params": {**params, "bias": jnp.array(biases)}}, x)
    for r in range(5):
        score = sum(w * v for w, v in zip(weights, np.array(x[r], float), strict=True))
        np.testing.assert_allclose(found[r], score + biases, atol=1e-5)


def test_biases_learn_their_order():
    """At the minimum biases are descending for any start. Source: Cao et al., theorem 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    ages = np.clip(8 + 4 * x[:, 0] + rng.normal(0, 1, 200), 0, 20).round().astype(np.float32)
    values, known = jnp.repeat(ages[:, None], 2, 1), jnp.ones((200, 2), bool)
    layer = OneScore(STEPS, jax.nn.initializers.normal())
    params = layer.init(jax.random.key(0), x)["params"]
    params["bias"] = jnp.asarray(rng.normal(0, 0.5, STEPS), jnp.float32)

    @jax.jit
    def step(params):
        def loss(params):
            outputs = layer.apply({"params": params}, x)
            boxes = jnp.zeros((200, 4))
            return term_value(head_of(AGE).loss(outputs, values, known, boxes))

        # Each bias contributes a hundredth of the mean.
        rates = {"kernel": 1.0, "bias": 100.0}
        return {k: params[k] - rates[k] * g for k, g in jax.grad(loss)(params).items()}

    for _ in range(1500):
        params = step(params)
    bias = np.array(params["bias"])
    assert (np.diff(bias) < 1e-3).all()
    found = head_of(AGE).decode(layer.apply({"params": params}, x), jnp.zeros((len(x), 4)))[:, 0]
    assert np.abs(found - ages).mean() < 1.2


def shapes(model, batch):
    """Return the shapes of the output layers' parameters."""
    params = jax.eval_shape(model.init, jax.random.key(0), batch.inputs)["params"]
    flat = flatten_dict(params)
    return {path[-2:]: leaf.shape for path, leaf in flat.items() if path[-2].endswith("_output")}


MODELS = {
    "mask_mtl": lambda attributes: mask_mtl(MaskMTLOptions(), attributes),
    "mask_rcnn": lambda attributes: mask_rcnn(TINY, 2, attributes),
    "hyperface": lambda attributes: hyperface(HyperFaceOptions(fused=False), 2, attributes),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_models_use_one_score_for_coral(name):
    attributes = (AGE, SIZE, PLAIN)
    side = {"mask_mtl": 48, "mask_rcnn": 64, "hyperface": 227}[name]
    batch = random_batch(1, side, slots=1, objects=1)
    found = shapes(MODELS[name](attributes), batch)
    for attribute, outputs, columns in ((AGE, 100, 1), (SIZE, 2, 1), (PLAIN, 2, 2)):
        assert found[f"{attribute.name}_output", "kernel"][1] == columns
        assert found[f"{attribute.name}_output", "bias"] == (outputs,)
