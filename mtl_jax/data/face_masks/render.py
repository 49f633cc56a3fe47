"""Rendering of a mask on a face: stretched panel by panel, in the light of the image."""

from typing import NamedTuple

import cv2
import numpy as np

from mtl_jax.data.face_masks.fit import COLUMNS, ROWS, Fit, Frame, grid_of
from mtl_jax.data.face_masks.textures import BANK, HEIGHT, KINDS, WIDTH, Texture, texture

_TOP = {"surgical": 0.45, "n95": 0.30, "kn95": 0.32, "cloth": 0.42, "scarf": 0.55}
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_SKIN = np.array((1.25, 0.95, 0.80), np.float32)  # colour in white light, divided by its mean
BELOW_NOSE = 0.15  # share of masks that are worn below the nose
_SMALLEST = 80  # pixels from eyes to chin; smaller masks are drawn larger and shrunk


class Wearing(NamedTuple):
    """A mask, and how it fits."""

    kind: str  # one of KINDS
    number: int  # in the kind's bank
    fit: Fit


class Masked(NamedTuple):
    image: np.ndarray  # [H, W, C] uint8
    outline: np.ndarray  # [H, W] bool: where the mask is, without straps


def draw_wearing(rng: np.random.Generator) -> Wearing:
    """Choose a random mask; a share BELOW_NOSE is worn below the nose."""
    kind = KINDS[rng.integers(len(KINDS))]
    fit = Fit(
        top=_TOP[kind] + rng.uniform(-0.12, 0.12),
        size=rng.uniform(0.96, 1.08),
        tightness=rng.uniform(0, 1),
        below_nose=bool(rng.random() < BELOW_NOSE),
        drop=rng.uniform(0.02, 0.09) + (rng.uniform(0.15, 0.35) if kind == "scarf" else 0),
    )
    return Wearing(kind, int(rng.integers(BANK)), fit)


