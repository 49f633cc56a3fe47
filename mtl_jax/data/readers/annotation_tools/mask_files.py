"""Read a mask image for each image: 0 is background and each other value is one instance, as in the
Penn-Fudan pedestrians.

Source: https://www.cis.upenn.edu/~jshi/ped_html/, readme.txt.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, read_each, single_class, size_of
from mtl_jax.data.readers.folders import list_images
from mtl_jax.data.readers.format import Block, Format, Labels, find_subfolder
from mtl_jax.data.records import Source
from mtl_jax.data.segmentation import encode
from mtl_jax.errors import UserError
from mtl_jax.images import headers, png
from mtl_jax.images.limits import check_pixels, read_image_file

MANY = 1000  # an image with more different values is a photograph and not a mask image
# Fraction of the edge pixels of a mask image whose value lies between those of their neighbours.
# In masks of COCO's images it is at most 0.045, about 0.08 after JPEG, 0.25 with anti-aliased
# edges, 0.8 when blurred.
BLURRED, FEW = 0.06, 10


class _Masks(NamedTuple):
    height: int
    width: int
    runs: dict[int, dict]  # RLE by value


def read_mask_files(images: Path, masks: Path, categories: Sequence[str] = ()) -> CocoLists:
    """Read the masks of the images below `images`. A mask image below `masks` has the name of its
    image, or that name with `_mask` added, as .png, .tif or another lossless format.

    All instances have the one class that `categories` names. A mask image without its image, one
    whose values a compression or a resize has changed, and file names that differ in their
    extensions alone, are faults. An image without masks is a negative.
    """
    kind = single_class(categories, f"{masks}: masks have no classes")
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; set config.data.images and .annotations")
    collector = Collector(masks)
    below = f"{masks.relative_to(images).as_posix()}/" if images in masks.parents else None
    names = _by_stem(images, "", collector, below)
    found = _by_stem(masks, "_mask", collector)
    if not found:
        raise UserError(f"{masks}: contains no mask images; the mask image of a.jpg must be a.png")
    paths = [masks / name for name in found.values()]
    for stem, (path, read) in zip(found, read_each(_read, paths), strict=True):
        record = path.relative_to(masks).as_posix()
        if isinstance(read, ValueError):
            collector.add_fault(record, str(read))
        elif stem not in names:
            collector.add_fault(record, f"has no image {stem}.* in {images}; add the image")
        elif (size := size_of(images / names[stem])) not in ((0, 0), read[:2]):
            wrong = f"is {read.width} x {read.height}, but its image is {size[1]} x {size[0]}"
            collector.add_fault(record, f"{wrong}; both must have the same size")
        else:
            name = names[stem]
            collector.add_image(name, read.height, read.width)
            for value, runs in read.runs.items():
                collector.add_instance(
                    name, f"{record} value {value}", kind, {"segmentation": runs}
                )
    for stem, name in names.items():
        if stem not in found:
            collector.add_image(name)
    return collector.finish([kind])


def _by_stem(
    folder: Path, suffix: str, collector: Collector, leave_out: str | None = None
) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in list_images(folder):
        if leave_out and name.startswith(leave_out):
            continue
        other = names.setdefault(_stem(name).removesuffix(suffix), name)
        if other != name:
            collector.add_fault(name, f"has the base name of {other} in {folder}; rename one")
    return names


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _read(path: Path) -> _Masks:
    data = read_image_file(path)
    if headers.is_lossy(data):
        raise ValueError("is a JPEG or lossy WebP, which changes values; save the masks as PNG")
    try:
        values = _read_indices(data)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, cv2.error) as error:
        raise ValueError(f"cannot be decoded ({error}); save the mask image again") from None
    if values.ndim != 2:
        raise ValueError(f"has {values.shape[-1]} channels; a mask image must have one channel")
    numbers = np.unique(values)
    if len(numbers) > MANY:
        raise ValueError(f"has {len(numbers)} values; it must have one for each instance, and 0")
    if _is_blurred(values):
        raise ValueError(
            f"has {len(numbers)} values, many of them in between along edges, as after a resize, "
            "blur or JPEG; draw the masks without anti-aliasing"
        )
    height, width = values.shape
    runs = {}
    for number in numbers[numbers != 0].tolist():
        mask = values == number
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        runs[int(number)] = encode(mask[y : y + h, x : x + w], y, x, height, width)
    return _Masks(height, width, runs)


def _read_indices(data: bytes) -> np.ndarray:
    """Decode an image without applying its palette."""
    if size := headers.declared_size(data):
        check_pixels(*size)
    if data.startswith(headers.TIFF):  # Pillow's libtiff writes to stderr
        raw = np.frombuffer(headers.without_palette(data), np.uint8)
        values = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
        if values is None:
            raise ValueError("not a TIFF that OpenCV can decode")
        return values
    data = png.clean(data) if data.startswith(headers.PNG) else data
    with Image.open(io.BytesIO(data)) as file:  # OpenCV would apply the palette
        check_pixels(file.height, file.width)
        return np.asarray(file)


def _is_blurred(values: np.ndarray) -> bool:
    """Return whether values rise or fall gradually along the edges of instances."""
    between = edges = 0
    for rows in (values, values.T):
        before, here, after = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]
        rising, falling = (before < here) & (here < after), (before > here) & (here > after)
        between += np.count_nonzero(rising | falling)
        edges += np.count_nonzero((before != here) | (here != after))
    return bool(between > max(FEW, BLURRED * edges))


def open_masks(folder: Path, block: Block, labels: Labels) -> Source:
    images = find_subfolder(folder, block["images"], ("PNGImages", "images"))
    masks = find_subfolder(folder, block["annotations"], ("PedMasks", "masks"))
    lists = read_mask_files(images, masks, block["categories"])
    return coco_source(lists, images, block, labels)


FORMAT = Format(
    open_masks,
    {"annotations": "", "images": "", "categories": ()},
    ("masks", "PennFudanPed"),
    "https://www.cis.upenn.edu/~jshi/ped_html/, or mask images of your own",
)
