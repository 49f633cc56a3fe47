"""MaskMTL's networks: the published one compared with Keras, and properties of the others."""

import re
from dataclasses import replace
from functools import cache, partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripts
from flax.traverse_util import flatten_dict
from mistakes import refused
from real_data import data_set
from scenes import compile_model, random_batch

from mtl_jax import experiment
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.config.options.mask_mtl import ConvTrunkOptions, ImageHeadOptions, MaskMTLOptions
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.models.mask_mtl.network import mask_mtl
from mtl_jax.models.padding import normalize
from mtl_jax.models.tta import View
from mtl_jax.runs.setup import Setup
from mtl_jax.training.step import make_loss
from mtl_jax.types import AttributeLabels

CONFIG = str(scripts.ROOT / "configs/maskmtl_utkface.py")
AGE = Continuous("age", range=(0.0, 100.0))
GENDER = Categorical("gender", classes=("male", "female"), loss="binary_cross_entropy")
RACE = Categorical("race", classes=("a", "b", "c", "d", "e"))
FACE = (AGE, GENDER, RACE)
EXITS = (("age", 3), ("gender", 4), ("race", 5))
SMALL = MaskMTLOptions(
    convs=ConvTrunkOptions(features=(4, 4, 6, 6, 6)),
    head=ImageHeadOptions(features=(8,), dropout=0.0),
    exits=EXITS,
)
RESNET = replace(
    SMALL,
    trunk="resnet",
    backbone=BackboneOptions(depth=18, width=8, norm="batch"),
    head=ImageHeadOptions("mean", (), 0.0),
    exits=(),
)


def face_batch(images=4, size=48, channels=1, seed=0, slots=1):
    """Return images of noise with ages, genders and races."""
    rng = np.random.default_rng(seed)
    batch = random_batch(images, size, slots=slots, objects=slots, channels=channels, seed=seed)
    labels = {
        "age": rng.integers(1, 90, (images, slots, 1)).repeat(2, -1),
        "gender": rng.integers(0, 2, (images, slots, 1)),
        "race": rng.integers(0, 5, (images, slots, 1)),
    }
    known = {name: np.ones(values.shape, bool) for name, values in labels.items()}
    labels = {n: AttributeLabels(v.astype(np.float32), known[n]) for n, v in labels.items()}
    return batch._replace(gt=batch.gt._replace(attributes=labels))


@cache
def small(options=SMALL, attributes=FACE):
    """Compile a model for images of 48 pixels once for all tests."""
    return compile_model(mask_mtl(options, attributes), face_batch())


@pytest.fixture(scope="module")
def published():
    setup = Setup.build(resolve(load_config_file(CONFIG)), [Category(1, "face")])
    batch = face_batch(8)
    return *compile_model(setup.model, batch), batch


def test_the_published_network_has_the_published_size(published):
    _, variables, *_ = published
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in variables.items()}
    assert count["params"] == 13_223_719
    assert sum(count.values()) == 13_225_767


def test_predictions_equal_those_of_keras(published):
    from benchmarks import keras_mask_mtl

    _, variables, _, predict, batch = published
    rng = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda x: x + rng.uniform(0, 0.3, x.shape).astype(np.float32), variables["batch_stats"]
    )
    variables = {**variables, "batch_stats": moved}
    network = keras_mask_mtl.build()
    keras_mask_mtl.set_weights(network, variables)
    expected = network(batch.images.astype(np.float32) / 255, training=False)
    expected = {name: np.asarray(value) for name, value in expected.items()}
    found = predict(variables, batch).attributes
    np.testing.assert_allclose(found["age"][:, 0], expected["age"], atol=1e-4)
    np.testing.assert_allclose(found["gender"][:, 0, 1:], expected["gender"], atol=1e-4)
    np.testing.assert_allclose(found["race"][:, 0], expected["race"], atol=1e-4)


