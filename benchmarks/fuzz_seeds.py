"""Valid annotation files and images, drawn here, for `fuzz_inputs`."""

import csv
import io
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
from PIL import Image

from benchmarks.fuzz_mutations import mutate_bytes, mutate_file

Draw = Callable[[random.Random], bytes]  # returns the bytes of an image file
HEIGHT, WIDTH = 60, 80
IMAGE = "image"  # the name of an image's file


@dataclass(frozen=True)
class Seed:
    """How the files of a format are drawn, and how its source is opened."""

    format: str
    write: Callable[[random.Random, Path], Path]  # returns the file that is mutated
    block: Mapping[str, Any] = field(default_factory=dict)


def write_case(name: str, number: int, folder: Path) -> None:
    """Write the files of a case, which depend on its number and format alone, to a new folder."""
    rng = random.Random(f"{name} {number}")
    folder.mkdir(parents=True)
    if name in IMAGES:
        data = IMAGES[name](rng)
        (folder / IMAGE).write_bytes(mutate_bytes(data, rng))
        return
    path = ANNOTATIONS[name].write(rng, folder)
    path.write_bytes(mutate_file(path, rng))


def _pixels(rng: random.Random, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    small = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _write_image(path: Path, rng: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), _pixels(rng))


def _box(rng: random.Random) -> list[int]:
    x, y = rng.randrange(WIDTH - 20), rng.randrange(HEIGHT - 20)
    return [x, y, rng.randint(5, 19), rng.randint(5, 19)]


def _polygon(rng: random.Random) -> list[list[float]]:
    x, y, w, h = _box(rng)
    return [[x, y], [x + w, y], [x + w, y + h], [x + w / 2, y + h / 2], [x, y + h]]


def _coco(rng: random.Random, folder: Path) -> Path:
    for name in "ab":
        _write_image(folder / f"images/{name}.png", rng)
    flat = [value for point in _polygon(rng) for value in point]
    runs = [100, 50, HEIGHT * WIDTH - 150]
    shapes: list[dict[str, Any]] = [
        {"bbox": _box(rng)},
        {"segmentation": [flat], "bbox": _box(rng)},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": runs}, "iscrowd": 1},
        {"segmentation": _rle(rng), "area": 30.5, "age": 30, "gender": "male"},
        {
            "bbox": _box(rng),
            "attributes": {"head": {"yaw": 3.0, "pitch": -4}},
            "keypoints": [1, 2, 2],
        },
    ]
    data = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
            for i, name in enumerate("ab")
        ],
        "annotations": [
            {"id": i, "image_id": i % 2, "category_id": 1 + i % 2, **shape}
            for i, shape in enumerate(shapes)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "keypoints": ["nose"]}],
    }
    return _write_json(folder / "a.json", data)


def _rle(rng: random.Random) -> dict[str, Any]:
    from mtl_jax.data.segmentation import encode

    x, y, w, h = _box(rng)
    return encode(np.ones((h, w), bool), y, x, HEIGHT, WIDTH)


