"""Compare matterport's graph, rebuilt in TensorFlow, with ours for the same weight file."""

import time
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from convert.planted import plant
from file_server import serving
from mistakes import check_faults, check_names, refused
from scenes import random_batch

from mtl_jax import Predictor
from mtl_jax.config.resolve import from_stored, resolve
from mtl_jax.convert import matterport_names as names
from mtl_jax.convert.__main__ import main
from mtl_jax.convert.coco_names import coco_used_categories
from mtl_jax.convert.keras_files import read_keras
from mtl_jax.convert.matterport import matterport_config
from mtl_jax.convert.model_files import find_model
from mtl_jax.errors import UserError
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.loading import load_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.single_file import read_pack
from mtl_jax.training.step import make_loss

pytest.importorskip("tensorflow")
from convert import matterport_keras as theirs
from convert import our_side

SIDE = 256


def smooth_image(side, seed=0):
    """Return an image of blots of ten pixels."""
    import cv2

    blots = np.random.default_rng(seed).integers(0, 256, (side // 10, side // 10, 3), np.uint8)
    return cv2.resize(blots, (side, side))


def convert(folder, weights, side, *options):
    """Write a weight file, create a run from it with the command, and load the run."""
    theirs.write_weights(folder / "weights.h5", weights)
    arguments = ["--workdir", str(folder / "run"), "--min-size", str(side), "--max-size", str(side)]
    assert main(["matterport", str(folder / "weights.h5"), *arguments, *options]) == 0
    return load_run(folder / "run")


def look_inside(run, batch):
    """Return the pyramid and the proposals of a run's network."""
    options = run.setup.experiment.mask_rcnn("this test")
    return our_side.look_inside(options, len(run.categories) + 1, run.variables, batch)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return their graph, its pyramid, our run of its weights, a batch of one image, the folder."""
    config = theirs.Config(image_size=SIDE)
    weights, image = theirs.random_weights(config), smooth_image(SIDE)
    theirs.spread_outputs(weights, config, image)
    folder = tmp_path_factory.mktemp("matterport")
    run = convert(folder, weights, SIDE)
    graph = theirs.Graph(theirs.read_weights(folder / "weights.h5"), config)
    batch = random_batch(images=1, size=SIDE, num_classes=4)._replace(images=image[None])
    return graph, graph.pyramid(image), run, batch, folder


def pixels(boxes):
    """Convert to our network's [x1, y1, x2, y2], which end where the last pixel begins."""
    return np.asarray(boxes)[:, [1, 0, 3, 2]] * (SIDE - 1)


@pytest.mark.slow
def test_maps_and_proposals_are_theirs(both):
    graph, expected, run, batch, _ = both
    assert [category.name for category in run.categories] == ["class 1", "class 2", "class 3"]
    pyramid, (proposals,) = look_inside(run, batch)
    for a, b in zip(pyramid, expected, strict=True):
        assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()
    boxes = pixels(graph.proposals(expected))
    assert len(proposals) == len(boxes) == 1000
    # In any order, since scores may differ only by rounding.
    apart = np.abs(proposals[:, None] - boxes).max(-1)
    assert apart.min(0).max() < 0.02
    assert apart.min(1).max() < 0.02
    assert np.mean(np.diag(apart) < 0.02) > 0.95


@pytest.mark.slow
def test_detections_and_their_masks_are_theirs(both):
    graph, pyramid, run, batch, folder = both
    proposals = graph.proposals(pyramid)
    boxes, scores, classes = graph.detections(proposals, *graph.classify(pyramid, proposals))
    found = jax.device_get(run.predict(batch.inputs))
    assert found.valid.sum() == len(boxes) > 5
    whole = pixels(boxes) + np.array([0, 0, 1, 1])
    # If scores differ only by rounding, the order may differ.
    same = np.abs(found.boxes[0][:, None] - whole).max(-1) < 0.02
    same &= found.classes[0][:, None] == classes
    same &= np.abs(found.scores[0][:, None] - scores) < 1e-4
    ours, theirs_of = np.nonzero(same)
    np.testing.assert_array_equal(ours, np.arange(len(boxes)))
    np.testing.assert_array_equal(np.sort(theirs_of), np.arange(len(boxes)))
    masks = graph.masks(pyramid, boxes, classes)
    np.testing.assert_allclose(found.masks[0], masks[theirs_of], atol=1e-4)
    result = Predictor.from_checkpoint(folder / "run")(batch.images[0])
    np.testing.assert_allclose(result.boxes, found.boxes[0], atol=1e-3)


@pytest.mark.slow
def test_public_weights_are_used_by_name(both, tmp_path, monkeypatch):
    *_, run, _, folder = both
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path))
    with serving() as server:
        content = (folder / "weights.h5").read_bytes()
        planted = plant(server, "mask_rcnn_coco", content, monkeypatch)
        metadata, variables = read_pack(find_model("mask_rcnn_coco"))
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(run.variables))
    assert metadata["config"]["model"]["backbone"]["norm_eps"] == planted.norm_eps
    assert metadata["config"]["data"]["resize"]["max_size"] == 1024
    assert metadata["card"]["licence"] == planted.licence


