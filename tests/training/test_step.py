"""The training step: trained parameters, frozen parameters, and NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.toy import init, make_batch, make_model

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mtl_jax.training.sharding import make_mesh, shard_batch
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage
from mtl_jax.training.step import make_eval_loss, make_loss, make_train_step
from mtl_jax.types import MaskedSum

OPTIONS = OptimizerOptions(
    schedule="constant", warmup_steps=0, learning_rate=0.05, weight_decay=0.1
)
KEY = jax.random.key(5)


def _start(model, layers="all", ema=0.0):
    """Return a step function, its initial state, the variables and the mesh."""
    variables = init(0)
    mesh = make_mesh(jax.devices()[:1])
    mask = trainable(variables["params"], layers)
    schedule = learning_rate_schedule(OPTIONS, 10, 0.05)
    optimizer = make_optimizer(OPTIONS, schedule)
    step = make_train_step(model, optimizer, mask, schedule, mesh, ema=ema)
    average = variables["params"] if ema else None
    return step, start_stage(variables, optimizer, mask, mesh, average=average), variables, mesh


def _host(tree):
    return jax.tree.map(np.array, tree)


def _same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return [np.array_equal(x, y) for x, y in leaves]


def test_a_step_is_gradient_descent_on_the_loss():
    model = make_model()
    step, state, variables, mesh = _start(model)
    batch = make_batch(0, 0)
    key = jax.random.fold_in(KEY, 0)

    def loss_of(params):
        total, terms, stats = make_loss(model)({**variables, "params": params}, batch, key)
        return total, (terms, stats)

    differentiate = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    (loss, (terms, stats)), grads = differentiate(variables["params"])
    state, metrics = step(state, shard_batch(batch, mesh), KEY)
    decayed = jax.tree.map(lambda g, p: g + 0.1 * p * (p.ndim > 1), grads, variables["params"])
    expected = jax.tree.map(lambda p, g: p - 0.05 * g, variables["params"], decayed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.batch_stats, stats)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-6)
    for name, term in terms.items():
        np.testing.assert_allclose(metrics.terms[name], term, rtol=1e-6)
    squares = sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(metrics.grad_norm, np.sqrt(squares), rtol=1e-5)
    np.testing.assert_allclose(metrics.learning_rate, 0.05)
    assert int(state.step) == 1


def test_the_average_equals_that_of_a_loop():
    step, state, variables, mesh = _start(make_model(), ema=0.5)
    expected = variables["params"]
    for i in range(16):
        state, _ = step(state, shard_batch(make_batch(0, i), mesh), KEY)
        decay = min(0.5, (1 + i) / (10 + i))  # 0.5 from i = 8 on
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, expected, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.average, expected)
    assert not any(_same(state.average, state.params))


def test_each_step_has_its_own_key():
    step, state, _, mesh = _start(make_model())
    state = state._replace(opt_state=jax.tree.map(jnp.zeros_like, state.opt_state))
    batch = shard_batch(make_batch(0, 0), mesh)
    frozen = _host(state)

    def loss_at(number):
        fresh = jax.tree.map(jnp.array, frozen)._replace(step=jnp.int32(number))
        return float(step(fresh, batch, KEY)[1].loss)

    assert loss_at(3) == loss_at(3)
    assert loss_at(3) != loss_at(4)


def test_frozen_parts_stay_to_the_bit_and_the_rest_trains():
    step, state, variables, mesh = _start(make_model(), "4+")
    for i in range(3):
        state, _ = step(state, shard_batch(make_batch(0, i), mesh), KEY)
    before, after = variables["params"], state.params
    for name in ("stem", "stage2", "stage3"):
        assert all(_same(before["backbone"][name], after["backbone"][name]))
    for name in ("stage4", "stage5"):
        assert not any(_same(before["backbone"][name], after["backbone"][name]))
    assert not any(_same(before["class_logits"], after["class_logits"]))
    stats, moved = variables["batch_stats"]["backbone"], state.batch_stats["backbone"]
    assert all(_same(stats["stem"], moved["stem"]))
    assert not any(_same(stats["stage5"], moved["stage5"]))
    trained = {"fpn", "class_logits", "boxes", "backbone"}
    momenta = [leaf for leaf in jax.tree.leaves(state.opt_state) if jnp.ndim(leaf)]
    heads = [leaf for n in trained - {"backbone"} for leaf in jax.tree.leaves(before[n])]
    stages = [leaf for n in ("stage4", "stage5") for leaf in jax.tree.leaves(before["backbone"][n])]
    assert len(momenta) == len(heads + stages)


@jax.custom_vjp
def _undifferentiable(tree):
    return tree


def _refuse(*_):
    raise AssertionError("differentiated")


_undifferentiable.defvjp(lambda tree: (tree, None), _refuse)


def test_frozen_parts_are_not_differentiated():
    model = make_model()

    def terms(variables, batch, key, train):
        params = variables["params"]
        guarded = {**params, "backbone": _undifferentiable(params["backbone"])}
        return model.terms({**variables, "params": guarded}, batch, key, train)

    guarded = model._replace(terms=terms)
    step, state, _, mesh = _start(guarded, "heads")
    step(state, shard_batch(make_batch(0, 0), mesh), KEY)
    step, state, _, mesh = _start(guarded, "5+")
    with pytest.raises(AssertionError, match="differentiated"):
        step(state, shard_batch(make_batch(0, 0), mesh), KEY)


def _spoil_boxes(batch):
    boxes = batch.gt.boxes.copy()
    boxes[1, 0, 2] = np.nan
    return batch._replace(gt=batch.gt._replace(boxes=boxes))


def test_after_a_nan_the_state_never_changes_again():
    step, state, _, mesh = _start(make_model())
    state, _ = step(state, shard_batch(make_batch(0, 0), mesh), KEY)
    good = _host(state)
    state, metrics = step(state, shard_batch(_spoil_boxes(make_batch(0, 1)), mesh), KEY)
    assert not metrics.finite
    assert np.isnan(metrics.terms["box"])
    assert np.isfinite(metrics.terms["class"])
    state, metrics = step(state, shard_batch(make_batch(0, 2), mesh), KEY)
    assert metrics.finite  # the step was finite, but the state stays unchanged
    assert not state.finite
    assert all(_same(good._replace(finite=False), state._replace(finite=False)))


def test_a_gradient_that_is_not_finite_is_noticed():
    model = make_model()

    def with_penalty(variables, batch, key, train):
        terms, stats = model.terms(variables, batch, key, train)
        bias = variables["params"]["fpn"]["bias"]
        zero = jnp.sqrt((bias - jax.lax.stop_gradient(bias)) ** 2).sum()  # its slope is NaN
        return {**terms, "penalty": (MaskedSum(zero, jnp.int32(1)),)}, stats

    step, state, variables, mesh = _start(model._replace(terms=with_penalty))
    state, metrics = step(state, shard_batch(make_batch(0, 0), mesh), KEY)
    assert np.isfinite(metrics.loss)
    assert np.isnan(metrics.grad_norm)
    assert not metrics.finite
    assert all(_same(variables["params"], state.params))


def test_statistics_that_are_not_finite_are_noticed():
    model = make_model()

    def with_infinite_stats(variables, batch, key, train):
        terms, stats = model.terms(variables, batch, key, train)
        return terms, jax.tree.map(lambda x: x / 0, stats)

    step, state, variables, mesh = _start(model._replace(terms=with_infinite_stats))
    state, metrics = step(state, shard_batch(make_batch(0, 0), mesh), KEY)
    assert not metrics.finite
    assert all(_same(variables["batch_stats"], state.batch_stats))


def test_the_step_leaves_the_variables_it_started_from():
    step, state, variables, mesh = _start(make_model())
    before = _host(variables)
    step(state, shard_batch(make_batch(0, 0), mesh), KEY)
    assert all(_same(before, variables))


def test_an_evaluations_loss_is_over_all_labels():
    traces = []
    model = make_model(lambda: traces.append(1))
    variables = init(0)
    mesh = make_mesh(jax.devices()[:1])
    full, part = make_batch(0, 0), make_batch(0, 1)
    part = part._replace(valid=np.array([True, False, False, False]))
    actual = make_eval_loss(model, mesh)(variables, [full, part])
    assert len(traces) == 1
    terms = [make_loss(model)(variables, b, jax.random.key(0))[1] for b in (full, part)]
    assert actual["loss"] == pytest.approx(actual["box"] + 0.5 * actual["class"])
    labels = [int((b.gt.valid & b.valid[:, None]).sum()) for b in (full, part)]
    assert labels[0] > 4 > labels[1]
    for name, counts in (("box", labels), ("class", [4, 1])):
        expected = np.average([t[name] for t in terms], weights=counts)
        np.testing.assert_allclose(actual[name], expected, rtol=1e-5)
    none = full._replace(valid=np.zeros(4, bool))
    again = make_eval_loss(model, mesh)(variables, [none, full, none, part, none])
    assert again == pytest.approx(actual)
