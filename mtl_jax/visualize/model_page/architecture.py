"""Architecture of a network: a drawing, and a table of its layers."""

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT, GAP = 190, 46, 22  # pixels: size of a box, and the gap between boxes
COLUMN = WIDTH + 80


class Layer(NamedTuple):
    path: str
    output: str  # shape without the batch axis, as `8 x 8 x 2`
    parameters: int  # including those of layers below


class _Box(NamedTuple):
    name: str
    lines: tuple[str, ...]
    column: int
    row: float


def layers(activations: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    """Return the layers of a network with their output shapes and parameter counts.

    Layers of heads that were not called have no output shape. `arrays` contains the parameters by
    path.
    """
    paths: dict[str, str] = {}
    for path, output in activations.items():
        parent, _, level = path.rpartition("/")
        name = parent if level.isdigit() else path
        paths.setdefault(name, " x ".join(map(str, output.shape[1:])))
    for path in arrays:
        paths.setdefault(path.rpartition("/")[0], "")
    return [Layer(path, paths[path], count(arrays, path)) for path in sorted(paths)]


def count(arrays: Mapping[str, np.ndarray], path: str) -> int:
    """Return the number of parameters at and below a path."""
    return sum(int(np.size(a)) for name, a in arrays.items() if name.startswith(f"{path}/"))


def architecture_svg(
    image: Sequence[int],
    activations: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    outputs: Sequence[str],
) -> str:
    """Return an SVG drawing of the network, from its input image `(H, W, C)` to its heads.

    `outputs` contains the names of the attributes.
    """
    boxes = [_Box("image", (_shape(image),), 0, 5)]
    for row, stage in zip(
        (4, 3, 2, 1, 0), ("stem", *(f"stage{n}" for n in range(2, 6))), strict=True
    ):
        path = f"backbone/{stage}"
        boxes.append(_Box(stage, _output_and_count(activations[path], arrays, path), 0, row))
    for level in range(2, 7):
        shape = _shape(activations[f"fpn/{level - 2}"].shape[1:])
        boxes.append(_Box(f"P{level}", (shape,), 1, 5.0 - level if level < 6 else -1))
    pyramid, rpn = count(arrays, "fpn"), count(arrays, "rpn")
    boxes.append(_Box("RPN", (f"{rpn:,} parameters", "proposals"), 2, 0))
    boxes.append(_Box("ROIAlign", ("on P2 to P5",), 2, 2))
    heads = [("box_head", "classes and boxes")]
    heads += [("mask_head", "masks")] if count(arrays, "mask_head") else []
    dense = {name: f"dense_head_{name}" for name in outputs}
    dense = {name: head for name, head in dense.items() if count(arrays, head)}
    vectors = [name for name in outputs if name not in dense]
    heads += [("attribute_head", ", ".join(vectors))] if vectors else []
    heads += [(head, name) for name, head in dense.items()]
    for row, (name, output) in enumerate(heads):
        lines = (f"{count(arrays, name):,} parameters", output)
        boxes.append(_Box(name, lines, 3, 1.0 + 1.2 * row))
    places = {box.name: box for box in boxes}
    stack = ["image", "stem", "stage2", "stage3", "stage4", "stage5"]
    arrows = list(pairwise(stack))
    arrows += [(f"stage{n}", f"P{n}") for n in range(2, 6)] + [("P5", "P6")]
    arrows += [(f"P{n}", f"P{n - 1}") for n in range(5, 2, -1)]
    arrows += [("P4", "RPN"), ("P3", "ROIAlign"), ("RPN", "ROIAlign")]
    arrows += [("ROIAlign", name) for name, _ in heads]
    parts = [_arrow(places[a], places[b]) for a, b in arrows]
    parts += [_draw(box) for box in boxes]
    note = f"FPN: {pyramid:,} parameters"
    left, top = _corner(places["P6"])
    parts.append(f'<text x="{left}" y="{top - 10}" class="note">{note}</text>')
    width = 4 * COLUMN
    height = _corner(places["image"])[1] + HEIGHT + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
        f'width="{width}" height="{height:g}" font-family="sans-serif" font-size="12">\n'
        "<style>.name{font-weight:bold}.note{fill:#4a525a}"
        "rect{fill:#eef3f9;stroke:#2f6db3}line{stroke:#7a8590;marker-end:url(#head)}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#7a8590"/></marker></defs>\n'
        f'<rect x="0" y="0" width="{width}" height="{height:g}" style="fill:#fff;stroke:none"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _output_and_count(
    output: np.ndarray, arrays: Mapping[str, np.ndarray], path: str
) -> tuple[str, ...]:
    return _shape(output.shape[1:]), f"{count(arrays, path):,} parameters"


def _corner(box: _Box) -> tuple[float, float]:
    return 20 + box.column * COLUMN, 50 + (box.row + 1) * (HEIGHT + GAP)


def _draw(box: _Box) -> str:
    x, y = _corner(box)
    texts = [f'<text x="{x + 8}" y="{y + 14:g}" class="name">{html.escape(box.name)}</text>']
    for i, line in enumerate(box.lines):
        short = line if len(line) <= 32 else line[:29] + "..."
        texts.append(f'<text x="{x + 8}" y="{y + 28 + 13 * i:g}">{html.escape(short)}</text>')
    return f'<rect x="{x}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>' + "".join(texts)


def _arrow(start: _Box, end: _Box) -> str:
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if start.column == end.column:
        x1, x2 = x1 + WIDTH / 2, x2 + WIDTH / 2
        y1, y2 = (y1, y2 + HEIGHT) if y2 < y1 else (y1 + HEIGHT, y2)
    else:
        x1, y1, y2 = x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