@pytest.fixture
def double():
    """Compute in double precision, in JAX and Keras."""
    import keras

    def compute_in(name):
        keras.config.set_floatx(name)  # of losses
        keras.config.set_dtype_policy(name)  # of layers

    compute_in("float64")
    with jax.enable_x64(True):
        yield
    compute_in("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_ten_steps_have_the_losses_of_keras(tmp_path):
    import keras
    import optax

    from benchmarks import keras_mask_mtl

    data_set("utkface_crop_part1")
    # In double precision, because rounding errors grow tenfold in each of the first steps.
    config = load_config_file(CONFIG)
    config.model.head.dropout = 0.0
    config.model.dtype = "float64"
    training = experiment.open_data(resolve(config), "train", tmp_path)
    setup = Setup.build(resolve(config), training.categories)
    loop = setup.experiment.train
    batches = list(islice(experiment.train_batches(setup, training, loop, 0), 10))
    variables = jax.jit(setup.model.init)(jax.random.key(0), batches[0].inputs)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    network = keras_mask_mtl.build(dropout=0.0)
    keras_mask_mtl.set_weights(network, variables)
    losses = {"age": "mse", "gender": "binary_crossentropy", "race": "categorical_crossentropy"}
    rates = 1e-3, 0.875, 1 - 2**-10  # Keras rounds its defaults, 0.9 and 0.999, to single precision
    network.compile(keras.optimizers.Adam(*rates), losses)

    def epsilon(count):  # Keras adds it before the second moment is corrected
        return 1e-7 / jnp.sqrt(1 - rates[2] ** (count + 1))

    optimizer = optax.inject_hyperparams(optax.adam)(*rates, eps=epsilon)
    state = optimizer.init(variables["params"])

    @jax.jit
    def step(variables, state, batch):
        def loss(params):
            changed = {**variables, "params": params}
            total, _, stats = make_loss(setup.model)(changed, batch, jax.random.key(0))
            return total, stats

        (total, stats), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(variables["params"], updates)
        return total, {"params": params, "batch_stats": stats}, state

    normalized = jax.jit(partial(normalize, mean=(0.0,), std=(1.0,)))
    for batch in batches:
        labels = {name: label.values[:, 0] for name, label in batch.gt.attributes.items()}
        targets = {
            "age": labels["age"][:, :1],
            "gender": labels["gender"],
            "race": np.eye(5)[labels["race"][:, 0].astype(int)],
        }
        total, variables, state = step(variables, state, batch)
        expected = network.train_on_batch(
            np.asarray(normalized(batch.inputs)), targets, return_dict=True
        )
        np.testing.assert_allclose(total, expected["loss"], rtol=1e-4)
        network.reset_metrics()
    for number in range(1, 6):
        ours = variables["batch_stats"]["backbone"][f"stage{number}"]["shared"]["norm"]["norm"]
        norm = network.get_layer(f"norm{number}")
        np.testing.assert_allclose(ours["mean"], norm.moving_mean, rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(ours["var"], norm.moving_variance, rtol=1e-2)


@cache
def gradients(options):
    """Return, for each attribute, the paths of the parameters with a gradient of its loss."""
    (model, variables, *_), batch = small(options), face_batch()

    def terms(params):
        return make_loss(model)({**variables, "params": params}, batch, jax.random.key(1))[1]

    slopes = jax.jit(jax.jacrev(terms))(variables["params"])
    return {
        a.name: {
            path
            for path, slope in flatten_dict(slopes[f"attribute/{a.name}"], sep="/").items()
            if np.any(slope)
        }
        for a in FACE
    }


def test_in_the_hierarchy_a_task_trains_the_trunk_up_to_its_exit():
    found = gradients(SMALL)
    for name, exit_stage in EXITS:
        stages = {path.split("/")[1] for path in found[name] if path.startswith("backbone")}
        assert stages == {f"stage{i}" for i in range(1, exit_stage + 1)}
        heads = {path.split("/")[0] for path in found[name]} - {"backbone"}
        assert heads == {f"{name}_head", f"{name}_output"}


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, exits=()),
        replace(SMALL, exits=(("age", 1),)),
        replace(SMALL, sharing="cross_stitch"),
        RESNET,
        replace(RESNET, exits=(("age", 2), ("gender", 4))),
    ],
)
def test_the_shared_pattern_matches_the_parameters_that_all_tasks_train(options):
    found, pattern = gradients(options), mask_mtl(options, FACE).shared
    every = set.union(*found.values())
    assert {path for path in every if re.search(pattern, path)} == set.intersection(*found.values())


@pytest.mark.parametrize("sharing", ["none", "soft"])
def test_separate_trunks_share_no_parameters(sharing):
    assert mask_mtl(replace(SMALL, sharing=sharing), FACE).shared == ""


def test_single_task_networks_share_nothing():
    found = gradients(replace(SMALL, sharing="none"))
    assert not set.intersection(found["age"], found["gender"])
    assert not set.intersection(found["gender"], found["race"])


def test_a_single_task_network_equals_that_of_only_its_attribute():
    together = small(replace(SMALL, sharing="none"))
    alone = small(replace(SMALL, exits=(("age", 3),)), (AGE,))
    params, own = together.variables["params"], jax.tree.map(np.asarray, alone.variables)
    for stage, children in own["params"]["backbone"].items():
        children["shared"] = params["backbone"][stage]["age_trunk"]
    own["params"] |= {name: params[name] for name in ("age_head", "age_output")}
    batch, key = face_batch(), jax.random.key(2)
    _, terms, _ = together.loss(together.variables, batch, key)
    _, term, _ = alone.loss(own, batch, key)
    np.testing.assert_allclose(term["attribute/age"], terms["attribute/age"], rtol=1e-5)


