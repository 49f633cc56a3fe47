"""Layers against independent computations: NumPy loops, and torchvision's whole backbone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.layers.attribute_head import AttributeHead
from mtl_jax.layers.fpn import Fpn
from mtl_jax.layers.norm import Norm
from mtl_jax.layers.resnet import ResNet, Stem
from mtl_jax.layers.roi_heads import BoxHead, Deconv, MaskHead
from mtl_jax.layers.rpn import RpnHead

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_deconvolution_spreads_each_cell_over_a_square_of_four():
    x = normal(2, 3, 4, 5)
    layer = Deconv(6)
    variables = layer.init(jax.random.key(0), x)
    kernel, bias = variables["params"]["kernel"], normal(6)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    expected = np.zeros((2, 6, 8, 6), np.float32)
    for r, h, w in np.ndindex(2, 3, 4):
        for i, j in np.ndindex(2, 2):
            expected[r, 2 * h + i, 2 * w + j] = x[r, h, w] @ np.asarray(kernel[i, j]) + bias
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_norm_applies_its_constants_and_has_no_parameters():
    x = normal(2, 3, 3, 4)
    layer = Norm(kind="frozen", train=True, epsilon=1e-3)
    stats = {
        "scale": normal(4),
        "bias": normal(4),
        "mean": normal(4),
        "var": np.abs(normal(4)),
    }
    valid = np.ones(2, bool)
    assert "params" not in layer.init(jax.random.key(0), x, valid)
    expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * stats["scale"] + stats["bias"]
    result = layer.apply({"batch_stats": {"norm": stats}}, x, valid)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_of_a_frozen_part_is_evaluated_in_training():
    x, valid = normal(5, 4, 4, 3), np.ones(5, bool)
    layer = Norm(kind="batch", train=True)
    params = {"norm": {"scale": normal(3), "bias": normal(3)}}
    stats = {"norm": {"mean": normal(3), "var": np.abs(normal(3))}}
    variables = {"params": params, "batch_stats": stats}
    expected = Norm(kind="batch", train=False).apply(variables, x, valid)
    fixed = {**variables, "frozen": {"norm": True}}
    result, updates = layer.apply(fixed, x, valid, mutable=["batch_stats"])
    np.testing.assert_array_equal(result, expected)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], stats)
    assert not np.allclose(layer.apply(variables, x, valid, mutable=["batch_stats"])[0], expected)


def test_batch_statistics_are_of_the_valid_rows_alone():
    x = normal(5, 4, 4, 3)
    valid = np.array([True, False, True, True, False])
    layer = Norm(kind="batch", train=True)
    variables = layer.init(jax.random.key(0), x, valid)
    all_rows, updates = layer.apply(variables, x, valid, mutable=["batch_stats"])
    kept = x[valid]
    expected = (kept - kept.mean((0, 1, 2))) / np.sqrt(kept.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(all_rows[valid], expected, rtol=1e-3, atol=1e-4)
    assert not all_rows[~valid].any()
    np.testing.assert_allclose(
        updates["batch_stats"]["norm"]["mean"], 0.1 * kept.mean((0, 1, 2)), rtol=1e-3, atol=1e-5
    )


def test_a_batch_norm_without_valid_rows_keeps_its_statistics():
    x, none = normal(3, 4, 4, 2), np.zeros(3, bool)
    layer = Norm(kind="batch", train=True)
    stats = {"norm": {"mean": normal(2), "var": np.abs(normal(2))}}
    params = {"norm": {"scale": normal(2), "bias": normal(2)}}

    def total(params, x):
        variables = {"params": params, "batch_stats": stats}
        result, updates = layer.apply(variables, x, none, mutable=["batch_stats"])
        return result.sum(), updates["batch_stats"]

    (value, kept), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)
    assert value == 0
    jax.tree.map(np.testing.assert_array_equal, kept, stats)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))  # and no NaN


@pytest.mark.parametrize("kind", ["batch", "group"])
def test_statistics_are_of_the_cells_inside_alone(kind):
    x, inside = normal(3, 6, 5, 8), np.zeros((3, 6, 5), bool)
    inside[0, :4, :3] = inside[1] = True  # the third image has no cells inside
    layer = Norm(kind=kind, train=True)
    variables = layer.init(jax.random.key(0), x, inside)

    def norm(x, inside):
        return layer.apply(variables, x, inside, mutable=["batch_stats"])[0]

    result = norm(x, inside)
    assert not result[~inside].any()
    np.testing.assert_allclose(norm(np.where(inside[..., None], x, 9), inside), result, atol=1e-5)
    if kind == "group":  # statistics of each image
        cut = norm(x[:1, :4, :3], inside[:1, :4, :3])
        np.testing.assert_allclose(result[:1, :4, :3], cut, atol=1e-5)
    else:
        kept = x[inside]
        expected = (kept - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-5)
        np.testing.assert_allclose(result[inside], expected, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_a_backbone_of_strides_4_to_32(depth, stride_in_1x1):
    layer = ResNet(
        depth=depth,
        width=8,
        norm="batch",
        norm_eps=1e-5,
        stride_in_1x1=stride_in_1x1,
        train=False,
    )
    x, inside = jnp.zeros((1, 70, 96, 3)), jnp.ones((1, 70, 96), bool)
    features, variables = jax.eval_shape(
        lambda: layer.init_with_output(jax.random.key(0), x, inside)
    )
    factor = 4 if depth == 50 else 1
    shapes = [(1, 18, 24), (1, 9, 12), (1, 5, 6), (1, 3, 3)]
    expected = [(*shape, 8 * 2**i * factor) for i, shape in enumerate(shapes)]
    assert [f.shape for f in features] == expected
    assert set(variables["params"]) == {"stem", "stage2", "stage3", "stage4", "stage5"}


def test_resnet_and_pyramid_are_torchvisions():
    """The same weights produce the same five maps, including the odd sizes of a 70 x 90 image."""
    torch = pytest.importorskip("torch")
    backbones = pytest.importorskip("torchvision.models.detection.backbone_utils")
    norm = pytest.importorskip("torchvision.ops.misc").FrozenBatchNorm2d
    torch.manual_seed(0)
    theirs = backbones.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=norm, trainable_layers=5
    )
    for name, tensor in theirs.named_buffers():
        if name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.normal_(0, 0.1)
    state = {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    x = normal(1, 70, 90, 3)
    with torch.no_grad():
        expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).values()

    def conv(name):
        found = {"kernel": state[f"{name}.weight"].transpose(2, 3, 1, 0)}
        return found | ({"bias": state[f"{name}.bias"]} if f"{name}.bias" in state else {})

    def frozen(name):
        keys = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        return {"norm": {ours: state[f"{name}.{key}"] for ours, key in keys.items()}}

    params = {"stem": {"conv1": conv("body.conv1")}}
    stats = {"stem": {"norm1": frozen("body.bn1")}}
    for stage in range(2, 6):
        params[f"stage{stage}"], stats[f"stage{stage}"] = {}, {}
        for block in range(2):
            base = f"body.layer{stage - 1}.{block}"
            names = {"1": ("conv1", "bn1"), "2": ("conv2", "bn2")}
            if f"{base}.downsample.0.weight" in state:
                names["_shortcut"] = ("downsample.0", "downsample.1")
            key = f"block{block + 1}"
            params[f"stage{stage}"][key] = {
                f"conv{ours}": conv(f"{base}.{c}") for ours, (c, _) in names.items()
            }
            stats[f"stage{stage}"][key] = {
                f"norm{ours}": frozen(f"{base}.{n}") for ours, (_, n) in names.items()
            }
    pyramid = {}
    for level in range(2, 6):
        pyramid[f"lateral{level}"] = conv(f"fpn.inner_blocks.{level - 2}.0")
        pyramid[f"output{level}"] = conv(f"fpn.layer_blocks.{level - 2}.0")
    features = ResNet(
        depth=18, width=64, norm="frozen", norm_eps=1e-5, stride_in_1x1=False, train=False
    ).apply({"params": params, "batch_stats": stats}, x, np.ones(x.shape[:3], bool))
    inside = [np.ones(f.shape[:3], bool) for f in features]
    ours = Fpn(channels=256, norm="none", norm_eps=1e-5, train=False).apply(
        {"params": pyramid}, features, inside
    )
    for a, b in zip(ours, expected, strict=True):
        b = b.numpy().transpose(0, 2, 3, 1)
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_rpn_outputs_follow_levels_rows_columns_anchors():
    pyramid = [normal(2, 4, 6, 8), normal(2, 2, 3, 8)]
    head = RpnHead(anchors_per_cell=3, convs=1)
    inside = [np.ones(level.shape[:3], bool) for level in pyramid]
    variables = head.init(jax.random.key(0), pyramid, inside)
    logits, deltas = head.apply(variables, pyramid, inside)
    assert logits.shape == (2, 4 * 6 * 3 + 2 * 3 * 3)
    assert deltas.shape == (*logits.shape, 4)
    fine, _ = head.apply(variables, pyramid[:1], inside[:1])
    np.testing.assert_allclose(logits[:, :72], fine, rtol=1e-5, atol=1e-6)
    changed = [pyramid[0].copy(), pyramid[1]]
    changed[0][:, 0, 0] += 1  # affects only the 3x3 cells around row 0, column 0
    moved = np.flatnonzero(np.abs(head.apply(variables, changed, inside)[0] - logits)[0])
    cells = {index // 3 for index in moved}
    assert cells == {0, 1, 6, 7}


def test_a_mask_is_of_the_requested_class():
    x, valid = normal(3, 4, 4, 8), jnp.ones(3, bool)
    head = MaskHead(num_classes=5, convs=1, channels=8, norm="none", norm_eps=1e-5, train=False)
    variables = head.init(jax.random.key(0), x, jnp.array([0, 0, 0]), valid)
    every = [head.apply(variables, x, jnp.full(3, k), valid) for k in range(5)]
    mixed = head.apply(variables, x, jnp.array([4, 0, 2]), valid)
    assert mixed.shape == (3, 8, 8)
    for row, k in enumerate((4, 0, 2)):
        np.testing.assert_allclose(mixed[row], every[k][row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("convs", [0, 2])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_box_head_of_any_depth(convs, norm):
    head = BoxHead(
        num_classes=4,
        convs=convs,
        conv_channels=8,
        fcs=1,
        fc_features=16,
        norm=norm,
        norm_eps=1e-5,
        train=True,
    )
    x, valid = normal(5, 3, 3, 8), jnp.array([True, True, True, True, False])
    variables = head.init(jax.random.key(0), x, valid)
    (logits, deltas), _ = head.apply(variables, x, valid, mutable=["batch_stats"])
    assert (logits.shape, deltas.shape) == ((5, 4), (5, 4, 4))
    other = x.copy()
    other[4] += 100  # a row that is not valid
    (again, _), _ = head.apply(variables, other, valid, mutable=["batch_stats"])
    np.testing.assert_allclose(again[:4], logits[:4], rtol=1e-5, atol=1e-6)


def test_attribute_heads_have_the_outputs_of_each_attribute():
    sizes = {"age": 1, "face": 42}
    light = AttributeHead(
        outputs=sizes,
        wide=False,
        convs=2,
        channels=8,
        features=16,
        dropout=0.5,
        norm="none",
        norm_eps=1e-5,
        train=True,
    )
    wide = AttributeHead(
        outputs={"pos": 4},
        wide=True,
        convs=3,
        channels=1024,
        features=0,
        dropout=0.0,
        norm="batch",
        norm_eps=1e-5,
        train=False,
    )
    valid = jnp.ones(2, bool)
    pooled = normal(2, 14, 14, 8)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = light.init(rngs, pooled, valid)
    outputs = light.apply(variables, pooled, valid, rngs={"dropout": jax.random.key(2)})
    assert {name: y.shape for name, y in outputs.items()} == {"age": (2, 1), "face": (2, 42)}
    again = light.apply(variables, pooled, valid, rngs={"dropout": jax.random.key(3)})
    assert np.abs(outputs["face"] - again["face"]).max() > 0
    large = jax.ShapeDtypeStruct((2, 28, 28, 256), jnp.float32)
    shapes = jax.eval_shape(wide.init, jax.random.key(0), large, valid)["params"]
    # MTL_MRCNN's head: 3x3, 3x3 and 5x5 to 1024 features; 38.0 M parameters with biases and norms.
    kernels = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert kernels == pytest.approx(38.0e6, rel=0.01)


@pytest.mark.parametrize("side", [15, 16])
def test_the_stems_pooling_can_be_keras_same(side):
    tf = pytest.importorskip("tensorflow")
    x, inside = normal(1, 2 * side, 2 * side, 3), jnp.ones((1, 2 * side, 2 * side), bool)
    stem = Stem(
        features=4, norm="none", norm_eps=1e-5, train=False, dtype=jnp.float32, pool_same=True
    )
    variables = stem.init(jax.random.key(0), x, inside)
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    hidden = tf.nn.relu(tf.nn.conv2d(padded, variables["params"]["conv1"]["kernel"], 2, "VALID"))
    expected = tf.nn.max_pool2d(hidden, 3, 2, "SAME")
    np.testing.assert_allclose(stem.apply(variables, x, inside), expected, atol=1e-4)
    plain = Stem(features=4, norm="none", norm_eps=1e-5, train=False, dtype=jnp.float32).apply(
        variables, x, inside
    )
    # Odd sizes are padded on both sides in both modes.
    assert np.allclose(plain, expected, atol=1e-4) == (side % 2 == 1)


def test_the_rpns_hidden_convolutions_have_the_requested_channels():
    pyramid, inside = [normal(2, 4, 6, 8)], [np.ones((2, 4, 6), bool)]
    for channels, expected in ((0, 8), (12, 12)):
        head = RpnHead(anchors_per_cell=3, convs=2, channels=channels)
        kernels = jax.eval_shape(head.init, jax.random.key(0), pyramid, inside)["params"]
        assert kernels["conv1"]["kernel"].shape == (3, 3, 8, expected)
        assert kernels["conv2"]["kernel"].shape == (3, 3, expected, expected)
        assert kernels["objectness"]["kernel"].shape == (1, 1, expected, 3)
