"""ConvNeXt-T beside torchvision's, and what does not depend on padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.convert.torchvision_names import backbone_tensors, to_state_dict, to_variables
from mtl_jax.layers.convnext import Block, ConvNeXtTiny
from mtl_jax.ops.convolution import depthwise_conv

TENSORS = list(backbone_tensors(BackboneOptions(name="convnext_tiny")))


@pytest.mark.slow
def test_feature_maps_are_torchvisions_and_weights_go_back_to_the_bit():
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = models.convnext_tiny(weights=None).eval()
    for name, parameter in theirs.named_parameters():
        # At their initial values a layer scale of 1e-6 would hide what a block computes, and a
        # bias or a norm would do nothing.
        if name.endswith("layer_scale") or parameter.ndim == 1:
            mean = 0.0 if name.endswith("bias") else 1.0
            torch.nn.init.normal_(parameter, mean, 0.1)
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    found = to_variables(state, TENSORS)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 64, 96, 3)).astype(np.float32)
    params = unflatten_dict(found, sep="/")["params"]
    variables = {"params": params["backbone"]}
    maps = jax.jit(ConvNeXtTiny(train=False).apply)(variables, images, np.ones((1, 64, 96), bool))
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    expected = []
    with torch.no_grad():
        for i, part in enumerate(theirs.features):
            x = part(x)
            if i % 2:
                expected.append(x.numpy().transpose(0, 2, 3, 1))
    assert len(maps) == len(expected) == 4
    for stride, ours, wanted in zip(ConvNeXtTiny.strides, maps, expected, strict=True):
        assert ours.shape[1:3] == (64 // stride, 96 // stride)
        assert np.abs(ours - wanted).max() <= 1e-4 * np.abs(wanted).max()
    back = to_state_dict(found, TENSORS)
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)


def test_padding_changes_no_feature_map():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 48, 48, 3)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, 16), (0, 48), (0, 0)))
    inside = np.pad(np.ones((1, 48, 48), bool), ((0, 0), (0, 16), (0, 48)))
    network = ConvNeXtTiny(train=False)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image, inside[:, :48, :48])
    variables = jax.tree.map(lambda s: rng.normal(0, 0.1, s.shape).astype(np.float32), shapes)
    apply = jax.jit(network.apply)
    alone = apply(variables, image, inside[:, :48, :48])
    for part, whole in zip(alone, apply(variables, padded, inside), strict=True):
        height, width = part.shape[1:3]
        scale = np.abs(part).max()
        np.testing.assert_allclose(whole[:, :height, :width] / scale, part / scale, atol=1e-5)
        assert not np.asarray(whole)[:, height:].any()
        assert not np.asarray(whole)[:, :, width:].any()


def small_block(rate=0.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, 8, 4)).astype(np.float32)
    inside = np.broadcast_to(np.arange(6)[:, None] < 4, (64, 6, 8))
    layer = Block(rate)
    variables = layer.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, inside)
    scaled = {**variables["params"], "layer_scale": jnp.ones(4)}
    return layer, {"params": scaled}, np.where(inside[..., None], x, 0), inside


def test_a_block_sees_only_what_is_inside_and_is_zero_beyond():
    layer, variables, x, inside = small_block()
    whole = layer.apply(variables, x, inside)
    cut = layer.apply(variables, x[:, :4], inside[:, :4])
    np.testing.assert_allclose(whole[:, :4], cut, atol=1e-5)
    assert not np.asarray(whole)[:, 4:].any()


def test_stochastic_depth_leaves_out_whole_images_and_keeps_the_mean():
    layer, variables, x, inside = small_block(rate=0.5)
    plain = np.asarray(Block(0.0).apply(variables, x, inside)) - x
    found = np.asarray(layer.apply(variables, x, inside, rngs={"dropout": jax.random.key(2)})) - x
    dropped = np.abs(found).max((1, 2, 3)) < 1e-6
    assert 16 < dropped.sum() < 48
    np.testing.assert_allclose(found[~dropped], 2 * plain[~dropped], rtol=1e-3, atol=1e-4)


def test_a_depthwise_convolution_and_its_gradient_are_the_plain_ones():
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, 6, 7, 3), (5, 5, 3)))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel[:, :, None], (1, 1), ((2, 2), (2, 2)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3,
        )  # fmt: skip

    for f in (depthwise_conv, jax.jit(depthwise_conv)):
        np.testing.assert_allclose(f(x, kernel), plain(x, kernel), rtol=1e-5, atol=1e-5)
    grads = [
        jax.grad(lambda x, k, f=f: (f(x, k) ** 3).sum(), argnums=(0, 1))(x, kernel)
        for f in (depthwise_conv, plain)
    ]
    for ours, wanted in zip(*grads, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-2)


def test_a_depthwise_convolution_of_bfloat16_is_summed_in_float32():
    x, kernel = jnp.full((1, 7, 7, 1), 1.0, jnp.bfloat16), jnp.full((7, 7, 1), 1 / 3, jnp.bfloat16)
    kernel = kernel.at[0, 0].set(64)
    exact = np.asarray(kernel, np.float64).sum()
    found = depthwise_conv(x, kernel)
    assert found.dtype == jnp.bfloat16
    assert found[0, 3, 3, 0] == jnp.bfloat16(exact)
    gradient = jax.grad(lambda k: depthwise_conv(jnp.tile(x, (1, 40, 40, 1)), k).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient[3, 3, 0] == jnp.bfloat16(280 * 280)
