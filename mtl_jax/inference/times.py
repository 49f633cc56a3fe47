"""Where the time of a run goes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# `first` is the inference of the first batch of each shape, which compiles; `draw` is also writing.
Part = Literal["decode", "first", "infer", "draw"]


class Times:
    """Seconds spent on each part, added up over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[Part, float] = {"decode": 0.0, "first": 0.0, "infer": 0.0, "draw": 0.0}
        self._lock = threading.Lock()  # several threads decode

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Add the time that the `with` takes to a part's."""
        start = time.perf_counter()
        yield
        with self._lock:
            self.seconds[part] += time.perf_counter() - start

    def line(self, images: int, seconds: float) -> str:
        """Say the split of `images` that took `seconds` by the clock on the wall."""
        first = self.seconds["first"]
        return (
            f"decode {self.seconds['decode']:.2f} s, infer {first + self.seconds['infer']:.2f} s "
            f"(the first batch of each shape, with its compilation, {first:.2f} s), "
            f"draw {self.seconds['draw']:.2f} s; {images / max(seconds, 1e-9):.1f} images a second"
        )
