"""A function of jax as a TensorFlow SavedModel."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import tensorflow as tf
from jax.experimental import jax2tf


def save(
    function: Callable, shapes: Sequence[tuple[jax.ShapeDtypeStruct, ...]], folder: Path
) -> None:
    """Write `function(pixels, sizes)` with a signature `detect_HxW` for each pair of shapes."""
    module = tf.Module()
    converted = tf.function(
        jax2tf.convert(
            function, with_gradient=False, native_serialization_platforms=["cpu", "cuda"]
        ),
        autograph=False,
    )
    signatures = {}
    for pixels, sizes in shapes:
        specs = (
            tf.TensorSpec(pixels.shape, pixels.dtype, "images"),
            tf.TensorSpec(sizes.shape, sizes.dtype, "sizes"),
        )
        _, height, width, _ = pixels.shape
        signatures[f"detect_{height}x{width}"] = converted.get_concrete_function(*specs)
    module.detect = converted
    tf.saved_model.save(module, str(folder), signatures=signatures)
