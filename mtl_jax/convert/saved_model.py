"""A function of jax as a TensorFlow SavedModel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tensorflow as tf
from jax import export
from jax.extend.mlir.dialects import stablehlo
from tensorflow.compiler.tf2xla.python import xla

PLATFORMS = {"cpu": "CPU", "cuda": "CUDA"}  # jax's name, TensorFlow's


def save(
    function: Callable[..., dict[str, Any]],
    shapes: Sequence[tuple[jax.ShapeDtypeStruct, ...]],
    folder: Path,
) -> None:
    """Write `function(images, sizes)` with a signature `detect_HxW` for each pair of shapes."""
    signatures = {}
    for images, sizes in shapes:
        _, height, width, _ = images.shape
        name = f"detect_{height}x{width}"
        specs = (
            tf.TensorSpec(images.shape, images.dtype, "images"),
            tf.TensorSpec(sizes.shape, sizes.dtype, "sizes"),
        )
        detect = tf.function(_as_tensorflow(function, images, sizes), autograph=False)
        signatures[name] = detect.get_concrete_function(*specs)
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)


def _as_tensorflow(
    function: Callable[..., dict[str, Any]], *shapes: jax.ShapeDtypeStruct
) -> Callable[..., dict[str, tf.Tensor]]:
    exported = export.export(jax.jit(function), platforms=tuple(PLATFORMS))(*shapes)
    # jax2tf writes for programs of the last four weeks, which a TensorFlow of some months is not.
    version = stablehlo.get_version_from_compatibility_requirement(
        stablehlo.StablehloCompatibilityRequirement.WEEK_12
    )
    artifact = stablehlo.serialize_portable_artifact_str(exported.mlir_module(), version)

    def call(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        found: Any = xla.call_module(
            arguments,
            version=exported.calling_convention_version,
            module=artifact,
            Sout=[aval.shape for aval in exported.out_avals],
            Tout=[tf.dtypes.as_dtype(aval.dtype) for aval in exported.out_avals],
            platforms=list(PLATFORMS.values()),
            # Nothing here is sharded; the attribute must say as what the module was written.
            use_shardy_partitioner=jax.config.jax_use_shardy_partitioner,  # type: ignore
        )
        return jax.tree.unflatten(exported.out_tree, found)

    return call
