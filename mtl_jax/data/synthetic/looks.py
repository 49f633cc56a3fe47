"""Proportions and colours of a drawn person, from age, gender and smile.

Each feature depends on age or gender with an independent error, so that no single feature is
sufficient. The colours of skin and hair depend on neither.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mtl_jax.data.synthetic.surfaces import Surface

SMILES = ("none", "slight", "broad")
_AGE_ERROR = 6.0  # standard deviation of each feature, in years
_GENDER_ERROR = 0.6  # standard deviation of each feature; male is -1, female 1

Rng = np.random.Generator
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """A person's proportions (in half head heights) and colours (RGB)."""

    age: float
    gender: float  # -1 male, 1 female
    smile: int  # index in SMILES
    skull: Surface
    skin: Color
    hair: Color
    grown: float  # 0 a baby, 1 an adult
    eye_x: float
    eye_y: float
    eye_width: float  # half
    eye_open: float  # half
    brow_y: float
    brow_width: float  # half
    nose_y: float  # its base
    nose_width: float  # half
    nose_length: float  # distance of its tip from the face
    mouth_y: float
    mouth_width: float  # half
    mouth_curve: float  # height of its corners above its centre
    ear: float  # half height

    def aged(self, rng: Rng) -> float:
        """Return the age for one feature: the true age with a random error."""
        return self.age + _AGE_ERROR * float(rng.normal())

    def gendered(self, rng: Rng) -> float:
        """Return the gender for one feature, with an error: about -1 for male, 1 for female."""
        return self.gender + _GENDER_ERROR * float(rng.normal())


def random_look(age: float, gender: str, smile: str, rng: Rng) -> Look:
    """Choose the proportions and colours of a person."""
    sign, level = (1.0 if gender == "female" else -1.0), SMILES.index(smile)

    def grown() -> float:
        return float(np.clip((age + 1.5 * rng.normal()) / 20, 0, 1)) ** 0.7

    def vary(scale: float) -> float:
        return scale * float(rng.normal())

    def female() -> float:
        return sign + vary(_GENDER_ERROR)

    old = float(np.clip((age - 30) / 60, 0, 1))
    jaw = float(np.clip(0.36 - 0.16 * female() * grown(), 0.02, 0.75))  # how square
    skull = Surface(
        width=0.74 + 0.06 * (1 - grown()) + vary(0.02),
        depth=0.86 + vary(0.02),
        upper=(0.8, 0.2, 0.0) if rng.random() < 0.5 else (0.6, 0.3, 0.1),
        lower=(0.92 - jaw - 0.1, 0.18, jaw),
        slant=-0.12 + vary(0.02),
    )
    eye_y = -0.22 * (1 - grown()) + 0.03 + vary(0.015)
    eye_width = 0.185 - 0.05 * grown() - 0.012 * old + 0.006 * female() + vary(0.006)
    nose_y = -0.42 - 0.06 * (1 - grown()) - 0.03 * old + vary(0.015)
    return Look(
        age=age,
        gender=sign,
        smile=level,
        skull=skull,
        skin=random_skin(rng),
        hair=_random_hair(rng),
        grown=grown(),
        eye_x=0.30 + vary(0.012),
        eye_y=eye_y,
        eye_width=eye_width,
        eye_open=eye_width * (0.62 - 0.14 * grown() - 0.16 * old + 0.05 * female() + vary(0.04)),
        brow_y=eye_y + 0.19 + 0.022 * female() + vary(0.012),
        brow_width=0.18 + vary(0.01),
        nose_y=nose_y,
        nose_width=0.135 + 0.02 * grown() + 0.02 * old - 0.012 * female() + vary(0.008),
        nose_length=0.10 + 0.10 * grown() + 0.04 * old - 0.012 * female() + vary(0.012),
        mouth_y=nose_y - 0.23 + vary(0.012),
        mouth_width=0.20 + 0.04 * grown() + 0.05 * level + vary(0.012),
        mouth_curve=(-0.05, 0.04, 0.12)[level] + vary(0.012),
        ear=0.17 + 0.03 * grown() + 0.04 * old + vary(0.012),
    )


def random_skin(rng: Rng) -> Color:
    """Choose a colour of skin, from dark to light and from pale to ruddy."""
    return from_hsv(rng.uniform(4, 17), rng.uniform(40, 150), rng.uniform(95, 250))


def _random_hair(rng: Rng) -> Color:
    """Choose any colour, mostly muted, independent of age and gender."""
    if rng.random() < 0.25:  # dyed
        return from_hsv(rng.uniform(0, 180), rng.uniform(60, 180), rng.uniform(60, 230))
    return from_hsv(rng.uniform(5, 20), rng.uniform(0, 150), rng.uniform(25, 225))


def from_hsv(hue: float, saturation: float, value: float) -> Color:
    """Convert a colour from OpenCV's HSV: hue 0 to 180, saturation and value 0 to 255."""
    pixel = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return float(pixel[0]), float(pixel[1]), float(pixel[2])


def shade(color: Color, factor: float) -> Color:
    """Darken (below 1) or lighten a colour."""
    red, green, blue = (min(max(value * factor, 0.0), 255.0) for value in color)
    return red, green, blue


def mix(a: Color, b: Color, weight: float) -> Color:
    """Blend two colours; weight 1 returns b."""
    red, green, blue = ((1 - weight) * x + weight * y for x, y in zip(a, b, strict=True))
    return red, green, blue


_STEPS = np.linspace(0, 1, 9)
_BULGE = 4 * _STEPS * (1 - _STEPS)


def arc(x0: float, y0: float, x1: float, y1: float, bulge: float) -> np.ndarray:
    """Return a curve `[9, 2]` between two ends that rises by `bulge` in its middle."""
    curve = np.empty((9, 2))
    curve[:, 0] = x0 + (x1 - x0) * _STEPS
    curve[:, 1] = y0 + (y1 - y0) * _STEPS + bulge * _BULGE
    return curve


def brow(look: Look, side: int) -> np.ndarray:
    """Return the brow's middle line `[9, 2]`, from the image's left to its right."""
    x, lift = side * (look.eye_x + 0.01), 0.03 + 0.012 * look.gender
    inner, outer = look.brow_y - 0.01, look.brow_y + 0.004 * look.gender
    left, right = (inner, outer) if side > 0 else (outer, inner)
    return arc(x - look.brow_width, left, x + look.brow_width, right, lift)


def mouth(look: Look) -> np.ndarray:
    """Return the line between the lips `[9, 2]`, from the image's left to its right."""
    corner = look.mouth_y + look.mouth_curve
    return arc(-look.mouth_width, corner, look.mouth_width, corner, -look.mouth_curve)
