"""Traced programs, kept beside the compiled ones, so that later starts do not trace the network.

The compilation cache spares XLA's work, but not jax's: tracing and lowering a Mask R-CNN takes
three seconds of processor time, reading its exported program 0.3 s.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
from jax import export

import mtl_jax
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.digests import source_digest
from mtl_jax.io.regular import read_regular
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.runs.setup import Setup
from mtl_jax.types import Array, Detections, Inputs, Proposals, Variables

LIMIT = 2**28  # bytes of all kept programs; a Mask R-CNN's has 3e5
_SUFFIX = ".stablehlo"
_DIGEST = hashlib.sha256().digest_size  # bytes, at the start of a file
Predict = Callable[[Variables, Inputs], Detections]


class TracedPrograms:
    """The kept programs of one model in the folder `cache`.

    `model` describes all that the model's functions depend on, besides this package's source, the
    versions of libraries, jax's options and the device, which are part of the names, too. A file
    contains StableHLO as written by `jax.export`, without weights and without Python code, and its
    digest. What is missing, damaged or cannot be kept is traced.
    """

    def __init__(self, cache: Path, model: Mapping[str, Any]):
        self._cache = cache
        self._model = [model, _environment()]

    def _folder(self, variables: Variables) -> Path:
        described = json.dumps([*self._model, _signature(variables)], sort_keys=True, default=repr)
        return self._cache / hashlib.sha256(described.encode()).hexdigest()

    def is_empty(self, variables: Variables) -> bool:
        """Return whether no program for variables of these shapes is kept."""
        return not any(self._folder(variables).glob(f"[!.]*{_SUFFIX}"))  # without drafts

    def keep(self, predict: Predict) -> Predict:
        """Return `predict`, compiled, with its program kept for each shape of its inputs."""
        programs: dict[str, Callable[..., dict[str, Any]]] = {}

        def traced(variables: Variables, *arrays: Any) -> dict[str, Any]:
            images, sizes, valid, proposals = arrays
            named = proposals and Proposals(*proposals)
            found = predict(variables, Inputs(images, sizes, valid, named))
            return {**found._asdict(), "attributes": dict(found.attributes)}

        def detect(variables: Variables, inputs: Inputs) -> Detections:
            # Tuples, because `jax.export` cannot write the classes of this package.
            arrays = *inputs[:-1], inputs.proposals and tuple(inputs.proposals)
            shapes = json.dumps(_signature(arrays))
            if shapes not in programs:
                name = hashlib.sha256(shapes.encode()).hexdigest() + _SUFFIX
                path = self._folder(variables) / name
                programs[shapes] = _load(path) or self._make(path, traced, variables, arrays)
            return Detections(**programs[shapes](variables, *arrays))

        return detect

    def _make(
        self,
        path: Path,
        traced: Callable[..., dict[str, Any]],
        variables: Variables,
        arrays: tuple[Any, ...],
    ) -> Callable[..., dict[str, Any]]:
        try:
            content = export.export(jax.jit(traced))(variables, *arrays).serialize()
        except Exception:  # an operation that jax does not export; or an error, raised again below
            return jax.jit(traced)
        with suppress(OSError):  # a full disk, or a folder that cannot be written
            with write_whole(path) as draft:
                draft.write_bytes(hashlib.sha256(content).digest() + content)
            _remove_oldest(self._cache, LIMIT)
        # Read again, so that XLA's cache finds the same program at the next start.
        return _compile(export.deserialize(content))


def open_programs(setup: Setup) -> TracedPrograms | None:
    """Return the kept programs of a model, below the folder of the compilation cache.

    None if there is no such folder on this computer, if jax's caches are disabled, if several
    devices run a program, or if the model has code outside of this package, whose edits would not
    be noticed.
    """
    options = jax.config.values
    cache = options["jax_compilation_cache_dir"]
    is_local = cache and "://" not in cache
    if not (is_local and options["jax_enable_compilation_cache"] and jax.device_count() == 1):
        return None
    kinds = [*setup.attributes, *map(head_of, setup.attributes)]
    if not all(type(kind).__module__.startswith("mtl_jax.") for kind in kinds):
        return None
    return TracedPrograms(
        Path(cache) / "traced", {**setup.metadata, "views": repr(setup.experiment.views)}
    )


def _load(path: Path) -> Callable[..., dict[str, Any]] | None:
    """Return the program of a file; None if it is missing or damaged."""
    try:
        content = read_regular(path, LIMIT)
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        program = export.deserialize(bytearray(content[_DIGEST:]))
    except Exception:  # no file, or one of an unknown kind
        return None
    with suppress(OSError):
        os.utime(path)  # of its last use
    return _compile(program)


def _compile(program: export.Exported) -> Callable[..., dict[str, Any]]:
    def predict(*arguments: Any) -> dict[str, Any]:  # the program's name in profiles
        return program.call(*arguments)  # pyright: ignore[reportReturnType]

    return jax.jit(predict)


def _signature(tree: Any) -> list[tuple[str, tuple[int, ...], str]]:
    """Return the paths, shapes and dtypes of the arrays of a tree."""
    leaves: list[tuple[Any, Array]] = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), x.shape, np.dtype(x.dtype).name) for path, x in leaves]


def _environment() -> dict[str, Any]:
    """Return what a traced program depends on besides the model and the shapes."""
    device = jax.devices()[0]
    options = {name: value for name, value in jax.config.values.items() if "cache" not in name}
    versions = [each.__version__ for each in (mtl_jax, jax, jaxlib, flax, np)]
    return {
        "source": source_digest(),
        "versions": [*versions, platform.python_version()],
        "device": [device.platform, device.device_kind],
        "options": sorted((name, repr(value)) for name, value in options.items()),
    }


def _remove_oldest(cache: Path, limit: int) -> None:
    """Remove the least recently used programs until at most `limit` bytes are left."""
    files = [(path.stat(), path) for path in cache.glob(f"*/*{_SUFFIX}")]
    total = 0
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns, reverse=True):
        total += stat.st_size
        if total > limit:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it contains others
                path.parent.rmdir()
