"""A window that shows images as they are drawn. It requires a display."""

import os
import re
import sys

import cv2
import numpy as np

from mtl_jax.errors import UserError

TITLE = "mtl_jax"
QUIT = (ord("q"), 27)  # 27: Escape


def require_display() -> None:
    """Raise UserError if no window can be opened."""
    # Checked without opening a window: Qt ends the process if it finds no display.
    if re.search(r"GUI: +NONE", cv2.getBuildInformation()):
        raise UserError(
            "--show requires an OpenCV with support for windows, and this one is headless; install "
            "opencv-contrib-python instead of opencv-contrib-python-headless, or omit --show and "
            "open the written files"
        )
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(
            "--show requires a display, and DISPLAY is not set; omit --show and open the written "
            "files"
        )


class Window:
    """Shows RGB images one after the other, until q or Escape is pressed."""

    def __init__(self) -> None:
        self._open = True

    def show(self, image: np.ndarray, wait: bool) -> None:
        """Show an image. With `wait`, return only after a key was pressed."""
        if not self._open:
            return
        cv2.imshow(TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(0 if wait else 1) & 0xFF in QUIT:
            cv2.destroyAllWindows()
            self._open = False
