"""A self-contained HTML page: images are embedded, and it needs no network."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mtl_jax.images.decode import encode_png
from mtl_jax.io.atomic import write_whole

WIDEST = 1600  # pixels; wider images are embedded smaller, their files keep the full size
PHOTOGRAPH = 0.1  # ratio of PNG size to raw size from which an image is a photograph

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1rem;
       color: #1c1f23; background: #fff; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #d5d9de; }
figure { margin: 1rem 0; }
figcaption { color: #4a525a; font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; border: 1px solid #e3e6ea; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem 1rem .25rem 0; text-align: left; border-bottom: 1px solid #e3e6ea; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f5f7; padding: .75rem; overflow-x: auto; }
"""


class Page:
    """Text, tables and images in order. `write` saves `index.html`, and each image as a file."""

    def __init__(self, title: str):
        self._title = title
        self._parts: list[str] = []
        self._images: dict[str, bytes] = {}  # contents by file name

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, lines: Iterable[str]) -> None:
        self._parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")

    def list(self, lines: Iterable[str]) -> None:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        self._parts.append(f"<ul>{items}</ul>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table. Numbers are right-aligned."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        self._parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')

    def image(self, name: str, image: np.ndarray, caption: str = "") -> None:
        """Add an RGB image, uint8 `[H, W, 3]`, whose file is `name`.png."""
        shown = image
        if image.shape[1] > WIDEST:
            height = round(image.shape[0] * WIDEST / image.shape[1])
            shown = cv2.resize(image, (WIDEST, height), interpolation=cv2.INTER_AREA)
        size = f'width="{shown.shape[1]}" height="{shown.shape[0]}"'
        self._add(f"{name}.png", encode_png(image), *_encode(shown), caption or name, size)

    def drawing(self, name: str, svg: str, caption: str = "") -> None:
        """Add an SVG drawing, whose file is `name`.svg."""
        self._add(f"{name}.svg", svg.encode(), "svg+xml", svg.encode(), caption or name, "")

    def _add(
        self, name: str, file: bytes, kind: str, shown: bytes, caption: str, size: str
    ) -> None:
        if name in self._images:
            raise ValueError(f"two images are named {name!r}")
        self._images[name] = file
        text, data = html.escape(caption), base64.b64encode(shown).decode()
        self._parts.append(
            f'<figure><img src="data:image/{kind};base64,{data}" alt="{text}" {size}>'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def write(self, folder: Path) -> Path:
        """Write the page and the image files, and return the path of the page."""
        for name, data in self._images.items():
            with write_whole(folder / name) as draft:
                draft.write_bytes(data)
        title, body = html.escape(self._title), "\n".join(self._parts)
        text = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<link rel="icon" href="data:,">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )
        with write_whole(folder / "index.html") as draft:
            draft.write_text(text, encoding="utf-8")
        return folder / "index.html"


def _encode(image: np.ndarray) -> tuple[str, bytes]:
    """Return the format and the bytes of an image: JPEG for photographs, which is smaller."""
    kind, data = "png", encode_png(image)
    if len(data) > PHOTOGRAPH * image.size:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        done, found = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
        kind, data = ("jpeg", found.tobytes()) if done else (kind, data)
    return kind, data


def _cell(value: object) -> str:
    if isinstance(value, float):
        text = "" if np.isnan(value) else f"{value:.4g}"
    else:
        text = f"{value:,}" if isinstance(value, int) else str(value)
    kind = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{html.escape(text)}</td>"
