"""Example program written with an exported model; it requires only jax, NumPy and OpenCV."""

LOADER = '''"""Detect objects with this exported model: python load.py photo.jpg"""

import json
import sys
from pathlib import Path

import cv2
import jax
import numpy as np

folder = Path(__file__).parent
model = json.loads((folder / "model.json").read_text())
resize, batch = model["resize"], model["batch_size"]
color = cv2.IMREAD_GRAYSCALE if model["channels"] == 1 else cv2.IMREAD_COLOR_RGB
image = cv2.imread(sys.argv[1], color)
height, width = image.shape[:2]
short, long = min(height, width), max(height, width)
square = resize["mode"] == "square"
target = min(max(square, resize["min_size"] / short), resize["max_size"] / long) * resize["zoom"]
# The padded size that allows the largest scale up to the target; of several, the smallest.
fits = [(min(target, h / height, w / width), -h * w, h, w) for h, w in model["canvases"]]
scale, _, rows, columns = max(fits)
whole = round if square or scale < target else int
size = max(1, whole(height * scale)), max(1, whole(width * scale))
how = cv2.INTER_AREA if scale < 1 and resize["dtype"] == "uint8" else cv2.INTER_LINEAR
small = cv2.resize(image.astype(resize["dtype"]), size[::-1], interpolation=how)
pixels = np.zeros((batch, rows, columns, model["channels"]), resize["dtype"])
pixels[0, : size[0], : size[1]] = small.reshape(*size, -1)
file = folder / f"model_{rows}x{columns}.stablehlo"
detect = jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)
found = detect(pixels, np.tile(np.float32(size), (batch, 1)))
labels = {k.partition("_")[2]: v[0] for k, v in found.items() if k.startswith("attribute_")}
for i in np.flatnonzero(np.asarray(found["valid"][0])):
    values = {k: np.asarray(v[i]).round(3).tolist() for k, v in labels.items()}
    box = np.asarray(found["boxes"][0, i]) / np.tile(np.array(size)[::-1] / (width, height), 2)
    name = model["classes"][str(int(found["classes"][0, i]))]
    print(name, float(found["scores"][0, i]), box.round(1).tolist(), values)
'''
