"""FairFace: the rows of the table, and faults of all faulty rows."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import check_lines, labels_of
from mistakes import check_names, refused
from real_data import data_set

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.attributes.vocabulary import GENDERS, RACES
from mtl_jax.config.options.data import DataOptions, SourceOptions
from mtl_jax.data.datasets.sources import open_split
from mtl_jax.data.loader.pipeline import eval_batches
from mtl_jax.data.readers.faces import fairface
from mtl_jax.data.readers.faces.fairface import AGES, FairFaceSource
from mtl_jax.errors import AnnotationErrors
from mtl_jax.images.resize import ResizeOptions

HEAD = "file,age,gender,race,service_test\n"
GOOD = "val/1.jpg,3-9,Male,East Asian,False\nval/2.jpg,more than 70,Female,Latino_Hispanic,True\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val").mkdir()
    for i in (1, 2):
        cv2.imwrite(str(tmp_path / f"val/{i}.jpg"), np.zeros((224, 224, 3), np.uint8))
    return tmp_path


def test_rows_are_labels(folder: Path):
    (folder / "fairface_label_val.csv").write_text(HEAD + GOOD)
    declared = attribute_kinds.from_config(
        {
            "age": {"kind": "continuous", "range": (0, 116)},
            "gender": {"kind": "categorical", "classes": ("male", "female")},
        }
    )
    source = FairFaceSource(folder, declared)
    first, second = source[0].instances[0], source[1].instances[0]
    assert labels_of(first, declared) == {"age": [3, 9], "gender": "male"}
    assert labels_of(second, declared) == {"age": [70, 116], "gender": "female"}
    assert first.attributes.keys() == second.attributes.keys() == {"age", "gender"}
    assert first.box == (0, 0, 224, 224)
    labels = labels_of(FairFaceSource(folder, FAIRFACE)[1].instances[0], FAIRFACE)
    assert labels["race"] == "Latino_Hispanic"
    assert labels["age_group"] == "more than 70"


FAIRFACE = attribute_kinds.from_config(
    {
        "age": {"kind": "continuous", "range": (0, 116)},
        "age_group": {"kind": "ordinal", "classes": tuple(AGES)},
        "gender": {"kind": "categorical", "classes": GENDERS},
        "race": {"kind": "categorical", "classes": fairface.RACES},
    }
)
UTKFACE = attribute_kinds.from_config(
    {
        "age": {"kind": "continuous", "range": (0, 116), "loss": "coral"},
        "gender": {"kind": "categorical", "classes": GENDERS},
        "race": {"kind": "categorical", "classes": RACES},
    }
)


def test_a_preset_maps_races_to_utkfaces(folder: Path):
    (folder / "fairface_label_val.csv").write_text(HEAD + GOOD)
    source = FairFaceSource(folder, UTKFACE, preset="utkface")
    races = [labels_of(source[i].instances[0], UTKFACE)["race"] for i in range(2)]
    assert races == ["Asian", "Others"]
    with refused(folder, 2, "val/1.jpg", "race", "East Asian", *RACES, "config.attributes"):
        FairFaceSource(folder, UTKFACE)
    with refused("attribute_preset", "utkfase", "mtl_mrcnn", "utkface"):
        FairFaceSource(folder, UTKFACE, preset="utkfase")
    own = attribute_kinds.from_config(
        {"race": {"kind": "categorical", "classes": ("East Asian", "Latino_Hispanic")}}
    )
    source = FairFaceSource(folder, own, preset="utkface")
    races = [labels_of(source[i].instances[0], own)["race"] for i in range(2)]
    assert races == ["East Asian", "Latino_Hispanic"]


def test_a_block_renames_the_classes_of_an_attribute(folder: Path):
    (folder / "fairface_label_val.csv").write_text(HEAD + GOOD)
    declared = {"looks": {"kind": "categorical", "classes": ("east", "other")}}
    renamed = {"East Asian": "east", "Latino_Hispanic": ""}
    block = dict(
        format="fairface",
        path=str(folder),
        split="train",
        attribute_keys={"looks": ("race", renamed)},
    )
    options = SourceOptions(sources=(block,))
    attributes = attribute_kinds.from_config(declared)
    (source,) = open_split(options, attributes, "train").sources
    labels = [labels_of(source[i].instances[0], attributes) for i in range(2)]
    assert labels == [{"looks": "east"}, {}]
    renamed["Latino_Hispanic"] = "west"
    with refused(folder, "val/2.jpg", "looks", "west", "east", "other"):
        open_split(options, attributes, "train")


def test_an_age_range_is_trained_as_an_interval(folder: Path):
    """Both ends of the range are in the batch that the loss receives, and not their mean."""
    (folder / "fairface_label_val.csv").write_text(HEAD + GOOD)
    source = FairFaceSource(folder, UTKFACE, preset="utkface")
    resize = ResizeOptions(mode="square", min_size=32, max_size=32, canvases=((32, 32),))
    data = DataOptions(resize=resize, max_instances=1, mask_size=1)
    batch = next(eval_batches(source, UTKFACE, data, batch_size=2))
    ages = batch.gt.attributes["age"]
    assert ages.values[:, 0].tolist() == [[3, 9], [70, 116]]
    assert ages.known.all()
    assert batch.gt.attributes["race"].values[:, 0].tolist() == [[2], [4]]


def test_faulty_rows_are_reported_together_or_skipped(folder: Path):
    rows = (
        "val/3.jpg,3-9,Male,White,False\nval/1.jpg,3-8,Male,White,False\nval/2.jpg,3-9,,White,x\n"
    )
    path = folder / "fairface_labels.csv"
    path.write_text(HEAD + GOOD + rows)
    with pytest.raises(AnnotationErrors) as caught:
        FairFaceSource(folder)
    named = (4, "val/3.jpg"), (5, "val/1.jpg", "age", "3-8"), (6, "val/2.jpg", "gender")
    check_lines(caught.value.faults, path, *named)
    source = FairFaceSource(folder, on_error="skip")
    assert (len(source), len(source.skipped)) == (2, 3)


def test_missing_and_invalid_tables_are_refused(folder: Path):
    with refused(folder, "fairface*.csv", "annotations"):
        FairFaceSource(folder)
    (folder / "fairface.csv").write_text("a,b\n1,2\n")
    with refused(folder / "fairface.csv", "file", "age", "gender", "race") as caught:
        FairFaceSource(folder)
    check_names(str(caught.value).partition(";")[0], "file")
    with refused(folder / "other.csv"):
        FairFaceSource(folder, annotations="other.csv")


def test_the_real_folder():
    source = FairFaceSource(data_set("fairface"), FAIRFACE)
    assert len(source) == 3573
    labels = [labels_of(source[i].instances[0], FAIRFACE) for i in range(len(source))]
    assert Counter(label["gender"] for label in labels) == {"male": 1868, "female": 1705}
    assert {tuple(label["age"]) for label in labels} == set(AGES.values())
    assert len({label["race"] for label in labels}) == 7
    assert source[1].file_name == "val/2.jpg"
    assert labels[1]["age"] == [50, 59]
    assert labels[1]["gender"] == "female"
    # Counts of the table: 519 East Asian, 477 Southeast Asian, 527 Latino, 373 Middle Eastern.
    source = FairFaceSource(data_set("fairface"), UTKFACE, preset="utkface")
    faces = [source[i].instances[0] for i in range(len(source))]
    races = Counter(labels_of(face, UTKFACE)["race"] for face in faces)
    assert races == {
        "White": 700,
        "Black": 491,
        "Asian": 519 + 477,
        "Indian": 486,
        "Others": 527 + 373,
    }
