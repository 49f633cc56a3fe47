"""HyperFace's networks compared with the published sizes and PyTorch, its losses with loops."""

import re
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faces import DECLARED
from flax.traverse_util import flatten_dict, unflatten_dict
from mistakes import refused
from scenes import compile_model, draw_variables

from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.config.options.hyperface import AlexNetOptions, HyperFaceOptions
from mtl_jax.losses import term_value
from mtl_jax.models.ground_truth import clean
from mtl_jax.models.hyperface.face_rectangle import NAME, first_rectangle
from mtl_jax.models.hyperface.losses import region_losses
from mtl_jax.models.hyperface.network import Network, hyperface, loss_weights
from mtl_jax.models.padding import normalize
from mtl_jax.training.step import make_loss
from mtl_jax.training.transfer import format_table, transfer
from mtl_jax.types import AttributeLabels, Batch, GroundTruth, Inputs

REPOSITORY = AlexNetOptions(variant="repository")
FACE_NET = HyperFaceOptions(alexnet=REPOSITORY, fused=False, fcs=(4096,))
HYPERFACE = HyperFaceOptions(alexnet=replace(REPOSITORY, pool2=2))
RESNET = HyperFaceOptions(trunk="resnet", fcs=())
SIDE = 67
TINY = HyperFaceOptions(
    alexnet=AlexNetOptions("repository", width=6, pool2=2),
    fcs=(16,),
    head_features=8,
    input_size=SIDE,
)


def shapes(options, attributes=DECLARED):
    """Return the shapes of a model's variables, without computing them."""
    model = hyperface(options, 2, attributes)
    inputs = Inputs(jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 2)), jnp.ones(1, bool))
    return jax.eval_shape(model.init, jax.random.key(0), inputs)


def count(options, attributes=DECLARED):
    """Count parameters as Keras does, including moving statistics."""
    flat = flatten_dict(shapes(options, attributes), sep="/")
    return sum(int(np.prod(x.shape)) for path, x in flat.items() if NAME not in path)


NORMS = 4 * (96 + 256 + 384 + 384 + 256)
FUSION_NORMS = 4 * (256 + 256 + 768)


@pytest.mark.parametrize(
    ("options", "attributes", "numbers"),
    [
        (FACE_NET, (), 43_604_226),  # the repository's printed summaries
        (HYPERFACE, DECLARED, 33_831_942),
        # The paper's networks are these without batch norms.
        (replace(FACE_NET, alexnet=AlexNetOptions()), (), 43_604_226 - NORMS),
        (HyperFaceOptions(), DECLARED, 33_831_942 - NORMS - FUSION_NORMS),
        # Multitask_Face: four heads of 4096 -> 512 -> 21, 42, 3 and 2 more than R-CNN_Face.
        (
            replace(FACE_NET, alexnet=AlexNetOptions()),
            DECLARED,
            43_604_226 - NORMS + 4 * (4096 * 512 + 512) + 68 * 513,
        ),
        # torchvision's ResNet-101 without its classifier, and its running statistics; the fusion's
        # 3 x 3, 1 x 1 and norms; five heads of 2048 -> 512 -> 70 numbers.
        (
            RESNET,
            DECLARED,
            42_500_160
            + 52_672 * 2
            + sum(9 * a * a + a * 2 * a + 4 * (a + 2 * a) for a in (256, 512, 1024))
            + 5 * (2048 * 512 + 512)
            + 70 * 513,
        ),
    ],
)
def test_the_networks_have_the_published_sizes(options, attributes, numbers):
    assert count(options, attributes) == numbers


@pytest.mark.parametrize(
    ("options", "modules"),
    [
        (HYPERFACE, {"backbone", "fusion", "fused_heads/fc1"}),
        (
            replace(HYPERFACE, fcs=(16, 8)),
            {"backbone", "fusion", "fused_heads/fc1", "fused_heads/fc2"},
        ),
        (FACE_NET, {"backbone", "heads/fc1"}),
        (RESNET, {"backbone", "fusion"}),
    ],
)
def test_the_layers_used_by_all_tasks_are_shared(options, modules):
    pattern = hyperface(options, 2, DECLARED).shared
    paths = flatten_dict(shapes(options)["params"], sep="/")
    shared = {path for path in paths if re.search(pattern, path)}
    assert shared == {path for path in paths if any(path.startswith(f"{m}/") for m in modules)}
    assert all(any(path.startswith(f"{m}/") for path in paths) for m in modules)


