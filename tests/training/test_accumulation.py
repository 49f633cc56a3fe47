"""A batch processed in parts has the loss and the gradients of the whole batch."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import ATTRIBUTES, TINY, compile_model, random_batch

from mtl_jax.losses import masked_sum, term_value
from mtl_jax.models.ground_truth import places
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.training.step import make_loss, summed_terms

# Without batch statistics and dropout, nothing depends on the division of the batch.
PLAIN = replace(
    TINY,
    backbone=replace(TINY.backbone, norm="group"),
    attribute_head=replace(TINY.attribute_head, norm="group"),
)


def uneven_batch():
    """Return four images with different numbers of objects and labels; the last is padding."""
    batch = random_batch(images=4, objects=4)
    valid = np.array(batch.gt.valid)
    valid[0, 1:], valid[1, 3:], valid[2] = False, False, False
    known = {
        name: label._replace(known=np.array(label.known) & (np.arange(4) != 1)[:, None, None])
        for name, label in batch.gt.attributes.items()
    }
    gt = batch.gt._replace(valid=valid, attributes=known)
    return batch._replace(valid=np.array([True, True, True, False]), gt=gt)


def run(parts):
    batch = uneven_batch()
    model, variables, *_ = compile_model(mask_rcnn(PLAIN, 3, ATTRIBUTES), batch)
    loss_of = make_loss(model, parts)

    def loss(params):
        full = {**variables, "params": params}
        total, terms, _ = loss_of(full, batch, jax.random.key(1))
        return total, terms

    trained = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return jax.device_get(trained(variables["params"]))


@pytest.mark.slow
def test_parts_have_the_loss_and_the_gradients_of_the_whole():
    (total, terms), gradient = run(1)
    for parts in (2, 4):
        (total_of_parts, terms_of_parts), gradient_of_parts = run(parts)
        np.testing.assert_allclose(total_of_parts, total, rtol=1e-5)
        for name, value in terms.items():
            np.testing.assert_allclose(terms_of_parts[name], value, rtol=1e-5, err_msg=name)
        pairs = zip(jax.tree.leaves(gradient_of_parts), jax.tree.leaves(gradient), strict=True)
        for one, other in pairs:
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other) + 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_a_part_without_objects_leaves_batch_norms_of_heads_finite(parts):
    heads = {
        name: replace(getattr(TINY, name), norm="batch") for name in ("mask_head", "attribute_head")
    }
    batch = random_batch()
    model, variables, *_ = compile_model(mask_rcnn(replace(TINY, **heads), 3, ATTRIBUTES), batch)
    loss_of = make_loss(model, parts)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def differentiate(params, batch):
        total, _, stats = loss_of({**variables, "params": params}, batch, jax.random.key(1))
        return total, stats

    valid = np.array(batch.gt.valid)
    for empty in ([0, 1], [1]):
        valid[empty] = False
        less = batch._replace(gt=batch.gt._replace(valid=valid.copy()))
        found = differentiate(variables["params"], less)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        valid = np.array(batch.gt.valid)


def toy_terms(variables, batch, key, train):
    """Return masked means over the rows, and count the calls in the statistics."""
    values = variables["params"] * batch.index.astype(jnp.float32) + places(batch)
    stats = {"calls": variables["batch_stats"]["calls"] + 1}
    return {"toy": (masked_sum(values, batch.valid), masked_sum(values, batch.exhaustive))}, stats


@pytest.mark.parametrize(("parts", "calls"), [(1, 1), (2, 2), (3, 1), (4, 4), (100, 4)])
def test_sums_are_those_of_all_rows_and_statistics_pass_from_part_to_part(parts, calls):
    batch = uneven_batch()
    variables = {"params": jnp.float32(3), "batch_stats": {"calls": jnp.int32(0)}}
    found, stats = summed_terms(toy_terms, variables, batch, jax.random.key(0), parts)
    values = 3 * batch.index + np.arange(4)
    expected = values[batch.valid].mean() + values[batch.exhaustive].mean()
    np.testing.assert_allclose(term_value(found["toy"]), expected, rtol=1e-6)
    assert stats["calls"] == calls
