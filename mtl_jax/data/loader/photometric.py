"""Photometric augmentation, which does not move pixels: light, colour, blur, rain, noise.

All functions take and return uint8 `[H, W, C]`; images with three channels are RGB.
"""

from statistics import NormalDist

import cv2
import numpy as np

from mtl_jax.config.options.data import AugmentOptions

# Normal quantiles, indexed with uniform bytes: ten times as fast as sampling normal numbers.
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


def change_pixels(
    image: np.ndarray, options: AugmentOptions, rng: np.random.Generator
) -> np.ndarray:
    """Apply each change with its probability, in the order of image formation in a camera.

    Returns `image` itself if nothing is changed.
    """
    if rng.random() < options.rain:
        image = add_rain(image, rng.uniform(0, options.rain_strength), rng)
    if rng.random() < options.motion:
        image = blur_by_motion(image, rng.uniform(0, options.motion_strength), rng.uniform(0, 180))
    if rng.random() < options.blur:
        image = blur(image, rng.uniform(0, options.blur_strength))
    brightness = _draw(options.brightness, options.brightness_strength, rng)
    contrast = _draw(options.contrast, options.contrast_strength, rng)
    if brightness or contrast:
        image = change_light(image, brightness, contrast)
    saturation = _draw(options.saturation, options.saturation_strength, rng)
    hue = _draw(options.hue, options.hue_strength, rng)
    if saturation or hue:
        image = change_color(image, saturation, hue)
    if rng.random() < options.noise:
        image = add_noise(image, rng.uniform(0, options.noise_strength), rng)
    return image


def _draw(probability: float, strength: float, rng: np.random.Generator) -> float:
    """Return a uniform sample of [-strength, strength] with this probability, and otherwise 0."""
    return rng.uniform(-1, 1) * strength if rng.random() < probability else 0.0


def change_light(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """Multiply the distance from the mean by 1 + `contrast`, then add 255 times `brightness`."""
    mean = cv2.mean(image.reshape(len(image), -1))[0]
    changed = (np.arange(256) - mean) * (1 + contrast) + mean + 255 * brightness
    table = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table).reshape(image.shape)


def change_color(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """Multiply the saturation by 1 + `saturation` and rotate the hue by `hue` full turns.

    Images without three channels are returned unchanged.
    """
    if image.shape[2] != 3:
        return image
    level = np.arange(256)
    tables = (
        np.rint(level + 256 * hue) % 256,
        np.rint(level * (1 + saturation)).clip(0, 255),
        level,
    )
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    changed = cv2.LUT(hsv, np.stack(tables, 1).astype(np.uint8)[None])
    return cv2.cvtColor(changed, cv2.COLOR_HSV2RGB_FULL)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of `sigma` pixels."""
    if sigma < 0.1:  # all other weights of the kernel would round to 0
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(
        image.shape
    )


def blur_by_motion(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Average along a line of `length` pixels at `angle` degrees, which simulates camera motion."""
    if length < 1:
        return image
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    turn = np.deg2rad(angle)
    reach = np.array([np.cos(turn), np.sin(turn)]) * length / 2
    # cv2.line takes subpixel positions as fixed-point numbers with 4 fractional bits.
    ends = np.rint((half + np.array([-reach, reach])) * 16).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0, 1, cv2.LINE_8, 4)
    kernel /= kernel.sum()
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def add_rain(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Draw bright parallel streaks. Their opacity and number are proportional to `strength`."""
    height, width = image.shape[:2]
    count = int(strength * height * width / 500)
    length = max(4.0, height / 20)
    slant = rng.uniform(-0.3, 0.3)
    starts = rng.uniform((-length, -length), (width, height), (count, 2))
    steps = rng.uniform(0.5, 1.5, (count, 1)) * length * np.array([[slant, 1.0]])
    lines = np.rint(np.stack([starts, starts + steps], 1)).astype(np.int32)
    streaks = np.zeros((height, width), np.uint8)
    cv2.polylines(streaks, list(lines), False, 200, 1, cv2.LINE_AA)
    streaks = cv2.GaussianBlur(streaks, (3, 3), 0.7)
    opacity = (streaks.astype(np.float32) * (strength / 200))[..., None].clip(0, 1)
    return np.rint(image + (230 - image.astype(np.float32)).clip(0) * opacity).astype(np.uint8)


def add_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with standard deviation `deviation` (in 0..255) to each value."""
    table = np.rint(_NORMAL_QUANTILES * deviation).astype(np.int16)
    noise = cv2.LUT(rng.integers(0, 256, image.shape, np.uint8), table).reshape(image.shape)
    return cv2.add(image, noise, dtype=cv2.CV_8U).reshape(image.shape)