def random_variables(options, attributes, seed):
    """Draw a model's variables with the magnitudes of trained ones."""
    return draw_variables(shapes(options, attributes), seed, trained=True)


def compare(options, attributes, theirs):
    """Compare with `theirs`, a function of the same network in PyTorch and its images."""
    in_torch = pytest.importorskip("models.hyperface.hyperface_torch")
    variables = random_variables(options, attributes, 3)
    pixels = np.random.default_rng(4).normal(size=(2, 227, 227, 3)).astype(np.float32)
    network = Network(options, 2, attributes, train=False)
    ours = network.apply(variables, pixels, np.ones(2, bool))
    expected = theirs(in_torch.HyperFace(variables), in_torch.channels_first(pixels))
    assert set(ours) == set(expected)
    for name, value in expected.items():
        assert value.abs().mean() > 0.01
        np.testing.assert_allclose(ours[name], value, atol=1e-4, rtol=1e-4, err_msg=name)


def test_hyperface_equals_the_repositorys():
    compare(HYPERFACE, DECLARED, lambda net, x: net.hyperface(x))


def test_the_face_network_equals_the_repositorys():
    def face(net, x):
        return net.heads(net.trunk(x, 3)[2], "heads", ("class_logits",))

    compare(FACE_NET, (), face)


@pytest.mark.parametrize("fused", [True, False])
def test_equal_weights_of_all_cells_equal_mean_pooling(fused):
    small = replace(RESNET.resnet, depth=18, width=4)
    pooled = replace(RESNET, resnet=small, head_features=8, input_size=64, fused=fused)
    variables = random_variables(pooled, DECLARED, 5)
    regions = jnp.asarray(np.random.default_rng(6).normal(size=(2, 64, 64, 3)), jnp.float32)

    def look(options, params):
        net = Network(options, 2, DECLARED, train=False)
        stats = {k: v for k, v in variables["batch_stats"].items() if k != NAME}
        return net.apply({"params": params, "batch_stats": stats}, regions, jnp.ones(2, bool))

    def with_cells(weights):  # of the 2 x 2 cells of the last map
        flat = flatten_dict(variables["params"], sep="/")
        wide = {
            path: np.concatenate([w * x for w in weights]) if "_hidden/kernel" in path else x
            for path, x in flat.items()
        }
        return look(replace(pooled, pooled=False), unflatten_dict(wide, sep="/"))

    mean, equal = look(pooled, variables["params"]), with_cells([0.25] * 4)
    first = with_cells([1, 0, 0, 0])
    for name, value in mean.items():
        np.testing.assert_allclose(equal[name], value, rtol=1e-4, atol=1e-5)
        assert np.abs(first[name] - value).max() > 0.01


def test_the_face_networks_weights_are_transferred_by_name():
    small, face = TINY, replace(TINY, fused=False)
    ours, theirs = (
        random_variables(o, a, i) for i, (o, a) in enumerate([(small, DECLARED), (face, ())])
    )
    result, rows = transfer(ours, theirs)
    outcome = {row.path: row.outcome for row in rows}
    copied = {path for path, what in outcome.items() if what == "copied"}
    assert copied == {path for path in outcome if "/backbone/" in path}
    assert len(copied) == 5 * 2 + 5 * 4  # kernels and biases, and four numbers of each norm
    np.testing.assert_array_equal(
        result["params"]["backbone"]["conv3"]["kernel"],
        theirs["params"]["backbone"]["conv3"]["kernel"],
    )
    table = format_table(rows)
    assert "params/backbone" in table
    assert "fresh" in table


