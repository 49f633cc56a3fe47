"""The fusion of a ResNet's stages against PyTorch, stage by stage."""

import jax
import numpy as np
import pytest

from mtl_jax.layers.resnet_fusion import ResNetFusion

torch = pytest.importorskip("torch")
tf = torch.nn.functional
RNG = np.random.default_rng(0)


def test_each_stage_is_halved_widened_and_added_to_the_next():
    sizes = ((4, 9), (6, 5), (8, 3))  # channels and sides
    stages = [RNG.normal(size=(2, n, n, c)).astype(np.float32) for c, n in sizes]
    layer = ResNetFusion(norm="none", norm_eps=1e-5, train=False)
    valid = np.ones(2, bool)
    variables = layer.init(jax.random.key(0), stages, valid)
    params = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), variables)
    convs = {name: value for name, value in params["params"].items() if name.startswith("conv")}
    assert set(convs) == {"conv3_3x3", "conv3_1x1", "conv4_3x3", "conv4_1x1"}

    def conv(x, name, stride, padding):
        kernel = torch.tensor(convs[name]["kernel"]).permute(3, 2, 0, 1)
        return tf.relu(tf.conv2d(x, kernel, torch.tensor(convs[name]["bias"]), stride, padding))

    maps = [torch.tensor(x).permute(0, 3, 1, 2) for x in stages]
    for i in (1, 2):
        small = conv(maps[i - 1], f"conv{i + 2}_3x3", 2, 1)
        maps[i] = maps[i] + conv(small, f"conv{i + 2}_1x1", 1, 0)
    found = layer.apply(params, stages, valid)
    np.testing.assert_allclose(found, maps[2].permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
