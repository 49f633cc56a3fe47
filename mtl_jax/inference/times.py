"""Where the time of a run goes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

# `first` is the inference of the first batch of each shape, which compiles, with its proposals;
# `propose` is those of the others; `draw` is also writing.
Part = Literal["decode", "first", "propose", "infer", "draw"]


class Times:
    """Seconds spent on each part, added up over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[Part, float] = dict.fromkeys(get_args(Part), 0.0)
        self.later = 0  # pictures of other than first batches
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
        spent = self.seconds
        total = spent["first"] + spent["propose"] + spent["infer"]
        line = (
            f"decode {spent['decode']:.2f} s, infer {total:.2f} s "
            f"(the first batch of each shape, with its compilation, {spent['first']:.2f} s), "
            f"draw {spent['draw']:.2f} s; {images / max(seconds, 1e-9):.1f} images a second"
        )
        if not spent["propose"]:
            return line
        proposals, network = (spent[part] / self.later for part in ("propose", "infer"))
        return f"{line}; later a picture takes proposals {proposals:.3f} s, network {network:.3f} s"