def region_batch(rows=6, side=SIDE, seed=0, **labels):
    """Return regions of noise: two faces, half a face, two without a face, and padding."""
    rng = np.random.default_rng(seed)
    face = np.arange(rows) < 3
    raw = {
        "head": {"yaw": 20, "pitch": -10, "roll": 5},
        "face": [(3 + i, 5 + i, 2 - (i > 15)) for i in range(20)] + [None],
        "gender": "female",
        **labels,
    }
    attributes = {}
    for attribute in DECLARED:
        values, known = attribute.parse(raw[attribute.name])
        known = np.tile(known, (rows, 1, 1))
        known[2] &= attribute.name == "face"  # as with an IoU between 0.35 and 0.5
        attributes[attribute.name] = AttributeLabels(np.tile(values, (rows, 1, 1)), known)
    boxes = np.tile(np.array([2, 3, 30, 29], np.float32), (rows, 1, 1))
    valid = np.arange(rows) < rows - 1
    return Batch(
        images=rng.integers(0, 256, (rows, side, side, 3), np.uint8),
        sizes=np.full((rows, 2), side, np.float32),
        valid=valid,
        exhaustive=np.arange(rows) != 2,
        index=np.arange(rows, dtype=np.int32),
        gt=GroundTruth(
            boxes=boxes,
            classes=np.ones((rows, 1), np.int32),
            valid=face[:, None],
            masks=np.zeros((rows, 1, 4, 4), np.uint8),
            mask_valid=np.zeros((rows, 1), bool),
            ignored=np.zeros((rows, 0, 4), np.float32),
            attributes=attributes,
        ),
    )


@cache
def tiny(**changes):
    options = replace(TINY, **changes)
    declared = tuple(
        replace(a, loss="l2") if a.name != "gender" else replace(a, weight=2.0) for a in DECLARED
    )
    model, variables, loss, _ = compile_model(hyperface(options, 2, declared), region_batch())
    variables["batch_stats"] |= first_rectangle(options)
    return model, variables, loss, options, declared


@pytest.mark.parametrize("hidden", [False, True])
def test_losses_are_the_papers(hidden):
    model, variables, loss, options, declared = tiny(hidden_points=hidden)
    batch = region_batch()
    total, terms, _ = loss(variables, batch, jax.random.key(1))
    network = Network(options, 2, declared, train=True)
    pixels = (batch.images / 255 - np.array(options.pixel_mean)) / np.array(options.pixel_std)
    pixels = np.where(batch.valid[:, None, None, None], pixels, 0).astype(np.float32)
    run = jax.jit(partial(network.apply, mutable=["batch_stats"]))
    out, _ = run(variables, pixels, batch.valid)
    out = {name: np.asarray(value, np.float64) for name, value in out.items()}
    logits = out["class_logits"] - np.log(np.exp(out["class_logits"]).sum(1, keepdims=True))
    detection = [-logits[i, c] for i, c in ((0, 1), (1, 1), (3, 0), (4, 0))]  # 2 is ignored
    place, visible, pose, gender = [], [], [], []
    for i in range(3):
        for j in range(20):
            seen = j <= 15
            visible.append((1 / (1 + np.exp(-out["visible_face_output"][i, j])) - seen) ** 2)
            if seen or hidden:
                x, y = (3 + j - SIDE / 2) / SIDE, (5 + j - SIDE / 2) / SIDE
                dx, dy = out["face_output"][i, 2 * j] - x, out["face_output"][i, 2 * j + 1] - y
                place.append((dx**2 + dy**2) / 2)
        if i < 2:
            turned = out["head_output"][i] - np.array([20, -10, 5]) / 45
            pose.append((turned**2).mean())
            g = out["gender_output"][i]
            gender.append(np.log(np.exp(g).sum()) - g[1])
    expected = {
        "class_logits": np.mean(detection),
        "attribute/face": np.mean(place),
        "visibility/face": np.mean(visible),
        "attribute/head": np.mean(pose),
        "attribute/gender": np.mean(gender),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
    weights = loss_weights(options, declared)
    assert model.weights == weights
    assert set(weights) == set(expected)
    expected_total = sum(weights[name] * value for name, value in expected.items())
    np.testing.assert_allclose(total, expected_total, rtol=1e-4)
    assert weights["visibility/face"] == 0.5


def test_missing_labels_and_padding_rows_have_no_effect():
    model, variables, *_ = tiny()
    loss = jax.jit(jax.value_and_grad(lambda v, b: make_loss(model)(v, b, jax.random.key(1))[0]))
    batch = region_batch()
    value, gradient = loss(variables, batch)
    junk = jax.tree.map(np.copy, batch)
    junk.images[-1] = 255
    junk.gt.boxes[3:] = np.nan
    for label in junk.gt.attributes.values():
        label.values[3:] = np.inf
        label.values[~label.known] = np.nan
    again, same = loss(variables, junk)
    assert again == value
    jax.tree.map(np.testing.assert_array_equal, gradient, same)


def test_a_batch_without_faces_and_one_without_labels():
    _, variables, loss, *_ = tiny()
    batch = region_batch()
    none = batch._replace(gt=batch.gt._replace(valid=np.zeros_like(batch.gt.valid)))
    total, terms, stats = loss(variables, none, jax.random.key(0))
    assert float(total) == pytest.approx(float(terms["class_logits"]))
    before = variables["batch_stats"][NAME]["rectangle"]
    np.testing.assert_array_equal(stats[NAME]["rectangle"], before)
    silent = none._replace(exhaustive=np.zeros_like(batch.exhaustive))
    assert float(loss(variables, silent, jax.random.key(0))[0]) == 0


def test_the_evaluation_loss_uses_the_network_of_prediction():
    """It has no dropout and uses running statistics, so rows can be evaluated one by one."""
    model, variables, loss, options, declared = tiny(dropout=0.5)
    batch = region_batch()
    sums = jax.jit(lambda v, b: model.terms(v, b, jax.random.key(0), False)[0])
    terms = sums(variables, batch)
    out = Network(options, 2, declared, train=False).apply(
        variables, normalize(batch.inputs, options.pixel_mean, options.pixel_std), batch.valid
    )
    expected = region_losses(out, clean(batch), declared, options)
    for name, term in expected.items():
        np.testing.assert_allclose(term_value(terms[name]), term_value(term), rtol=1e-5)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], batch) for i in range(len(batch.valid))]
    added = jax.tree.map(lambda *parts: sum(parts), *(sums(variables, row) for row in rows))
    for name, term in terms.items():
        np.testing.assert_allclose(term_value(added[name]), term_value(term), rtol=1e-4)
    totals = [loss(variables, batch, jax.random.key(k))[0] for k in (0, 1)]
    assert totals[0] != totals[1]