def _write_json(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def _via_shapes(rng: random.Random) -> list[dict[str, Any]]:
    xs, ys = (list(axis) for axis in zip(*_polygon(rng), strict=True))
    x, y, w, h = _box(rng)
    return [
        {"name": "polygon", "all_points_x": xs, "all_points_y": ys},
        {"name": "polyline", "all_points_x": xs, "all_points_y": ys},
        {"name": "rect", "x": x, "y": y, "width": w, "height": h},
        {"name": "circle", "cx": 40, "cy": 30, "r": 7},
        {"name": "ellipse", "cx": 40, "cy": 30, "rx": 9, "ry": 5, "theta": 0.3},
    ]


def _via_2(rng: random.Random) -> dict[str, Any]:
    regions = [
        {"shape_attributes": shape, "region_attributes": {"kind": "cat", "age": "3"}}
        for shape in _via_shapes(rng)
    ]
    return {
        f"{name}.png1": {"filename": f"{name}.png", "size": 1, "regions": part}
        for name, part in (("a", regions[:3]), ("b", regions[3:]))
    }


def _via_3(rng: random.Random) -> dict[str, Any]:
    del rng
    shapes = [[2, 1, 2, 30, 20], [3, 40, 30, 8], [4, 40, 30, 9, 5], [7, 1, 1, 30, 1, 30, 30]]
    return {
        "project": {"pid": "p"},
        "config": {},
        "attribute": {
            "1": {"aname": "kind", "type": 4, "options": {"0": "cat", "1": "dog"}},
            "2": {"aname": "marks", "type": 2, "options": {"0": "x", "1": "y"}},
        },
        "file": {
            n: {"fid": n, "fname": f"{name}.png", "type": 2}
            for n, name in zip("12", "ab", strict=True)
        },
        "view": {n: {"fid_list": [n]} for n in "12"},
        "metadata": {
            f"m{i}": {"vid": "12"[i % 2], "z": [], "xy": xy, "av": {"1": "0", "2": "0,1"}}
            for i, xy in enumerate(shapes)
        },
    }


def _via(rng: random.Random, folder: Path) -> Path:
    for name in "ab":
        _write_image(folder / f"{name}.png", rng)
    kind = rng.randrange(5)
    if kind == 0:
        return _write_json(folder / "a.json", _via_2(rng))
    if kind == 1:
        return _write_json(folder / "a.json", {"_via_img_metadata": _via_2(rng)})
    if kind == 2:
        return _write_json(folder / "a.json", _via_3(rng))
    file = io.StringIO()
    if kind == 3:
        rows = csv.writer(file)
        rows.writerow(("filename", "region_shape_attributes", "region_attributes"))
        for shape in _via_shapes(rng):
            rows.writerow(("a.png", json.dumps(shape), json.dumps({"kind": "cat"})))
    else:
        attributes = json.dumps(_via_3(rng)["attribute"])
        file.write(f"# ATTRIBUTE = {attributes}\n")
        file.write("# CSV_HEADER = metadata_id,file_list,spatial_coordinates,metadata\n")
        rows = csv.writer(file)
        for number, part in _via_3(rng)["metadata"].items():
            rows.writerow((number, '["a.png"]', json.dumps(part["xy"]), json.dumps(part["av"])))
    path = folder / "a.csv"
    path.write_text(file.getvalue())
    return path


def _labelme(rng: random.Random, folder: Path) -> Path:
    import base64

    _write_image(folder / "a.png", rng)
    mask = np.tril(np.full((9, 12), 255, np.uint8))
    png = base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()
    x, y, w, h = _box(rng)
    corners = [[x, y], [x + w, y + h]]
    shapes = [
        {
            "label": "cat",
            "shape_type": "polygon",
            "points": _polygon(rng),
            "flags": {"hidden": True},
        },
        {"label": "cat", "shape_type": "rectangle", "points": corners, "group_id": 1},
        {"label": "cat", "shape_type": "polygon", "points": _polygon(rng), "group_id": 1},
        {"label": "dog", "shape_type": "circle", "points": [[40, 30], [40, 37]], "group_id": 2},
        {
            "label": "dog",
            "shape_type": "mask",
            "points": [[5, 6], [16, 14]],
            "mask": png,
            "group_id": rng.choice((2, None)),
        },
    ]
    data = {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": "a.png"}
    size = {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return _write_json(folder / "a.json", data | size)


def _voc(rng: random.Random, folder: Path) -> Path:
    _write_image(folder / "JPEGImages/a.png", rng)
    objects = ""
    for name in ("cat", "dog"):
        x, y, w, h = _box(rng)
        sides = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
        more = "<pose>Left</pose><difficult>0</difficult><age>3</age>"
        objects += f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    (folder / "Annotations").mkdir()
    path = folder / "Annotations/a.xml"
    encoding = rng.choice(("utf-8", "utf-8", "latin-1", "utf-16", "hex", "shift_jis"))
    head = f'<?xml version="1.0" encoding="{encoding}"?>' if rng.random() < 0.5 else ""
    path.write_text(f"{head}<annotation><filename>a.png</filename>{size}{objects}</annotation>")
    return path


def _points(rng: random.Random) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 68)
    jitter = np.array([rng.random() for _ in range(136)]).reshape(68, 2)
    return np.stack([40 + 20 * np.cos(angle), 30 + 20 * np.sin(angle)], 1) + jitter


def _pts(rng: random.Random, folder: Path) -> Path:
    _write_image(folder / "a.png", rng)
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in _points(rng))
    path = folder / "a.pts"
    path.write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    return path


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _face_csv(rng: random.Random, folder: Path) -> Path:
    rows: list[Sequence[object]] = [("age", "ethnicity", "img_name", "gender", "pixels")]
    for i in range(3):
        gray = " ".join(map(str, _pixels(rng, 8, 8)[..., 0].ravel().tolist()))
        rows.append((20 + i, i, f"{i}.jpg", i % 2, gray))
    return _write_csv(folder / "faces.csv", rows)


def _youtube(rng: random.Random, folder: Path) -> Path:
    rows: list[Sequence[object]] = [("", *map(str, range(136)))]
    for name in ("Some_One_1.jpg", "Some_One_2.jpg"):
        _write_image(folder / f"images/{name}", rng)
        rows.append((name, *_points(rng).ravel().tolist()))
    return _write_csv(folder / "points.csv", rows)


def _fairface(rng: random.Random, folder: Path) -> Path:
    rows: list[Sequence[object]] = [("file", "age", "gender", "race", "service_test")]
    for i in range(1, 4):
        _write_image(folder / f"train/{i}.jpg", rng)
        rows.append((f"train/{i}.jpg", "20-29", "Male", "East Asian", "True"))
    return _write_csv(folder / "fairface_label_train.csv", rows)


def _prima(rng: random.Random, folder: Path) -> Path:
    for tilt in ("-15", "+30"):
        name = f"Person01/person01101{tilt}+0.jpg"
        _write_image(folder / name, rng)
        path = (folder / name).with_suffix(".txt")
        path.write_text(f"{path.stem}.jpg\n\nFace\n40\n30\n20\n24\n")
    return path


def _mat(rng: random.Random, folder: Path) -> Path:
    _write_image(folder / "image00001.jpg", rng)
    content = {
        "Pose_Para": np.array([[0.1, -0.2, 0.05, 3, 4, 0, 0.001]], np.float32),
        "pt2d": _points(rng)[:21].T,
        "pt3d_68": np.vstack([_points(rng).T, np.zeros((1, 68))]),
    }
    path = folder / "image00001.mat"
    scipy.io.savemat(path, content, do_compression=rng.random() < 0.5)
    return path


def _by_pillow(kind: str, mode: str = "RGB", frames: int = 1, **options: Any) -> Draw:
    """Return the function that draws an image and encodes it."""

    def draw(rng: random.Random) -> bytes:
        images = [Image.fromarray(_pixels(rng)).convert(mode) for _ in range(frames)]
        more: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
        if kind in ("JPEG", "PNG", "WEBP") and rng.random() < 0.3:
            more["exif"] = Image.Exif()
            more["exif"][0x112] = rng.randint(0, 9)
        if frames > 1:
            more |= {"save_all": True, "append_images": images[1:]}
        file = io.BytesIO()
        images[0].save(file, kind, **more)
        return file.getvalue()

    return draw


def _any(*draw: Draw) -> Draw:
    return lambda rng: rng.choice(draw)(rng)


def _by_opencv(suffix: str, deep: bool = False) -> Draw:
    def draw(rng: random.Random) -> bytes:
        pixels = _pixels(rng)
        pixels = pixels.astype(np.uint16) * 257 if deep else pixels
        return cv2.imencode(suffix, pixels)[1].tobytes()

    return draw


def _npy(rng: random.Random) -> bytes:
    file = io.BytesIO()
    np.save(file, _pixels(rng).astype(rng.choice((np.uint8, np.uint16, np.float32))))
    return file.getvalue()


ANNOTATIONS = {
    "via": Seed("via", _via, {"class_attribute": "kind"}),
    "labelme": Seed("labelme", _labelme),
    "voc": Seed("voc", _voc),
    "pts": Seed("ibug", _pts),
    "csv": Seed("face_csv", _face_csv),
    "csv_points": Seed("youtube_faces", _youtube),
    "csv_chips": Seed("fairface", _fairface),
    "coco": Seed("coco", _coco),
    "prima": Seed("prima", _prima),
    "mat": Seed("aflw2000", _mat),
}
IMAGES = {
    "jpeg": _any(
        _by_pillow("JPEG"),
        _by_pillow("JPEG", "L", progressive=True),
        _by_pillow("JPEG", progressive=True, subsampling=0),
        _by_pillow("JPEG", "CMYK"),
    ),
    "png": _any(
        *(_by_pillow("PNG", mode) for mode in ("RGB", "RGBA", "L", "P", "1")),
        _by_pillow("PNG", frames=3),
        _by_opencv(".png", deep=True),
    ),
    "gif": _any(_by_pillow("GIF"), _by_pillow("GIF", frames=3)),
    "bmp": _any(*(_by_pillow("BMP", mode) for mode in ("RGB", "L", "P", "1"))),
    "webp": _any(
        _by_pillow("WEBP"), _by_pillow("WEBP", "RGBA", lossless=True), _by_pillow("WEBP", frames=3)
    ),
    "tiff": _any(
        *(_by_pillow("TIFF", compression=c) for c in (None, "tiff_lzw", "tiff_deflate", "jpeg")),
        _by_pillow("TIFF", "L", frames=4),
        _by_pillow("TIFF", "RGBA", big_tiff=True),
        _by_opencv(".tiff", deep=True),
    ),
    "others": _any(
        _by_pillow("AVIF"),
        _by_pillow("JPEG2000"),
        _by_pillow("PPM"),
        _by_opencv(".ras"),
    ),
    "npy": _npy,
}