def test_cross_stitch_units_connect_the_stages_that_trunks_have_in_common():
    stitched = replace(SMALL, sharing="cross_stitch")
    batch = face_batch()
    variables = jax.jit(mask_mtl(stitched, FACE).init)(jax.random.key(0), batch.inputs)
    backbone = variables["params"]["backbone"]
    shapes = {n: s["stitch"]["shares"].shape for n, s in backbone.items() if "stitch" in s}
    wide = (3, 3, 4), (3, 3, 4), (3, 3, 6), (2, 2, 6)
    assert shapes == {f"stage{i}": shape for i, shape in enumerate(wide, 1)}
    np.testing.assert_allclose(backbone["stage1"]["stitch"]["shares"].sum(1), 1, rtol=1e-6)
    found = gradients(stitched)
    assert "backbone/stage3/race_trunk/conv/kernel" in found["age"]
    assert "backbone/stage4/race_trunk/conv/kernel" not in found["age"]
    assert "backbone/stage4/race_trunk/conv/kernel" in found["gender"]


def test_cross_stitch_units_equal_to_the_identity_separate_the_trunks():
    stitched = small(replace(SMALL, sharing="cross_stitch"))
    parted = small(replace(SMALL, sharing="none"))
    variables, own = (jax.tree.map(np.asarray, x.variables) for x in (stitched, parted))
    for stage, children in variables["params"]["backbone"].items():
        if "stitch" in children:
            shares = children["stitch"]["shares"]
            identity = jnp.broadcast_to(jnp.eye(len(shares))[..., None], shares.shape)
            children["stitch"] = {"shares": identity}
        own["params"]["backbone"][stage] = {k: v for k, v in children.items() if k != "stitch"}
    own["params"] |= {n: v for n, v in variables["params"].items() if n != "backbone"}
    batch, key = face_batch(), jax.random.key(2)
    expected = parted.loss(own, batch, key)[0]
    np.testing.assert_allclose(stitched.loss(variables, batch, key)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("options", [SMALL, RESNET])
def test_soft_sharing_penalises_the_distance_of_the_trunks(options):
    _, variables, loss, _ = small(replace(options, sharing="soft", sharing_weight=0.25))
    total, terms, _ = loss(variables, face_batch(), jax.random.key(0))
    flat = flatten_dict(variables["params"]["backbone"], sep="/")
    squares = [
        ((flat[path] - flat[other]) ** 2).sum()
        for path in flat
        for a, b in (("age", "gender"), ("age", "race"), ("gender", "race"))
        if f"{a}_trunk" in path and (other := path.replace(f"{a}_trunk", f"{b}_trunk")) in flat
    ]
    np.testing.assert_allclose(terms["sharing"], 0.25 * np.sum(squares) / 3, rtol=1e-5)
    rest = sum(float(terms[f"attribute/{a.name}"]) for a in FACE)
    np.testing.assert_allclose(total, rest + terms["sharing"], rtol=1e-5)


def test_a_non_local_block_is_the_identity_at_first():
    plain, batch = small(), face_batch()
    model = mask_mtl(replace(SMALL, convs=replace(SMALL.convs, non_local=(2,))), FACE)
    own = jax.jit(model.init)(jax.random.key(0), batch.inputs)
    block = own["params"]["backbone"]["stage2"]["shared"]["non_local"]
    own["params"] = jax.tree.map(np.asarray, plain.variables["params"])
    own["params"]["backbone"]["stage2"]["shared"]["non_local"] = block
    expected = plain.predict(plain.variables, batch).attributes
    found = jax.jit(model.predict)(own, batch.inputs).attributes
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_non_local_attention_equals_loops():
    from mtl_jax.layers.non_local import NonLocal

    x = np.random.default_rng(0).normal(0, 1, (2, 2, 3, 4)).astype(np.float32)
    valid = np.ones(2, bool)
    layer = NonLocal(train=False, norm_eps=1e-3)
    variables = layer.init(jax.random.key(0), x, valid)
    params = {**variables["params"], "gain": np.arange(1, 5, dtype=np.float32)}
    found = layer.apply({**variables, "params": params}, x, valid)
    p = {n: np.asarray(params[n]["kernel"], np.float64)[0, 0] for n in
         ("query", "key", "value", "output")}  # fmt: skip
    for image, out in zip(x.reshape(2, 6, 4), np.reshape(found, (2, 6, 4)), strict=True):
        for i, cell in enumerate(image):
            weights = [np.exp((cell @ p["query"]) @ (other @ p["key"])) for other in image]
            pairs = zip(weights, image, strict=True)
            mixed = sum(w * (other @ p["value"]) for w, other in pairs) / sum(weights)
            expected = cell + np.arange(1, 5) * (mixed @ p["output"]) / np.sqrt(1 + 1e-3)
            np.testing.assert_allclose(out[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_resnet_accepts_images_of_224_pixels(channels):
    batch, model = face_batch(1, 224, channels), mask_mtl(RESNET, FACE)
    variables = jax.eval_shape(model.init, jax.random.key(0), batch.inputs)
    found = jax.eval_shape(model.predict, variables, batch.inputs)
    assert found.attributes["race"].shape == (1, 1, 5)


@pytest.mark.parametrize(("size", "channels"), [(48, 1), (64, 3)])
def test_an_image_is_one_object_with_its_labels(size, channels):
    batch = face_batch(3, size, channels)
    batch = batch._replace(
        valid=np.array([True, False, True]), sizes=np.array([[48, 40], [48, 48], [30, 48]], "f4")
    )
    _, variables, _, predict = compile_model(mask_mtl(RESNET, FACE), batch)
    found = predict(variables, batch)
    assert found.valid.tolist() == [[True], [False], [True]]
    np.testing.assert_array_equal(found.boxes[::2, 0], [[0, 0, 40, 48], [0, 0, 48, 30]])
    np.testing.assert_array_equal(found.scores[::2], 1)
    np.testing.assert_array_equal(found.classes[::2], 1)
    assert found.masks is None
    np.testing.assert_allclose(np.sum(found.attributes["race"][0], -1), 1, rtol=1e-5)


def test_labels_are_those_of_the_first_object_and_padding_has_no_effect():
    (_, variables, loss, _), batch = small(), face_batch(3, slots=3)
    gt = batch.gt
    key = jax.random.key(0)

    def spoil(label, rows):
        values = label.values.copy()
        values[rows] = np.nan
        return label._replace(values=values)

    first = gt._replace(
        valid=np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0]], bool),
    )
    expected = loss(variables, batch._replace(gt=first), key)[1]
    others = (np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 2, 0, 2, 0, 1, 2]))
    spoilt = first._replace(attributes={n: spoil(v, others) for n, v in gt.attributes.items()})
    found = loss(variables, batch._replace(gt=spoilt), key)[1]
    assert all(np.array_equal(found[n], expected[n]) for n in expected)
    changed = first._replace(attributes={
        n: v._replace(values=np.roll(v.values, 1, 1)) for n, v in gt.attributes.items()
    })  # fmt: skip
    assert loss(variables, batch._replace(gt=changed), key)[0] != sum(expected.values())


