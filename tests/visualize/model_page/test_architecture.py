"""The drawing of a network names all heads with their numbers of parameters."""

import re

import numpy as np

from mtl_jax.visualize.model_page.architecture import architecture_svg


def test_each_head_is_drawn():
    stages = ("stem", "stage2", "stage3", "stage4", "stage5")
    maps = {f"backbone/{stage}": np.zeros((1, 8, 8, 4)) for stage in stages}
    maps |= {f"fpn/{level}": np.zeros((1, 8, 8, 4)) for level in range(5)}
    arrays = {
        "box_head/fc1/kernel": np.zeros(11),
        "attribute_head/age_output/kernel": np.zeros(12),
        "dense_head_points/deconv/kernel": np.zeros(13),
    }
    drawn = architecture_svg((32, 32, 3), maps, arrays, ("age", "points"))
    texts = re.findall(r">([^<>]+)</text>", drawn)
    for name, numbers, output in (
        ("box_head", "11 parameters", "classes and boxes"),
        ("attribute_head", "12 parameters", "age"),
        ("dense_head_points", "13 parameters", "points"),
    ):
        start = texts.index(name)
        assert texts[start + 1 : start + 3] == [numbers, output]
    assert "mask_head" not in texts
