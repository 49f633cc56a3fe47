"""Time spent on each part of a prediction run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

# `first`: proposals and inference of the first batch of each shape, which includes compilation.
# `propose` and `infer`: the same of all later batches. `draw` includes writing the files.
Part = Literal["decode", "first", "propose", "infer", "draw"]


class Times:
    """Seconds spent on each part, summed over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[Part, float] = dict.fromkeys(get_args(Part), 0.0)
        self.later = 0  # images in batches that are not the first of their shape
        self._lock = threading.Lock()  # several threads decode

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Add the duration of the `with` block to `part`."""
        start = time.perf_counter()
        yield
        with self._lock:
            self.seconds[part] += time.perf_counter() - start

    def line(self, images: int, seconds: float) -> str:
        """Return a summary for `images` images that took `seconds` of wall-clock time."""
        spent = self.seconds
        total = spent["first"] + spent["propose"] + spent["infer"]
        line = (
            f"decode {spent['decode']:.2f} s, infer {total:.2f} s "
            f"({spent['first']:.2f} s for the first batch of each shape, with compilation), "
            f"draw {spent['draw']:.2f} s; {images / max(seconds, 1e-9):.1f} images per second"
        )
        if not spent["propose"]:
            return line
        proposals, network = (spent[part] / self.later for part in ("propose", "infer"))
        return f"{line}; later, per image: proposals {proposals:.3f} s, network {network:.3f} s"