def test_padding_rows_have_no_effect():
    (_, variables, loss, _), batch = small(), face_batch()
    batch = batch._replace(valid=np.array([True, True, True, False]))
    images = batch.images.copy()
    images[3] = 255 - images[3]
    one, _, stats = loss(variables, batch, jax.random.key(0))
    other, _, other_stats = loss(variables, batch._replace(images=images), jax.random.key(0))
    assert one == other
    jax.tree.map(np.testing.assert_array_equal, stats, other_stats)


def test_a_mirrored_view_is_averaged():
    (_, variables, _, predict), batch = small(), face_batch()
    mirrored = batch._replace(images=batch.images[:, :, ::-1])
    both = [predict(variables, b).attributes for b in (batch, mirrored)]
    in_both_views = mask_mtl(SMALL, FACE, views=(View(), View(mirrored=True))).predict
    found = jax.jit(in_both_views)(variables, batch.inputs).attributes
    for name in found:
        np.testing.assert_allclose(found[name], (both[0][name] + both[1][name]) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ((), ("config.attributes",)),
        ((AGE, RACE), ("config.model.exits", "gender", "age", "race")),
    ],
)
def test_attributes_that_do_not_fit_the_options_are_refused(attributes, named):
    with refused(*named, error=ValueError):
        mask_mtl(SMALL, attributes)


@pytest.mark.parametrize(
    "change",  # the message names the first field
    [
        dict(trunk="vgg"),
        dict(sharing="softly"),
        dict(sharing="cross_stitch", trunk="resnet", exits=()),
        dict(exits=(("age", 6),)),
        dict(exits=(("age", 1),), trunk="resnet"),
        dict(dtype="float31"),
    ],
)
def test_wrong_options_are_refused(change):
    with refused(f"model.{next(iter(change))}", error=ValueError):
        replace(SMALL, **change)
