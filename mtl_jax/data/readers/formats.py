"""The data formats by name: how each is opened, what its block of a config may say, and where to
get the data. A new format is one file with a Source, and an entry here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.readers.annotation_tools.labelme import read_labelme
from mtl_jax.data.readers.annotation_tools.mask_files import read_mask_files
from mtl_jax.data.readers.annotation_tools.via import read_via
from mtl_jax.data.readers.annotation_tools.voc import read_voc
from mtl_jax.data.readers.coco_lists import CocoLists
from mtl_jax.data.readers.faces.aflw import read_aflw
from mtl_jax.data.readers.faces.aflw2000 import read_mats
from mtl_jax.data.readers.faces.biwi import read_biwi
from mtl_jax.data.readers.faces.coco_faces import read_coco_faces
from mtl_jax.data.readers.faces.fairface import FairFaceSource
from mtl_jax.data.readers.faces.hyperface import HyperFaceSource
from mtl_jax.data.readers.faces.ibug import read_pts
from mtl_jax.data.readers.faces.prima import PrimaSource
from mtl_jax.data.readers.faces.utkface import UTKFaceSource
from mtl_jax.data.readers.faces.youtube_faces import read_youtube_faces
from mtl_jax.data.readers.tables.face_csv import FaceCsvSource
from mtl_jax.data.readers.tables.python_source import PythonSource
from mtl_jax.data.records import Source
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.data.synthetic.shapes import ShapesSource
from mtl_jax.errors import UserError

Block = Mapping[str, Any]


class Labels(NamedTuple):
    """What a format is told about labels, and what to do at a fault."""

    attributes: Sequence[Attribute] = ()
    keys: Mapping[str, Any] = {}
    preset: str = ""
    on_error: str = "stop"


@dataclass(frozen=True)
class Format:
    """One way in which data lies on disk, or is made up (then it has no `folders`)."""

    open: Callable[[Path, Block, Labels], Source]
    options: Mapping[str, Any] = field(default_factory=dict)  # a block's keys, with defaults
    folders: tuple[str, ...] = ()  # its usual names below the data root
    origin: str = ""  # where to get it, and under what terms
    people: str = ""  # what its labels of people are, where it has such


def _open_coco(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"])
    images = find_images(folder, annotations, block["images"])
    return _coco_source(annotations, images, block, labels, block["group_key"])


def _coco_source(
    annotations: Path | CocoLists, images: Path, block: Block, labels: Labels, group_key: str = ""
) -> CocoSource:
    return CocoSource(
        annotations,
        images,
        labels.attributes,
        keys=labels.keys,
        preset=labels.preset,
        categories=block.get("categories", ()),
        group_key=group_key,
        on_error=labels.on_error,
    )


def _open_via(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"], (".json", ".csv"))
    images = find_images(folder, annotations, block["images"])
    lists = read_via(annotations, images, block["class_attribute"], block["categories"])
    return _coco_source(lists, images, block, labels)


def _open_labelme(folder: Path, block: Block, labels: Labels) -> Source:
    images = _subfolder(folder, block["images"], ())
    lists = read_labelme(_subfolder(folder, block["annotations"], ()), images)
    return _coco_source(lists, images, block, labels)


def _open_voc(folder: Path, block: Block, labels: Labels) -> Source:
    images = _subfolder(folder, block["images"], ("JPEGImages", "images"))
    return _coco_source(read_voc(folder, block["image_set"]), images, block, labels)


def _open_masks(folder: Path, block: Block, labels: Labels) -> Source:
    images = _subfolder(folder, block["images"], ("PNGImages", "images"))
    masks = _subfolder(folder, block["annotations"], ("PedMasks", "masks"))
    lists = read_mask_files(images, masks, block["categories"])
    return _coco_source(lists, images, block, labels)


def _open_tfds(folder: Path, block: Block, labels: Labels) -> Source:
    del folder
    # With it comes TensorFlow Datasets, which other formats do without.
    from mtl_jax.data.readers.tables.tfds import TfdsSource

    return TfdsSource(
        block["path"],
        labels.attributes,
        data_dir=block["data_dir"],
        keys=labels.keys,
        categories=block["categories"],
    )


def _open_tfds_faces(folder: Path, block: Block, labels: Labels) -> Source:
    del folder
    from mtl_jax.data.readers.tables.tfds_faces import TfdsFaceSource

    return TfdsFaceSource(
        block["path"], labels.attributes, data_dir=block["data_dir"], keys=labels.keys
    )


def _open_python(folder: Path, block: Block, labels: Labels) -> Source:
    del folder, labels
    return PythonSource(Path(block["path"]), block["options"])


def _subfolder(folder: Path, name: str, usual: Sequence[str]) -> Path:
    """Give the folder in `folder` that `name` says; without one a usual one, or `folder` itself."""
    if name:
        return folder / name
    return next((folder / each for each in usual if (folder / each).is_dir()), folder)


def find_annotations(folder: Path, name: str, suffixes: Sequence[str] = (".json",)) -> Path:
    """Give the file that `name` says, or, without one, the only one in the folder or its
    annotations/ that ends in one of `suffixes`.

    `folder` may be the file itself. Raises UserError where there is none, or a choice.
    """
    if folder.is_file():
        return folder
    if name and (folder / name).is_file():
        return folder / name
    found = [
        path
        for pattern in ("*", "annotations/*")
        for path in sorted(folder.glob(pattern))
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    if len(found) == 1 and not name:
        return found[0]
    listed = ", ".join(str(path.relative_to(folder)) for path in found[:6])
    listed = listed or f"no {' or '.join(suffixes)} file"
    wanted = f"no annotation file {name!r}" if name else "name the annotation file"
    raise UserError(f"{folder}: {wanted}; set config.data.annotations (there is {listed})")


def find_images(folder: Path, annotations: Path, name: str) -> Path:
    """Give the folder that file names are relative to: `name` if given, else images/, COCO's
    (instances_train2017.json: train2017/), or where the annotation file lies.
    """
    above = annotations.parent
    base = above if folder.is_file() else folder
    if name:
        tried = [base / name, above / name, above.parent / name]
    else:
        stem = annotations.stem.rpartition("_")[2]
        tried = [b / n for b in dict.fromkeys((base, above.parent)) for n in ("images", stem)]
    for candidate in tried:
        if candidate.is_dir():
            return candidate
    if name and not folder.is_file():
        raise UserError(f"{base / name}: no such folder; set config.data.images to the pictures'")
    return above if folder.is_file() else base


def _open_utkface(folder: Path, block: Block, labels: Labels) -> Source:
    del block
    return UTKFaceSource(folder, labels.attributes, keys=labels.keys, on_error=labels.on_error)


def _open_prima(folder: Path, block: Block, labels: Labels) -> Source:
    return PrimaSource(
        folder,
        labels.attributes,
        keys=labels.keys,
        vertical_yaw=block["vertical_yaw"],
        on_error=labels.on_error,
    )


def _open_fairface(folder: Path, block: Block, labels: Labels) -> Source:
    return FairFaceSource(
        folder,
        labels.attributes,
        annotations=block["annotations"],
        keys=labels.keys,
        preset=labels.preset,
        on_error=labels.on_error,
    )


def _open_face_csv(folder: Path, block: Block, labels: Labels) -> Source:
    path = find_annotations(folder, block["annotations"], (".csv",))
    return FaceCsvSource(path, labels.attributes, keys=labels.keys, on_error=labels.on_error)


def _open_each(read: Callable[[Path], CocoLists]) -> Callable[[Path, Block, Labels], Source]:
    """Open a format whose labels lie beside each picture, and which says what stays together."""

    def open_source(folder: Path, block: Block, labels: Labels) -> Source:
        return _coco_source(read(folder), folder, block, labels, "group")

    return open_source


def _open_aflw(folder: Path, block: Block, labels: Labels) -> Source:
    images = _subfolder(folder, block["images"], ("flickr", "data/flickr"))
    name = block["annotations"] or "aflw.sqlite"
    path = next(
        (at for at in (folder / name, folder / "data" / name) if at.exists()), folder / name
    )
    return _coco_source(read_aflw(path, images), images, block, labels)


def _open_hyperface(folder: Path, block: Block, labels: Labels) -> Source:
    path = find_annotations(folder, block["annotations"], (".npy",))
    return HyperFaceSource(path, labels.attributes, keys=labels.keys, on_error=labels.on_error)


def _open_youtube_faces(folder: Path, block: Block, labels: Labels) -> Source:
    table = find_annotations(folder, block["annotations"], (".csv",))
    images = find_images(folder, table, block["images"])
    return _coco_source(read_youtube_faces(table, images), images, block, labels, "group")


def _open_coco_faces(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"])
    images = find_images(folder, annotations, block["images"])
    return _coco_source(read_coco_faces(annotations), images, block, labels)


def _made_up(kind: Callable[..., Source]) -> Format:
    """Describe a format that is drawn: its block's keys are its arguments."""

    def open_source(folder: Path, block: Block, labels: Labels) -> Source:
        del folder, labels
        return kind(**{name: block[name] for name in options})

    options: dict[str, Any] = {"length": 1000, "seed": 0}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            options[name] = parameter.default
    return Format(open_source, options)


