"""Reference implementations of the operators in NumPy, with loops and in float64."""

import math

import numpy as np


def iou(a, b):
    """Compute the IoU of each box of `a` with each of `b`."""
    out = np.zeros((len(a), len(b)))
    for i, p in enumerate(np.asarray(a, np.float64)):
        for j, q in enumerate(np.asarray(b, np.float64)):
            width = max(min(p[2], q[2]) - max(p[0], q[0]), 0)
            height = max(min(p[3], q[3]) - max(p[1], q[1]), 0)
            areas = [max(r[2] - r[0], 0) * max(r[3] - r[1], 0) for r in (p, q)]
            union = sum(areas) - width * height
            out[i, j] = width * height / union if union > 0 else 0
    return out


def nms(boxes, scores, valid, threshold, groups=None):
    """Return the indices kept by greedy NMS, highest score first."""
    usable = [i for i in range(len(boxes)) if valid[i] and not np.isnan(scores[i])]
    kept = []
    for i in sorted(usable, key=lambda i: (-scores[i], i)):
        rivals = [j for j in kept if groups is None or groups[i] == groups[j]]
        # float32 as in the operator, so that IoUs equal to the threshold are treated alike.
        if all(iou_float32(boxes[i], boxes[j]) <= np.float32(threshold) for j in rivals):
            kept.append(i)
    return kept


def iou_float32(p, q):
    """Compute the IoU of two boxes in float32."""
    zero = np.float32(0)
    common = max(min(p[2], q[2]) - max(p[0], q[0]), zero) * max(
        min(p[3], q[3]) - max(p[1], q[1]), zero
    )
    union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - common
    return common / union if union > 0 else zero


def smaller_overlap_float32(p, q):
    """Compute the intersection of two boxes divided by the smaller area, in float32."""
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), p, q, strict=True))
    zero = np.float32(0)
    common = max(right - left, zero) * max(bottom - top, zero)
    smaller = min((r[2] - r[0]) * (r[3] - r[1]) for r in (p, q))
    return common / smaller if smaller > 0 else zero


def bilinear(feature, y, x):
    """The weights by cell of a sample at `y`, `x`; cell (i, j) has its value at just (i, j)."""
    height, width = feature.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return {}
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    weights = {}
    for i in {math.floor(y), math.ceil(y)}:
        for j in {math.floor(x), math.ceil(x)}:
            weights[i, j] = (1 - abs(y - i)) * (1 - abs(x - j))
    return weights


def roi_align_weights(feature, box, stride, size, ratio, aligned):
    """Compute the weights of the cells in each of `size` x `size` bins; ratio 0 is adaptive."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(v) / stride - shift for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    rows, columns = (ratio or max(math.ceil(side / size), 1) for side in (height, width))
    bins = {}
    for p in range(size):
        for q in range(size):
            total = bins.setdefault((p, q), {})
            for i in range(rows):
                for j in range(columns):
                    y = y1 + (p + (i + 0.5) / rows) * height / size
                    x = x1 + (q + (j + 0.5) / columns) * width / size
                    for cell, weight in bilinear(feature, y, x).items():
                        total[cell] = total.get(cell, 0) + weight / (rows * columns)
    return bins


def roi_align(feature, box, stride, size, ratio=2, aligned=False):
    """Pool a feature map `[H, W, C]` inside one box to `[size, size, C]`."""
    out = np.zeros((size, size, feature.shape[-1]))
    for at, cells in roi_align_weights(feature, box, stride, size, ratio, aligned).items():
        for cell, weight in cells.items():
            out[at] += weight * feature[cell].astype(np.float64)
    return out


def roi_align_gradient(feature, box, stride, gradient, ratio=2, aligned=False):
    """Compute the gradient `[H, W, C]` of the feature map from that of the pooled bins."""
    out = np.zeros(feature.shape)
    bins = roi_align_weights(feature, box, stride, len(gradient), ratio, aligned)
    for at, cells in bins.items():
        for cell, weight in cells.items():
            out[cell] += weight * gradient[at]
    return out


def match(overlap, usable, positive, negative, low_quality):
    """Match rows as torchvision's Matcher: return (object, kind) per row, where kind is "positive",
    "negative" or "neither".
    """
    objects = [j for j in range(overlap.shape[1]) if usable[j]]
    best_of = {j: max(overlap[:, j]) for j in objects}
    out = []
    for row in overlap:
        best = max(objects, key=lambda j: (row[j], -j), default=None)
        if best is None:
            out.append((0, "negative"))
            continue
        kind = "positive" if row[best] >= positive else "neither"
        kind = "negative" if row[best] < negative else kind
        if low_quality and any(row[j] == best_of[j] > 0 for j in objects):
            kind = "positive"
        out.append((best, kind))
    return out


def conv(x, kernel, strides, padding):
    """Compute the convolution of `[B, H, W, Ci]` with `[kh, kw, Ci, Co]`."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    kh, kw = kernel.shape[:2]
    height = (x.shape[1] - kh) // strides[0] + 1
    width = (x.shape[2] - kw) // strides[1] + 1
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            top, left = i * strides[0], j * strides[1]
            window = x[:, top : top + kh, left : left + kw]
            out[:, i, j] = np.tensordot(window, np.asarray(kernel, np.float64), 3)
    return out


def conv_gradients(x, kernel, strides, padding, gradient):
    """Compute the gradients of the input and the kernel of `conv`."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    to_x, to_kernel = np.zeros(padded.shape), np.zeros(kernel.shape)
    kh, kw = kernel.shape[:2]
    for b, i, j in np.ndindex(gradient.shape[:3]):
        rows = slice(i * strides[0], i * strides[0] + kh)
        columns = slice(j * strides[1], j * strides[1] + kw)
        to_x[b, rows, columns] += kernel @ gradient[b, i, j]
        to_kernel += padded[b, rows, columns][..., None] * gradient[b, i, j]
    (top, _), (left, _) = padding
    return to_x[:, top : top + x.shape[1], left : left + x.shape[2]], to_kernel