@pytest.mark.slow
def test_training_starts_from_a_converted_run(both, capsys):
    *_, run, _, folder = both
    start = f"--config.init.checkpoint={folder / 'run'}"
    resolved = from_stored(run.setup.experiment.config, [start])
    variables = initial_variables(Setup.build(resolved, run.categories), seed=1)
    table = capsys.readouterr().out
    assert "copied" in table
    assert "fresh" not in table
    model = run.setup.model
    batch = random_batch(images=1, size=128, num_classes=4)

    @jax.jit
    def step(params, key):
        def loss(params):
            total, terms, _ = make_loss(model)({**variables, "params": params}, batch, key)
            return total, terms

        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return total, terms, jax.tree.map(lambda p, g: p - 1e-4 * g, params, gradient)

    _, terms, params = step(variables["params"], jax.random.key(0))
    assert {*terms} == {"rpn_objectness", "rpn_box", "box_class", "box_regression", "mask"}
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    after, _, _ = step(params, jax.random.key(0))
    assert np.isfinite(after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


HEADS = replace(
    theirs.Config(),
    image_size=128,
    num_classes=2,
    rpn_anchor_scales=(64, 96, 128, 256, 320),
    rpn_anchor_ratios=(0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3),
    detection_min_confidence=0.6,
    attributes=True,
)
HEAD_OPTIONS = (
    *("--anchor-sizes", "64", "96", "128", "256", "320", "--score-threshold", "0.6"),
    *("--anchor-ratios", ".7", ".8", ".9", "1", "1.1", "1.2", "1.3"),
)


@pytest.fixture(scope="module")
def heads():
    """Return MTL_MRCNN's weights, and an image on which they detect objects."""
    weights, image = theirs.random_weights(HEADS), smooth_image(128)
    theirs.spread_outputs(weights, HEADS, image)
    return weights, image


@pytest.mark.slow
def test_mtl_mrcnns_two_numbers_become_yaw_and_pitch(heads, tmp_path, capsys):
    weights, image = heads
    run = convert(tmp_path, weights, 128, *HEAD_OPTIONS)
    check_names(capsys.readouterr().out, "head", "yaw", "pitch")
    batch = random_batch(images=1, size=128)._replace(images=image[None])
    found = jax.device_get(run.predict(batch.inputs))
    graph = theirs.Graph(theirs.read_weights(tmp_path / "weights.h5"), HEADS)
    pyramid = graph.pyramid(image)
    proposals = graph.proposals(pyramid)
    boxes, scores, _ = graph.detections(proposals, *graph.classify(pyramid, proposals))
    count = found.valid.sum()
    assert count == len(boxes) > 5
    np.testing.assert_allclose(found.scores[0, :count], scores, atol=1e-4)
    # Theirs are read from the proposals; on the same boxes the outputs are the same.
    first, second = graph.attributes(pyramid, boxes)[:, 1].numpy().T
    expected = np.stack([90 - 180 * first, 180 * second - 90], 1)
    assert expected.std() > 5
    gaps = (found.attributes["head"][0, :count] - expected + 180) % 360  # theirs are not circular
    np.testing.assert_allclose(gaps, 180, atol=0.02)


@pytest.mark.slow
def test_mtl_mrcnns_head_can_be_left_out(heads, tmp_path, capsys):
    patterns = ("--unused", "^mrcnn_pos", "^mrcnn_class_(bn122|conv2111)/")
    run = convert(tmp_path, heads[0], 128, *HEAD_OPTIONS, *patterns)
    assert not run.attributes
    assert "attribute_head" not in run.variables["params"]
    table = capsys.readouterr().out
    assert "mrcnn_pos1_bn3" in table
    assert "--unused" in table


def blank(config):
    """Return a model's weights by "layer/variable", all 0, without allocating memory."""
    kernels, norms = theirs.layer_shapes(config)
    shapes = {f"{name}/kernel": shape for name, shape in kernels.items()}
    shapes |= {
        f"{name}/bias": shape[2:3] if name == "mrcnn_mask_deconv" else shape[-1:]
        for name, shape in kernels.items()
    }
    for name, features in norms.items():
        for variable in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{name}/{variable}"] = (features,)
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("attributes", [False, True])
def test_every_tensor_of_a_published_model_is_converted(depth, attributes):
    """The layouts of mask_rcnn_coco.h5 and of MTL_MRCNN's file."""
    config = replace(
        theirs.Config(),
        depth=depth,
        num_classes=2 if attributes else 81,
        top_down_pyramid_size=256,
        fc_layers_size=1024,
        attributes=attributes,
    )
    state = blank(config)
    sizes = names.guess_sizes(state, True)
    assert (sizes.depth, sizes.classes) == (depth, config.num_classes)
    assert names.model_shapes(sizes) == {key: tensor.shape for key, tensor in state.items()}
    if not attributes:
        # matterport's own model with ResNet-101 has 64,158,584 parameters, including statistics.
        count = sum(tensor.size for tensor in state.values())
        assert count == {50: 45_088_120, 101: 64_158_584}[depth]


def test_every_tensor_of_ours_comes_from_the_file():
    sizes = names.guess_sizes(blank(HEADS), True)
    config = matterport_config(sizes, 128, 128, anchor_ratios=HEADS.rpn_anchor_ratios)
    setup = Setup.build(resolve(config), coco_used_categories()[:1])
    batch = random_batch(images=1, size=128)
    variables = jax.eval_shape(setup.model.init, jax.random.key(0), batch.inputs)
    expected = {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    found = names.to_variables(blank(HEADS), sizes, lambda key: False)
    assert {path: tensor.shape for path, tensor in found.items()} == expected


def test_unexpected_missing_and_misshapen_tensors_are_listed():
    state = blank(theirs.Config())
    del state["rpn_bbox_pred/bias"]
    state["fpn_p3/bias"] = np.zeros(3, np.float32)
    state |= {"extra/kernel": np.zeros(1), "ema/decay": np.zeros(1)}
    sizes = names.guess_sizes(state, True)
    with pytest.raises(UserError) as error:
        names.to_variables(state, sizes, lambda key: key.startswith("ema"))
    check_faults(
        str(error.value).splitlines()[1:],
        ("extra/kernel",),
        ("rpn_bbox_pred/bias",),
        ("fpn_p3/bias", (3,), (64,)),
    )


def test_models_of_another_kind_are_refused_in_one_line():
    state = blank(theirs.Config())
    no_pyramid = {key: value for key, value in state.items() if "fpn" not in key}
    short = {key: value for key, value in state.items() if not key.startswith("res4f")}
    many = blank(replace(HEADS, num_classes=5))
    for weights, named in (
        (no_pyramid, ["fpn_p2"]),
        (state | {"conv1/kernel": np.zeros(3)}, ["conv1"]),
        (state | {"mrcnn_class_logits/kernel": np.zeros((128, 1))}, ["mrcnn_class_logits"]),
        (short, [(3, 4, 5, 3)]),
        (many, [4, "--unused"]),
    ):
        with refused(*named):
            names.guess_sizes(weights, True)
    assert names.guess_sizes(many, attributes=False).attribute_channels == 0


def test_a_model_without_masks_and_one_of_other_anchors():
    state = {k: v for k, v in blank(theirs.Config()).items() if not k.startswith("mrcnn_mask")}
    sizes = names.guess_sizes(state, True)
    assert not matterport_config(sizes, 128, 128).model.mask_head.enabled
    with refused(3, "--anchor-ratios"):
        matterport_config(sizes, 128, 128, anchor_ratios=(1.0, 2.0))
    with refused("--max-size", 100):
        matterport_config(sizes, 100, 100)


def test_81_classes_are_cocos_in_order():
    found = coco_used_categories()
    assert len(found) == 80
    assert [(c.id, c.name) for c in (found[0], found[11], found[79])] == [
        (1, "person"),
        (13, "stop sign"),
        (90, "toothbrush"),
    ]


@pytest.mark.slow
def test_class_names_are_cocos_or_those_of_a_file(tmp_path):
    small = replace(theirs.Config(), top_down_pyramid_size=8, fc_layers_size=8, image_size=64)
    (tmp_path / "names.txt").write_text("cat\ndog\nfox\n")
    named = ("--class-names", str(tmp_path / "names.txt"))
    for classes, options, second in ((81, (), (2, "bicycle")), (4, named, (2, "dog"))):
        folder = tmp_path / second[1]
        folder.mkdir()
        weights = theirs.random_weights(replace(small, num_classes=classes))
        run = convert(folder, weights, 64, *options)
        assert len(run.categories) == classes - 1
        assert run.categories[1] == second
    weights = theirs.random_weights(replace(small, num_classes=6))
    with refused(tmp_path / "names.txt", 3, 5):
        convert(tmp_path, weights, 64, *named)


LAYERS = {
    "conv1": {"kernel": np.ones((7, 7, 3, 2), np.float32), "bias": np.zeros(2, np.float32)},
    "rpn_conv_shared": {"kernel": np.ones((3, 3, 2, 2), np.float32)},
}
KEYS = {"conv1/kernel", "conv1/bias", "rpn_conv_shared/kernel"}


def test_files_of_whole_models_and_with_numbered_scopes_are_read(tmp_path):
    theirs.write_weights(tmp_path / "weights.h5", LAYERS)
    assert read_keras(tmp_path / "weights.h5").keys() == KEYS
    theirs.write_weights(tmp_path / "model.h5", LAYERS, top="model_weights")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file["optimizer_weights/iterations:0"] = 3
    assert read_keras(tmp_path / "model.h5").keys() == KEYS
    with h5py.File(tmp_path / "numbered.h5", "w") as file:
        file["conv1/conv1_3/kernel:0"] = LAYERS["conv1"]["kernel"]
        file["rpn_model/rpn_conv_shared_3/kernel:0"] = np.ones(2, np.float16)
    found = read_keras(tmp_path / "numbered.h5")
    assert found.keys() == {"conv1/kernel", "rpn_conv_shared/kernel"}
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}


def test_truncated_and_invalid_files_are_refused_in_one_line(tmp_path):
    theirs.write_weights(tmp_path / "weights.h5", LAYERS)
    whole = (tmp_path / "weights.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "text.h5").write_text("weights")
    for name, content in (
        ("whole_numbers.h5", np.arange(3)),
        ("strings.h5", np.array([b"text"], object)),
        ("nothing.h5", h5py.Empty("f4")),
    ):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset(
                "conv1/conv1/kernel:0",
                data=content,
                dtype=(h5py.string_dtype() if name == "strings.h5" else None),
            )
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("conv1/conv1/kernel:0", (2**40,), "f4", chunks=(2**20,))
    with h5py.File(tmp_path / "loose.h5", "w") as file:
        file["kernel:0"] = np.ones(2, np.float32)
    with h5py.File(tmp_path / "twice.h5", "w") as file:
        file["conv1/a/kernel:0"] = file["conv1/b/kernel:0"] = np.ones(2, np.float32)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file.create_group("conv1")
    with h5py.File(tmp_path / "no_group.h5", "w") as file:
        file["model_weights"] = np.ones(2, np.float32)
    for name in (
        *("cut", "empty", "text", "whole_numbers", "strings", "nothing", "huge", "loose", "twice"),
        *("none", "no_group", "absent"),
    ):
        with refused(tmp_path / f"{name}.h5"):
            read_keras(tmp_path / f"{name}.h5")


def test_a_hostile_file_cannot_read_other_files(tmp_path, monkeypatch):
    """Links and storage that HDF5 would follow to other files, and cycles."""
    monkeypatch.chdir(tmp_path)
    secret = np.arange(4, dtype=np.float32)
    with h5py.File("secret.h5", "w") as file:
        file["conv1/kernel:0"] = file["numbers"] = secret
    secret.tofile("secret.bin")
    with h5py.File("link.h5", "w") as file:
        file["conv1"] = h5py.ExternalLink("secret.h5", "/conv1")
    with h5py.File("absent_link.h5", "w") as file:
        file["conv1"] = h5py.ExternalLink("absent.h5", "/conv1")
    with h5py.File("linked_weights.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("secret.h5", "/")
    with h5py.File("soft.h5", "w") as file:
        file["conv1/kernel:0"] = h5py.SoftLink("/dense/kernel:0")
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "numbers", (4,))
    with h5py.File("virtual.h5", "w") as file:
        file.create_virtual_dataset("conv1/kernel:0", layout)
    with h5py.File("external.h5", "w") as file:
        file.create_dataset("conv1/kernel:0", (4,), "f4", external=[("secret.bin", 0, 16)])
    with h5py.File("circle.h5", "w") as file:
        group = file.create_group("conv1")
        group["again"] = file["/"]
    with h5py.File("virtual.h5") as file:  # h5py itself would read it
        np.testing.assert_array_equal(file["conv1/kernel:0"], secret)
    for name, member in (
        ("link", "conv1"),
        ("absent_link", "conv1"),
        ("linked_weights", "model_weights"),
        ("soft", "kernel:0"),
        ("virtual", "conv1/kernel:0"),
        ("external", "conv1/kernel:0"),
        ("circle", "again"),
    ):
        with refused(f"{name}.h5", member):
            read_keras(f"{name}.h5")


def test_the_command_reports_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs.write_weights("weights.h5", LAYERS)
    with refused("weights.h5"):
        main(["matterport", "weights.h5", "--workdir", "run"])
    with refused("--anchor-sizes"):
        main(["matterport", "weights.h5", "--workdir", "run", "--anchor-sizes", "32"])
    assert not (tmp_path / "run").exists()


def test_a_small_file_that_declares_gigabytes_is_refused_in_a_moment(tmp_path):
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        file.create_dataset("conv1/conv1/kernel:0", (975_000_000,), "f4", chunks=(2**20,))
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        data = np.zeros(20_000_000, np.float32)
        file.create_dataset("conv1/conv1/kernel:0", data=data, compression="gzip")
    start = time.process_time()
    for file in ("zeros.h5", "packed.h5"):
        with refused(tmp_path / file, "conv1/conv1/kernel:0"):
            read_keras(tmp_path / file)
    assert time.process_time() - start < 10