_UTKFACE = "age, gender and race as a program (DEX) guessed them and an annotator checked them"
_3DDFA = "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm"
FORMATS: dict[str, Format] = {
    "coco": Format(
        _open_coco,
        {"annotations": "", "images": "", "categories": (), "group_key": ""},
        ("coco", "coco_mini"),
        "https://cocodataset.org/#download (CC BY 4.0, each picture under terms of its own)",
    ),
    "via": Format(
        _open_via,
        {"annotations": "", "images": "", "class_attribute": "", "categories": ()},
        ("via", "balloon"),
        "https://www.robots.ox.ac.uk/~vgg/software/via/, with which pictures are annotated",
    ),
    "labelme": Format(
        _open_labelme,
        {"annotations": "", "images": "", "categories": ()},
        ("labelme",),
        "https://github.com/wkentaro/labelme, with which pictures are annotated",
    ),
    "masks": Format(
        _open_masks,
        {"annotations": "", "images": "", "categories": ()},
        ("masks", "PennFudanPed"),
        "https://www.cis.upenn.edu/~jshi/ped_html/, or draw pictures of masks of your own",
    ),
    "voc": Format(
        _open_voc,
        {"images": "", "image_set": "", "categories": ()},
        ("voc", "VOC2012", "VOCdevkit/VOC2012", "VOC2007", "VOCdevkit/VOC2007"),
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (Flickr's terms of use)",
    ),
    "tfds": Format(_open_tfds, {"data_dir": "", "categories": ()}),
    "tfds_faces": Format(_open_tfds_faces, {"data_dir": ""}),
    "utkface": Format(
        _open_utkface,
        {},
        ("utkface", "UTKFace", "crop_part1", "utkface_crop_part1"),
        "https://susanqq.github.io/UTKFace, aligned and cropped faces (non-commercial research)",
        _UTKFACE,
    ),
    "prima": Format(
        _open_prima,
        {"vertical_yaw": True},
        ("prima", "prima_headpose", "HeadPoseImageDatabase"),
        "http://www-prima.inrialpes.fr/perso/Gourier/Faces/HPDatabase.html (any purpose, cite "
        "Gourier, Hall, Crowley 2004)",
        "yaw and pitch of the marks that 15 volunteers were asked to look at",
    ),
    "fairface": Format(
        _open_fairface,
        {"annotations": ""},
        ("fairface",),
        "https://github.com/joojs/fairface, padding 0.25 (CC BY 4.0)",
        "range of age, gender and race as most of three paid annotators saw them",
    ),
    "face_csv": Format(
        _open_face_csv,
        {"annotations": ""},
        ("face_csv", "age_gender.csv"),
        "https://www.kaggle.com/datasets/nipunarora8/age-gender-and-ethnicity-face-data-csv "
        "(of UTKFace: non-commercial research)",
        _UTKFACE,
    ),
    "aflw": Format(
        _open_aflw,
        {"annotations": "", "images": ""},
        ("aflw", "AFLW"),
        "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw, "
        "aflw-db.tar.gz and the pictures (non-commercial research, on request)",
        "gender as an annotator saw it",
    ),
    "hyperface": Format(
        _open_hyperface,
        {"annotations": ""},
        ("hyperface",),
        "https://github.com/pasrichashivam/hyperface_deep_multi-task-learning_keras_implementation"
        ", data/sample_data.npy (of AFLW)",
        "gender as an annotator saw it",
    ),
    "aflw2000": Format(
        _open_each(read_mats),
        {},
        ("aflw2000", "AFLW2000", "AFLW2000-3D", "aflw2000_prnet16"),
        f"{_3DDFA}, AFLW2000-3D (research)",
    ),
    "300w_lp": Format(
        _open_each(read_mats), {}, ("300w_lp", "300W_LP"), f"{_3DDFA}, 300W-LP (research)"
    ),
    "ibug": Format(
        _open_each(read_pts),
        {},
        ("ibug", "300W", "helen", "afw", "helen_afw_68"),
        "https://ibug.doc.ic.ac.uk/resources/facial-point-annotations, HELEN, AFW, LFPW, IBUG or "
        "300W (research)",
    ),
    "youtube_faces": Format(
        _open_youtube_faces,
        {"annotations": "", "images": ""},
        ("youtube_faces", "ytfaces68_udacity"),
        "https://github.com/udacity/P1_Facial_Keypoints (MIT, the frames for research)",
    ),
    "biwi": Format(
        _open_each(read_biwi),
        {},
        ("biwi", "hpdb", "kinect_head_pose_db/hpdb", "kinect_head_pose_db"),
        "https://icu.ee.ethz.ch/research/datsets.html, the Biwi Kinect Head Pose Database "
        "(research and education)",
        "the pose of 20 volunteers as a program found it in depth pictures",
    ),
    "coco_faces": Format(
        _open_coco_faces,
        {"annotations": "", "images": ""},
        ("coco", "coco_mini"),
        "https://cocodataset.org/#download, person_keypoints (CC BY 4.0, each picture under terms "
        "of its own)",
    ),
    "python": Format(_open_python, {"options": {}}),
    "synthetic": _made_up(SyntheticSource),
    "shapes": _made_up(ShapesSource),
}
