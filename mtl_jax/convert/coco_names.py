"""The names of COCO's 90 category ids, in order; ten ids were never used."""

from mtl_jax.data.records import Category

_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, -, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, frisbee, skis, snowboard,
sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, -,
wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet, -, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, -, book,
clock, vase, scissors, teddy bear, hair drier, toothbrush"""


_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
PERSON_KEYPOINTS = {
    "kind": "landmarks",
    "points": ("nose", *(f"{side}_{part}" for part in _SIDED for side in ("left", "right"))),
    "flip": tuple((f"left_{part}", f"right_{part}") for part in _SIDED),
    "loss": "heatmap",
}


def coco_categories() -> tuple[Category, ...]:
    """Return a category for each id; unused ids are named after the id, e.g. "unused 12"."""
    names = " ".join(_NAMES.split()).split(", ")
    return tuple(
        Category(i, f"unused {i}" if name == "-" else name) for i, name in enumerate(names, 1)
    )


def coco_used_categories() -> list[Category]:
    """Return the 80 categories that are used, with COCO's ids; labels without gaps number these."""
    return [category for category in coco_categories() if not category.name.startswith("unused")]
