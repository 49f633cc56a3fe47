"""Multi-task Mask R-CNN and related models in JAX: object detection, instance segmentation and
per-instance attributes.
"""

from typing import Any

from mtl_jax.images.limits import limit_opencv

__version__ = "0.1.0"
limit_opencv()


def __getattr__(name: str) -> Any:
    # Imported on first use: `import mtl_jax.data` must not load jax.
    if name == "Predictor":
        from mtl_jax.inference.predictor import Predictor

        return Predictor
    if name == "draw":
        from mtl_jax.visualize.drawing.draw import draw

        return draw
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
