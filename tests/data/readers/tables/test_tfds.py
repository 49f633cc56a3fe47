"""TensorFlow Datasets: a data set of the test, mocks of COCO and VOC, and messages for others."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from annotated import labels_of, open_format
from mistakes import refused
from tensorflow_datasets.testing.mocking import RandomFakeGenerator

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.loader import pipeline
from mtl_jax.data.readers.format import Labels
from mtl_jax.images.resize import ResizeOptions

OBJECTS = {
    "bbox": tfds.features.BBoxFeature(),
    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    "coat": tfds.features.ClassLabel(names=["plain", "tabby"]),
    "age": np.float32,
    "is_crowd": np.bool_,
}


class Pets(tfds.core.GeneratorBasedBuilder):
    """Three images; the third has no objects."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(OBJECTS),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            image = np.full((40 + 10 * i, 60, 3), 50 * i, np.uint8)
            box = tfds.features.BBox(ymin=0.25, xmin=0.5, ymax=0.75, xmax=1.0)
            pet = dict(bbox=box, label=i, coat="tabby", age=2.5, is_crowd=i == 1)
            yield (
                i,
                {
                    "image": image,
                    "image/filename": f"{i}.png",
                    "objects": [pet] if i < 2 else [],
                },
            )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    builder = Pets(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_path)


def by_name(source):
    records = [source[i] for i in range(len(source))]
    return {record.file_name: record for record in records}


def test_a_prepared_data_set_is_read(made):
    source = open_format("tfds", Path(), path=f"{made}:train")
    assert [tuple(category) for category in source.categories] == [(0, "cat"), (1, "dog")]
    records = by_name(source)
    assert set(records) == {"0.png", "1.png", "2.png"}
    first, second = records["0.png"].instances[0], records["1.png"].instances[0]
    assert (records["0.png"].height, records["0.png"].width) == (40, 60)
    assert (first.box, first.label, first.crowd) == ((30, 10, 60, 30), 1, False)
    assert (second.box, second.label, second.crowd) == ((30, 12.5, 60, 37.5), 2, True)
    assert records["2.png"].instances == ()


def test_labels_are_read_by_their_names(made):
    declared = attribute_kinds.from_config(
        {
            "coat": dict(kind="categorical", classes=("tabby", "plain")),
            "age": dict(kind="continuous", range=(0, 20)),
        }
    )
    source = open_format("tfds", Path(), Labels(declared), path=f"{made}:train")
    records = by_name(source)
    labels = labels_of(records["0.png"].instances[0], declared)
    assert labels == {"coat": "tabby", "age": 2.5}
    first = next(name for name, record in records.items() if record.instances)
    wrong = attribute_kinds.from_config({"age": dict(kind="continuous", range=(0, 1))})
    with refused(f"{made}:train", first, "age", 2.5):
        by_name(open_format("tfds", Path(), Labels(wrong), path=f"{made}:train"))


def test_classes_can_be_selected(made):
    source = open_format("tfds", Path(), path=f"{made}:train", categories=("dog",))
    assert [tuple(category) for category in source.categories] == [(1, "dog")]
    assert [len(by_name(source)[f"{i}.png"].instances) for i in range(3)] == [0, 1, 0]


def test_its_records_are_batched(made):
    source = open_format("tfds", Path(), path=f"{made}:train")
    options = DataOptions(resize=ResizeOptions("square", 64, 64, ((64, 64),)), max_instances=2)
    (batch,) = pipeline.eval_batches(source, (), options, batch_size=3)
    assert batch.valid.all()
    assert sorted(batch.gt.valid.sum(1).tolist()) == [0, 0, 1]
    assert batch.gt.ignored.any((1, 2)).sum() == 1  # the difficult one
    assert sorted(np.unique(image).max() for image in batch.images) == [0, 50, 100]


def fake_records(builder, split, decoders=None):
    """Return random records of a data set with ten objects each. In the mock's own records, the
    sequences of an object's fields have different lengths.
    """
    assert set(decoders) == {"image"}
    records = RandomFakeGenerator(builder.info.features, 4, constant_dynamic_shape=True)
    return [{**record, "image": encode_png(record["image"])} for record in records]


def encode_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "classes"), [("coco/2017:validation", 80), ("voc/2007:train", 20)]
)
def test_mocked_data_sets_are_read(name, classes, caplog):
    with tfds.testing.mock_data(as_data_source_fn=fake_records):
        source = open_format("tfds", Path(), path=name)
        assert len(source.categories) == classes
        with caplog.at_level(logging.ERROR):
            records = [source[i] for i in range(4)]
    assert any(record.instances for record in records)
    for record in records:
        for instance in record.instances:
            x1, y1, x2, y2 = instance.box
            assert 0 <= x1 < x2 <= record.width
            assert 0 <= y1 < y2 <= record.height
            assert 1 <= instance.label <= classes


def test_mistakes_are_one_line(made, tmp_path):
    named = {
        "coco": ("'coco'", "coco/2017:train"),
        "no_such_set:train": ("no_such_set",),
        "mnist:train": ("mnist:train", "bbox", "image", "label"),
        f"{made}:test": (made, "test", "train"),
    }
    for path, parts in named.items():
        with refused(*parts):
            open_format("tfds", Path(), path=path, data_dir=str(tmp_path))
    with refused(tmp_path, "tfds.builder('coco/2017')"):
        open_format("tfds", Path(), path="coco/2017:train", data_dir=str(tmp_path))
    with refused(f"{made}:train", "cow", "cat", "dog"):
        open_format("tfds", Path(), path=f"{made}:train", categories=("cow",))


def test_other_file_formats_are_refused_with_the_command_that_converts_them(tmp_path):
    builder = Pets(data_dir=tmp_path, file_format="tfrecord")
    builder.download_and_prepare()
    with refused(builder.data_path, "tfds.builder('pets', data_dir=NEW)"):
        open_format("tfds", Path(), path=f"{builder.data_path}:train")
