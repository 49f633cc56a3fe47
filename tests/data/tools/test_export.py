"""Drawn scenes, written as a COCO file and read again."""

import numpy as np
from mistakes import refused

from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.__main__ import main
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.segmentation import to_mask
from mtl_jax.data.synthetic.head_scenes import ATTRIBUTES, SyntheticSource
from mtl_jax.images.decode import decode


def test_written_scenes_are_read_as_they_were_drawn(tmp_path):
    arguments = ["export", "synthetic", "--output", str(tmp_path), "--count", "3", "--seed", "5"]
    assert main([*arguments, "--size", "96"]) == 0
    attributes = from_config(ATTRIBUTES)
    read = CocoSource(tmp_path / "annotations.json", tmp_path / "images", attributes)
    drawn = SyntheticSource(3, 5, (96, 96), texture_seed=5, attributes=attributes)
    for position in range(3):
        there, here = drawn[position], read[position]
        np.testing.assert_array_equal(decode(here.image), there.image)
        assert len(here.instances) == len(there.instances)
        for a, b in zip(here.instances, there.instances, strict=True):
            np.testing.assert_allclose(a.box, b.box)
            np.testing.assert_array_equal(to_mask(a.segmentation, 96, 96), b.segmentation)
            for attribute in attributes:
                ours, theirs = (x.label_of(attribute) for x in (a, b))
                np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
                np.testing.assert_array_equal(ours[1], theirs[1])


def test_scenes_that_cannot_be_drawn_are_one_line(tmp_path):
    arguments = ["export", "synthetic", "--output", str(tmp_path / "scenes"), "--head-heights"]
    with refused("head_heights"):
        main([*arguments, "0.9", "0.5"])
    assert not (tmp_path / "scenes").exists()
    assert main([*arguments, "0.8", "0.9", "--heads", "1", "1", "--count", "2"]) == 0
    read = CocoSource(tmp_path / "scenes/annotations.json", tmp_path / "scenes/images")
    assert [len(read[i].instances) for i in range(2)] == [1, 1]
