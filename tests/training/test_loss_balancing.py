"""Loss balancing: each method on a problem with a known solution, and in training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from mistakes import refused
from training.toy import file_names, init, make_batch, make_batches, make_model

from mtl_jax.config.options.training import (
    METHODS,
    BalanceOptions,
    LoopOptions,
    OptimizerOptions,
    Stage,
)
from mtl_jax.training import loss_balancing
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.gradient_balancing import balanced_gradients, make_balancing
from mtl_jax.training.loop import fit
from mtl_jax.training.loss_balancing import make_balance
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import partition, trainable
from mtl_jax.training.step import make_loss

KEY = jax.random.key(0)
BALANCED = tuple(method for method in METHODS if method != "fixed")


def run(method, losses, gradients, steps=1, **options):
    """Return the weights after `steps` steps with the same losses and gradients."""
    chosen = make_balance(method, BalanceOptions(**options), len(losses))
    gradients = jnp.array(gradients)
    state = chosen.init()
    weigh = jax.jit(chosen.weigh)
    for _ in range(steps):
        weights, state = weigh(jnp.array(losses, jnp.float32), gradients @ gradients.T, KEY, state)
    return np.asarray(weights)


def test_uncertainty_converges_to_the_reciprocal_of_each_loss():
    weights = run("uncertainty", [4.0, 0.25], np.eye(2), steps=3000)
    np.testing.assert_allclose(weights, [1 / 4, 4], rtol=1e-2)
    weights = run("uncertainty", [4.0, 0.25, 300.0], np.eye(3), steps=3000)
    np.testing.assert_allclose(weights, [1 / 4, 4, 1 / 300], rtol=1e-2)


def test_gradnorm_equalises_the_norms_if_the_losses_fall_equally():
    weights = run("gradnorm", [1.0, 1.0], [[1.0, 0.0], [0.0, 10.0]], steps=500, rate=0.002)
    np.testing.assert_allclose(weights, [20 / 11, 2 / 11], atol=0.01)


def test_gradnorm_raises_the_weight_of_a_slower_task():
    state = {"weights": jnp.ones(2), "first": jnp.array([1.0, 2.0])}
    losses = jnp.array([1.0, 1.0])  # the second has halved
    for _ in range(400):
        weights, state = loss_balancing.gradnorm(losses, jnp.eye(2), KEY, state, 0.002, 1.0)
    np.testing.assert_allclose(weights, [4 / 3, 2 / 3], atol=0.01)  # in the ratio of 1 to 1 / 2


def test_dwa_by_hand():
    state = make_balance("dwa", BalanceOptions(), 2).init()
    step = partial(loss_balancing.dwa, window=2, temperature=2.0)
    seen = []
    for losses in ([8.0, 3.0], [4.0, 3.0], [3.0, 3.0], [3.0, 3.0], [9.0, 9.0], [1.0, 1.0]):
        weights, state = step(jnp.array(losses), jnp.eye(2), KEY, state)
        seen.append(np.asarray(weights))
    np.testing.assert_allclose(seen[:4], 1.0)
    speed = np.exp(np.array([3 / 6, 3 / 3]) / 2)  # means of 8, 4 and of 3, 3; of 3, 3 and 3, 3
    np.testing.assert_allclose(seen[4:], [2 * speed / speed.sum()] * 2, rtol=1e-6)


def test_pcgrad_by_hand():
    gradients = np.array([[1.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_allclose(run("pcgrad", [1, 1], gradients) @ gradients, [0.5, 1.5], rtol=1e-6)
    agreeing = np.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(run("pcgrad", [1, 1], agreeing), [1, 1])


def test_pcgrad_of_many_tasks_equals_projections_of_vectors():
    rng = np.random.default_rng(0)
    for seed in range(5):
        gradients = rng.normal(0, 1, (4, 3))
        key, expected = jax.random.key(seed), np.zeros(3)
        for i, own in enumerate(jax.random.split(key, 4)):
            g = gradients[i].copy()
            for j in np.asarray(jax.random.permutation(own, 4)):
                if j != i and g @ gradients[j] < 0:
                    g -= (g @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
            expected += g
        weights, _ = loss_balancing.pcgrad(jnp.ones(4), jnp.array(gradients @ gradients.T), key, {})
        np.testing.assert_allclose(weights @ gradients, expected, atol=1e-5)


def test_the_shortest_vector_between_two_in_closed_form():
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 1e4):
        a, b = rng.normal(0, 1, (2, 3)) * scale
        share = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
        found = run("mgda", [1, 1], [a, b])
        np.testing.assert_allclose(found, [share, 1 - share], atol=1e-4)


def test_the_shortest_vector_between_many_equals_scipys():
    rng = np.random.default_rng(2)
    for _ in range(5):
        gradients = rng.normal(0.3, 1, (5, 8))
        gram = gradients @ gradients.T
        best = scipy.optimize.minimize(
            lambda s, gram=gram: s @ gram @ s,
            np.full(5, 0.2),
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda s: s.sum() - 1},
            options={"ftol": 1e-12},
        )
        found = run("mgda", [1] * 5, gradients)
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
        assert found @ gram @ found <= best.fun * 1.001 + 1e-6


@pytest.mark.parametrize("method", BALANCED)
def test_a_task_without_labels_is_ignored(method):
    """The last of three tasks only has labels in every fourth step; the others are unaffected."""
    gradients = jnp.array([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [-0.3, 0.2, 0.5]])
    losses = jnp.array([1.0, 0.8, 0.0])
    options = BalanceOptions(window=3, rate=0.1)
    three, two = (make_balance(method, options, tasks) for tasks in (3, 2))
    weigh, weigh_two = jax.jit(three.weigh), jax.jit(two.weigh)
    state, state_of_two = three.init(), two.init()
    for i in range(400):
        labelled = i % 4 == 3
        own = gradients.at[2].multiply(labelled)
        before = state
        weights, state = weigh(losses.at[2].set(0.4 * labelled), own @ own.T, KEY, state)
        if not labelled and method in ("mgda", "pareto", "pcgrad"):
            pair = own[:2]
            alone, state_of_two = weigh_two(losses[:2], pair @ pair.T, KEY, state_of_two)
            np.testing.assert_allclose(weights @ own, alone @ pair, atol=1e-5)
            assert jnp.linalg.norm(weights @ own) > 0.1
        for name in {"log_variance", "weights", "first", "seen"} & set(state):
            if not labelled and (name != "seen" or i % 3 != 2):  # a window ends
                assert state[name][2] == before[name][2]
    if method == "uncertainty":
        np.testing.assert_allclose(weights, 1 / np.array([1.0, 0.8, 0.4]), rtol=0.05)
    if method == "dwa":  # all losses fall equally
        np.testing.assert_allclose(weights, 1.0, atol=1e-5)


def test_gradnorm_of_a_task_with_few_labels():
    chosen = make_balance("gradnorm", BalanceOptions(rate=0.01), 2)
    state, weigh = chosen.init(), jax.jit(chosen.weigh)
    for i in range(300):
        losses = jnp.array([1.0, i % 3 == 0])
        _, state = weigh(losses, jnp.diag(losses), KEY, state)
    np.testing.assert_allclose(state["weights"], 1.0, atol=0.05)


def descend(preference, steps=600):
    """Minimise two paraboloids, whose Pareto set is the line between their minima."""
    rows = ((1.0, 0.1), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.1, 1.0))
    options = BalanceOptions(preferences=rows, preference=preference, window=300)
    chosen = make_balance("pareto", options, 2)
    minima = jnp.array([[1.0, 0.0], [-1.0, 0.0]])

    def step(_, carry):
        at, state = carry
        away = at - minima
        gradients = 2 * away
        weights, state = chosen.weigh((away**2).sum(1), gradients @ gradients.T, KEY, state)
        return at - 0.02 * weights @ gradients, state

    start = jnp.array([0.1, 1.0]), chosen.init()
    at, _ = jax.jit(lambda carry: jax.lax.fori_loop(0, steps, step, carry))(start)
    return np.asarray(at), np.asarray(((at - minima) ** 2).sum(1)), np.array(rows)


def test_pareto_finds_the_preferred_trade_off():
    found = []
    for preference in range(5):
        at, losses, rows = descend(preference)
        assert abs(at[1]) < 0.02  # on the Pareto set
        assert abs(at[0]) <= 1.001
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        nearness = unit @ losses
        assert nearness[preference] >= nearness.max() - 0.05
        found.append(at[0])
    # The larger the second loss may be, the closer is the solution to the first minimum.
    assert np.all(np.diff(found) > 0)
    np.testing.assert_allclose(found[2], 0.1, atol=0.15)  # equal preference: near the middle


def test_pareto_of_three_tasks_differs_from_mgda_before_one_loss_exceeds_the_others_sum():
    chosen = make_balance("pareto", BalanceOptions(), 3)
    losses, gram = jnp.array([2.0, 1.0, 0.6]), jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    weights, _ = chosen.weigh(losses, gram, KEY, chosen.init())
    assert weights[2] < 0 < weights[:2].min()  # first the two higher losses


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (dict(preferences=((1.0, 0.0, 0.0),)), (2,)),
        (dict(preference=3), ("preference",)),
        (dict(preferences=((0.0, 0.0), (1.0, 1.0))), (0,)),
    ],
)
def test_wrong_preferences_are_refused(options, parts):
    with refused("train.balancing.preferences", *parts):
        make_balancing("pareto", BalanceOptions(**options), make_model(), init(0))


def test_models_that_cannot_be_balanced_are_refused():
    model, variables = make_model(), init(0)
    assert make_balancing("fixed", BalanceOptions(), model, variables) is None
    alone = model._replace(weights={"box": 1.0, "class": 0.0})
    with refused("config.train.balance", "mgda", "fixed"):
        make_balancing("mgda", BalanceOptions(), alone, variables)
    apart = model._replace(shared="")
    with refused("config.train.balance", "mgda"):
        make_balancing("mgda", BalanceOptions(), apart, variables)
    assert make_balancing("dwa", BalanceOptions(), apart, variables)
    for pattern in ("backbon/", "("):
        with refused("config.train.balancing.shared", pattern):
            make_balancing("pcgrad", BalanceOptions(shared=pattern), model, variables)
    with refused("train.balance", "grad", *METHODS, error=ValueError):
        LoopOptions(balance="grad")


def toy_gradients(layers="all", weights=None, penalty=0.0):
    """Return the toy model's loss, its trained parameters, and each term's gradient."""
    model, variables, batch = make_model(), init(0), make_batch(0, 0)
    trained, frozen = partition(variables["params"], trainable(variables["params"], layers))

    def loss(trained):
        params = {**frozen, **trained}
        total, terms, stats = make_loss(model)({**variables, "params": params}, batch, KEY)
        if penalty:
            terms = {**terms, "penalty": sum((x**2).sum() for x in jax.tree.leaves(trained))}
            total += penalty * terms["penalty"]
        return total, (terms, stats)

    each = jax.jit(jax.jacrev(lambda p: loss(p)[1][0]))(trained)
    return loss, trained, each


@pytest.mark.parametrize("method", BALANCED)
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_the_gradient_is_the_weighted_sum_of_the_tasks(method, penalty):
    loss, trained, each = toy_gradients(penalty=penalty)
    balancing = make_balancing(method, BalanceOptions(), make_model(), init(0))
    state = balancing.balance.init()
    if method == "uncertainty":
        state = {"log_variance": jnp.array([0.3, -0.2])}
    found = jax.jit(lambda p: balanced_gradients(loss, p, balancing, state, KEY))(trained)
    factors = {name: float(found.weights[name]) for name in ("box", "class")}
    shared = ("backbone", "fpn")
    vectors = np.array([
        np.concatenate([np.ravel(x) for name in shared for x in jax.tree.leaves(each[task][name])])
        for task in ("box", "class")
    ]) * [[1.0], [0.5]]  # fmt: skip
    losses = np.array([float(found.terms["box"]), 0.5 * float(found.terms["class"])])
    weights, _ = balancing.balance.weigh(
        jnp.array(losses, jnp.float32), jnp.array(vectors @ vectors.T, jnp.float32), KEY, state
    )
    np.testing.assert_allclose(list(factors.values()), weights, rtol=1e-3, atol=1e-5)
    for name in trained:
        weighed = balancing.balance.weighs_all or name in shared
        scale = {task: factors[task] if weighed else 1.0 for task in factors}
        terms = [scale["box"], 0.5 * scale["class"], penalty]
        names = ["box", "class", "penalty"][: 3 if penalty else 2]
        expected = [jax.tree.leaves(each[n][name]) for n in names]
        for i, leaf in enumerate(jax.tree.leaves(found.gradients[name])):
            total = sum(t * e[i] for t, e in zip(terms, expected, strict=False))
            np.testing.assert_allclose(leaf, total, rtol=1e-4, atol=1e-6)


def test_a_stage_without_shared_parameters_has_constant_weights():
    loss, trained, _ = toy_gradients("class_logits|boxes")
    balancing = make_balancing("mgda", BalanceOptions(), make_model(), init(0))
    found = balanced_gradients(loss, trained, balancing, {}, KEY)
    assert {name: float(w) for name, w in found.weights.items()} == {"box": 1.0, "class": 1.0}


STAGES = (Stage("heads", 2), Stage("all", 4))


def train(folder, method, steps=None):
    """Train the toy model; with `steps`, stop before that step and resume."""
    states = []
    for last in (steps, None) if steps else (None,):
        mesh, checkpointer = make_mesh(), Checkpointer(folder, {}, "", "max")
        options = LoopOptions(
            batch_size=4, log_every=1, eval_every=0, checkpoint_every=1, balance=method
        )
        batches = make_batches(3)

        def stopped(start, last=last, batches=batches):
            for number, batch in enumerate(batches(start), start):
                if number == last:
                    raise KeyboardInterrupt
                yield batch

        writer = MetricWriter(folder.parent, 6)
        arguments = (
            make_model(), init(1), STAGES, OptimizerOptions(warmup_steps=0), stopped, None,
            checkpointer, writer, mesh, options, file_names,
        )  # fmt: skip
        try:
            states.append(fit(*arguments))
        except KeyboardInterrupt:
            pass
        finally:
            checkpointer.close()
    return jax.device_get(states[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "stop"), [("gradnorm", 2), ("gradnorm", 4), ("dwa", 4), ("pcgrad", 2)]
)
def test_a_resumed_training_has_the_same_bits(tmp_path, method, stop):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train(tmp_path / "a/checkpoints", method)
    parts = train(tmp_path / "b/checkpoints", method, stop)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert whole.step == 6
    if method == "gradnorm":
        assert not np.array_equal(whole.balance["weights"], [1.0, 1.0])


def test_the_weights_are_logged_and_fixed_has_no_state(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert train(tmp_path / "a/checkpoints", "fixed").balance is None
    assert "balance" not in (tmp_path / "a/metrics.jsonl").read_text()
    train(tmp_path / "b/checkpoints", "uncertainty")
    assert '"train/balance/box"' in (tmp_path / "b/metrics.jsonl").read_text()