def put_on(image: np.ndarray, frame: Frame, wearing: Wearing) -> Masked:
    """Return an image `[H, W, C]` uint8 (RGB, or gray with one channel) with a mask on its face."""
    height, width = image.shape[:2]
    drawn, grid = texture(wearing.kind, wearing.number), grid_of(frame, wearing.fit)
    around = np.concatenate([grid.reshape(-1, 2), frame.jaws[:, 0]])
    margin = 0.15 * frame.width + 2
    x1, y1 = np.maximum(np.floor(around.min(0) - margin), 0).astype(int).tolist()
    x2, y2 = np.minimum(np.ceil(around.max(0) + margin), (width, height)).astype(int).tolist()
    outline = np.zeros((height, width), bool)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return Masked(image, outline)
    part = np.ascontiguousarray(image[y1:y2, x1:x2])
    scale = int(np.clip(np.ceil(_SMALLEST / frame.width), 1, 4))
    size = ((x2 - x1) * scale, (y2 - y1) * scale)

    def into(points: np.ndarray) -> np.ndarray:
        return (points - (x1, y1)) * scale

    color, alpha = _stretch(drawn, into(grid), size)
    straps = np.zeros_like(alpha)
    if wearing.kind != "scarf":
        straps = straps_of(into(grid), into(frame.jaws), frame.width * scale, size)
    alpha, straps = (
        _soft(alpha, frame.width * scale, 0.007),
        _soft(straps, frame.width * scale, 0.004),
    )
    if scale > 1:
        color, alpha, straps = (
            cv2.resize(x, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
            for x in (color, alpha, straps)
        )
    gray = _is_gray(part)
    lit, left = _light(part, alpha, gray), 1 - _shadow(alpha, frame.width)
    strap = np.array(drawn.strap, np.float32)
    if gray:  # an image without colours keeps its tint
        color = cv2.transform(color, np.tile(_LUMA, (3, 1)))
        strap = np.full(3, strap @ _LUMA, np.float32)
    result = cv2.multiply(part, cv2.merge([left] * part.shape[2]), dtype=cv2.CV_32F)
    if straps.any():
        result = _paint(result, lit * strap, straps)
    result = _paint(result, cv2.multiply(color, lit, dtype=cv2.CV_32F), alpha)
    masked = image.copy()
    masked[y1:y2, x1:x2] = cv2.convertScaleAbs(result).reshape(part.shape)
    outline[y1:y2, x1:x2] = alpha > 127
    return Masked(masked, outline)


def _paint(image: np.ndarray, color: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blend a colour `[h, w, 3]` into an image `[h, w, 3]` or `[h, w]` by `share`, 0 to 255."""
    if image.ndim == 2:
        color = cv2.transform(color, _LUMA[None])
    share = share * np.float32(1 / 255)
    return cv2.blendLinear(color, image, share, 1 - share)


def _stretch(
    drawn: Texture, grid: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch a flat mask over a grid of points; panels that face away are not drawn."""
    panels, places, seen = _panels(grid, size)
    at = np.flatnonzero(seen)
    y, x = (n.astype(np.float32) for n in np.divmod(at.astype(np.int32), size[0]))
    number = seen.ravel()[at].astype(np.intp) - 1
    shown = np.take(np.concatenate([places, panels]), number, axis=1)
    u, v = inverse_bilinear(shown[5:], x + 0.5, y + 0.5)
    left, right = (shown[i] + v * (shown[i + 2] - shown[i]) for i in (1, 2))
    maps = np.full((2, size[1] * size[0]), -9.0, np.float32)
    maps[0, at] = (shown[0] + u) * ((WIDTH - 1) / (COLUMNS - 1))
    maps[1, at] = (left + u * (right - left)) * (HEIGHT - 1)
    maps = maps.reshape(2, size[1], size[0])
    # The colour continues beyond its edge, so that a soft edge is not blended with black.
    color = cv2.remap(drawn.color, maps[0], maps[1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    alpha = cv2.remap(drawn.alpha, maps[0], maps[1], cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT)
    return color, alpha


def _panels(grid: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the panels of a grid that face the camera, those of the farther side first.

    The arrays are each panel's corner and edges `[8, n]`, its column and its corners' positions
    down the mask, upper two first, `[5, n]`, and the panel, from 1, that each pixel shows `[h, w]`.
    """
    lengths = np.linalg.norm(np.diff(grid, axis=0), axis=-1)
    down = np.concatenate([np.zeros((1, COLUMNS)), lengths.cumsum(0)]) / lengths.sum(0)
    spans = np.linalg.norm(grid[:, [0, -1]] - grid[:, [2]], axis=-1).sum(0)
    panels, places, seen = [], [], np.zeros((size[1], size[0]), np.uint8)
    for column in (0, 1, 3, 2) if spans[0] < spans[1] else (3, 2, 0, 1):
        for row in range(ROWS - 1):
            (a, b), (d, c) = grid[row : row + 2, column : column + 2]
            if _cross(c - a, d - b) < 4:  # twice its area
                continue
            panels.append(np.concatenate([a, b - a, d - a, a - b + c - d]))
            places.append([column, *down[row : row + 2, column : column + 2].ravel()])
            corners = np.rint(np.stack([a, b, c, d]) - 0.5).astype(np.int32)
            cv2.fillConvexPoly(seen, corners, len(panels))
    shape = (-1, 8), (-1, 5)
    flat = [
        np.array(x, np.float32).reshape(s).T for x, s in zip((panels, places), shape, strict=True)
    ]
    return flat[0], flat[1], seen


def inverse_bilinear(panels: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the positions of points in their panels `[8, N]`, 0 to 1 across and down.

    Two panels agree along their common edge, where homographies would tear the mask. Source:
    Quilez, Inverse bilinear interpolation.
    """
    ax, ay, ex, ey, fx, fy, gx, gy = panels
    hx, hy = x - ax, y - ay
    square, rest = gx * fy - gy * fx, hx * ey - hy * ex
    linear = ex * fy - ey * fx + hx * gy - hy * gx
    root = np.sqrt(np.maximum(linear * linear - 4 * square * rest, 0))
    v = np.clip(-2 * rest / np.maximum(linear + root, 1e-3), 0, 1)
    run_x, run_y = ex + gx * v, ey + gy * v
    across = np.abs(run_x) > np.abs(run_y)
    gap = np.where(across, hx - fx * v, hy - fy * v)
    return np.clip(gap / np.where(across, run_x, run_y), 0, 1), v


def _cross(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def straps_of(
    grid: np.ndarray, jaws: np.ndarray, width: float, size: tuple[int, int]
) -> np.ndarray:
    """Draw the straps from a mask's corners to each visible ear.

    The lower strap is omitted if it would lie on the upper one, as on a frontal face.
    """
    drawn = np.zeros((size[1], size[0]), np.uint8)
    thickness = max(1, round(0.013 * width))
    reaches = jaws[:, 0] - grid[1, 2]
    one_side = reaches[0] @ reaches[1] > 0  # a profile: the nearer ear is behind the face
    for column, jaw in ((0, 0), (4, 1)):
        outward, reach = grid[1, column] - grid[1, 2], reaches[jaw]
        if one_side and np.linalg.norm(reach) < np.linalg.norm(reaches[1 - jaw]):
            continue
        if outward @ reach <= 0 or np.linalg.norm(outward) < 0.3 * width:
            continue  # the ear is behind the face
        away = 0.03 * width * outward / (np.linalg.norm(outward) + 1e-6)
        corners = 0.85 * grid[0, column] + 0.15 * grid[1, column], grid[2, column]
        along = jaws[jaw, 0] - corners[0]
        gap = abs(_cross(along, jaws[jaw, 1] - corners[0])) / (np.linalg.norm(along) + 1e-6)
        for corner, ear in list(zip(corners, jaws[jaw], strict=False))[: 1 + (gap > 0.06 * width)]:
            # The strap begins below the corner, which is round on many masks.
            sewn = np.stack([grid[1, column], corner])
            sewn += 0.06 * (grid[1, 2] - sewn)
            line = np.rint((np.concatenate([sewn, ear[None] + away]) - 0.5) * 16).astype(np.int32)
            cv2.polylines(drawn, [line], False, 255, thickness, cv2.LINE_AA, 4)
    return drawn


def _soft(image: np.ndarray, width: float, share: float) -> np.ndarray:
    sigma = max(0.4, share * width)
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _light(part: np.ndarray, alpha: np.ndarray, gray: bool) -> np.ndarray:
    """Return the factor `[h, w, 3]` by which the light of the face changes a mask's colours.

    The light is the low-frequency part of the face's brightness. The mean determines the exposure
    and, partly, the tint of the lamp.
    """
    rgb = np.repeat(part, 3, 2) if part.shape[2] == 1 else part
    small = cv2.resize(rgb, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    weight = cv2.resize(alpha, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) + 1
    sigma = 1.6
    spread = cv2.GaussianBlur(weight, (0, 0), sigma)
    # Weighted, so that the colours of the background have nearly no influence.
    broad = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma) / spread[..., None]
    mean = (small * weight[..., None]).sum((0, 1)) / weight.sum()
    brightness, level = broad @ _LUMA, float(mean @ _LUMA) + 1
    shape = np.clip(brightness / level, 0.5, 1.35) ** 0.9
    exposure = np.clip((level / 140) ** 0.6, 0.3, 1.0)
    tint = (mean + 4) / (mean.mean() + 4)  # nearly black pixels have no reliable tint
    tint = tint if gray else (tint / _SKIN) ** 0.35
    lit = np.clip(shape * exposure, 0.1, 1.06)[..., None] * tint
    return cv2.resize(lit.astype(np.float32), part.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _is_gray(part: np.ndarray) -> bool:
    """Return whether an image part `[h, w, C]` has no colours except one tint, such as sepia.

    Such colours are a function of the brightness.
    """
    if part.shape[2] == 1:
        return True
    small = cv2.resize(part, (16, 16), interpolation=cv2.INTER_AREA).reshape(-1, 3) / 255
    brightness = small @ _LUMA
    curve = np.vander(brightness, 3)
    off = small - brightness[:, None]
    off -= curve @ np.linalg.lstsq(curve, off, rcond=None)[0]
    return bool(np.ptp(small, axis=1).max() < 0.04 or np.abs(off).max() < 0.015)


def _shadow(alpha: np.ndarray, width: float) -> np.ndarray:
    """Return how much darker the face is beside the mask's edge, mostly below it."""
    shift = max(1, round(0.012 * width))
    cast = cv2.GaussianBlur(alpha, (0, 0), max(0.6, 0.018 * width)).astype(np.float32)
    cast = cv2.copyMakeBorder(cast, shift, 0, 0, 0, cv2.BORDER_REPLICATE)[: len(alpha)]
    return cast * np.float32(0.28 / 255)
