"""Write functions exported by jax as a TensorFlow SavedModel."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import tensorflow as tf
from jax.export import Exported
from jax.extend.mlir.dialects import stablehlo
from tensorflow.compiler.tf2xla.python import xla

PLATFORMS = {"cpu": "CPU", "cuda": "CUDA", "tpu": "TPU"}  # jax's name, TensorFlow's


def save(exports: Mapping[str, Exported], folder: Path) -> None:
    """Write functions (images, sizes) -> arrays by name, each as a signature with its key."""
    signatures = {}
    for name, exported in exports.items():
        images, sizes = exported.in_avals
        detect = tf.function(_as_tensorflow(exported), autograph=False)
        signatures[name] = detect.get_concrete_function(
            tf.TensorSpec(images.shape, images.dtype, "images"),
            tf.TensorSpec(sizes.shape, sizes.dtype, "sizes"),
        )
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)


def _as_tensorflow(exported: Exported) -> Callable[..., dict[str, tf.Tensor]]:
    # A TensorFlow some months old cannot read the latest StableHLO, which jax writes by default.
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
            platforms=[PLATFORMS[name] for name in exported.platforms],
            # The module is not sharded, but this must match the partitioner it was exported with.
            use_shardy_partitioner=jax.config.jax_use_shardy_partitioner,  # type: ignore
        )
        return jax.tree.unflatten(exported.out_tree, found)

    return call
