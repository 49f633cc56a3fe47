"""A window that shows pictures as they are drawn, where there is a display."""

import os
import re
import sys

import cv2
import numpy as np

from mtl_jax.errors import UserError

TITLE = "mtl_jax"
QUIT = (ord("q"), 27)  # 27: Escape


def require_display() -> None:
    """Raise UserError where no window can be opened."""
    # Asked without opening one: Qt ends the process where it finds no display.
    if re.search(r"GUI: +NONE", cv2.getBuildInformation()):
        raise UserError(
            "--show: this OpenCV was built without windows (headless); install "
            "opencv-contrib-python in the place of opencv-contrib-python-headless, or leave --show "
            "out and look at the files"
        )
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(
            "--show: there is no display (DISPLAY is not set); leave --show out and look at the "
            "files"
        )


class Window:
    """Shows RGB pictures one after the other, until q or Escape is pressed."""

    def __init__(self) -> None:
        self._open = True

    def show(self, picture: np.ndarray, wait: bool) -> None:
        """Show one; `wait` for a key, as a video's frames do not."""
        if not self._open:
            return
        cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(0 if wait else 1) & 0xFF in QUIT:
            cv2.destroyAllWindows()
            self._open = False