def test_the_rectangle_is_fitted_without_dropout():
    _, variables, loss, *_ = tiny(dropout=0.5)
    one, other = (loss(variables, region_batch(), jax.random.key(k))[2][NAME] for k in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_parts_have_the_loss_of_the_whole():
    options = replace(TINY, alexnet=replace(TINY.alexnet, variant="paper"))
    _, variables, whole, _ = compile_model(hyperface(options, 2, DECLARED), region_batch())
    variables["batch_stats"] |= first_rectangle(options)
    parts = jax.jit(make_loss(hyperface(options, 2, DECLARED), parts=3))
    a, b = (loss(variables, region_batch(), jax.random.key(1))[0] for loss in (whole, parts))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_rectangle_is_fitted_to_boxes_entirely_inside_the_region():
    _, variables, loss, options, _ = tiny()
    variables = jax.tree.map(np.asarray, variables)  # a copy, to be modified
    batch = region_batch()
    # The network predicts the template, scaled by 8, around (30, 33), independent of the labels.
    # The third box may be truncated.
    places = np.array(options.template) * 8 + (30, 33)
    outputs = {
        "face_output": ((places - SIDE / 2) / SIDE).ravel(),
        "visible_face_output": np.full(21, 9.0),
    }
    for name, bias in outputs.items():
        layer = variables["params"]["fused_heads"][name]
        layer["kernel"], layer["bias"] = jnp.zeros_like(layer["kernel"]), jnp.float32(bias)
    batch.gt.boxes[:2] = (10, 5, 60, 55)
    batch.gt.boxes[2] = (0, 5, 60, 55)
    stats = variables["batch_stats"]
    for _ in range(3):
        stats = {**stats, **loss({**variables, "batch_stats": stats}, batch, jax.random.key(0))[2]}
    expected = [(35 - 30) / 8, (30 - 33) / 8, 50 / 8, 50 / 8]
    np.testing.assert_allclose(stats[NAME]["rectangle"], expected, atol=1e-3)


def test_other_landmarks_than_the_templates_are_refused():
    with refused("template", 21, "eyes", 2):
        hyperface(TINY, 2, (Landmarks("eyes", points=("a", "b")),))


def test_images_that_are_not_regions_are_refused():
    model, variables, *_ = tiny()
    batch = region_batch(side=40)
    with refused("67 x 67", error=ValueError):
        make_loss(model)(variables, batch, jax.random.key(0))
