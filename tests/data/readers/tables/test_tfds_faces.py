"""300W-LP and AFLW2000-3D of TensorFlow Datasets, made by the test with its builders' features."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from annotated import labels_of, open_format
from faces import AT, DECLARED, LABELS, ibug
from mistakes import check_names, refused

from mtl_jax.errors import UserError

SIDE = 450
POINTS = ibug((200, 200), 150)
RADIANS = np.radians([10.0, -20.0, 30.0])


class Faces(tfds.core.GeneratorBasedBuilder):
    """A data set with the records `labels`."""

    VERSION = tfds.core.Version("1.0.0")
    labels: tuple[dict, ...] = ()

    def _info(self):
        tensor = tfds.features.Tensor
        features = {
            name: tensor(shape=value.shape, dtype=np.float32)
            for name, value in self.labels[0].items()
        }
        features["image"] = tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg")
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        for i, labels in enumerate(self.labels):
            as_floats = {name: value.astype(np.float32) for name, value in labels.items()}
            yield i, {"image": image, **as_floats}


class The300wLp(Faces):
    """The fields of `the300w_lp` that are read; two records show one photograph."""

    labels = tuple(
        {
            "landmarks_origin": POINTS / SIDE,
            "landmarks_2d": np.zeros((68, 2)),
            "pose_params": np.array([*RADIANS, 0, 0, 0, 0]),
            "shape_params": np.full(199, shape),
        }
        for shape in (1.5, 2.5, 1.5)
    )


class Aflw2k3d(Faces):
    """The fields of `aflw2k3d`; the points of the second record are far outside the image."""

    labels = tuple(
        {"landmarks_68_3d_xy_normalized": points / SIDE, "landmarks_68_3d_z": np.zeros((68, 1))}
        for points in (POINTS, POINTS * 9)
    )


class Degrees(Faces):
    labels = ({**The300wLp.labels[0], "pose_params": np.full(7, 40.0)},)


def prepare(kind, folder: Path) -> str:
    builder = kind(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return f"{builder.data_path}:train"


def test_the_300w_lp(tmp_path):
    source = open_format("tfds_faces", Path(), LABELS, path=prepare(The300wLp, tmp_path))
    record = source[0]
    assert (len(source), record.width, record.exhaustive) == (3, SIDE, False)
    (face,) = record.instances
    expected = {"pitch": 10, "yaw": -20, "roll": 30}
    labels = labels_of(face, DECLARED)
    assert labels["head"] == pytest.approx(expected, abs=1e-4)
    points = labels["face"]
    np.testing.assert_allclose(points[AT["nose_center"]], POINTS[30], atol=1e-3)
    assert points[AT["left_ear"]] is None
    groups = [source.group(i) for i in range(3)]
    assert len(set(groups)) == 2  # the records are shuffled


def test_aflw2000(tmp_path):
    path = prepare(Aflw2k3d, tmp_path)
    source = open_format("tfds_faces", Path(), LABELS, path=path)
    assert source.group(0) != source.group(1)
    found = []
    for i in range(2):
        try:
            found.append(source[i].instances[0].attributes)
        except UserError as error:
            check_names(error, f"{path} {i}", 1125, 1665, SIDE)  # a point, and the image's side
    assert [set(labels) for labels in found] == [{"face"}]


def test_mistakes_are_one_line(tmp_path):
    path = prepare(Degrees, tmp_path)
    source = open_format("tfds_faces", Path(), LABELS, path=path)
    with refused(f"{path} 0", "pose_params", 40):
        source[0]
    with refused("mnist:train", "aflw2k3d", "the300w_lp"):
        open_format("tfds_faces", Path(), LABELS, path="mnist:train", data_dir=str(tmp_path))
    with refused("the300w_lp", "coco/2017:train"):
        open_format("tfds_faces", Path(), LABELS, path="the300w_lp")
    block = dict(path="the300w_lp:train", data_dir=str(tmp_path / "none"))
    with refused(tmp_path / "none", "tfds.builder('the300w_lp')"):
        open_format("tfds_faces", Path(), LABELS, **block)
