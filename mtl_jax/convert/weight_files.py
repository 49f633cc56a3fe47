"""Read files of named tensors. No code from a file is ever run."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mtl_jax.convert.torch_files import read_torch
from mtl_jax.errors import UserError


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read a .safetensors file or a state dict of PyTorch (.pth) as NumPy arrays by name.

    Raises UserError if the file is missing or invalid, or contains anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return read_torch(path)


def check_tensors(
    state: Mapping[str, np.ndarray],
    required: Mapping[str, tuple[int, ...] | None],
    is_unused: Callable[[str], bool],
) -> None:
    """Compare tensors with those that a model requires; the shape None allows any shape.

    Raises UserError listing tensors that are missing, of another shape, or unexpected and not
    `is_unused`.
    """
    faults = [f"unexpected: {key}" for key in state if key not in required and not is_unused(key)]
    faults += [f"missing: {key}" for key in required if key not in state]
    faults += [
        f"expected shape {shape}, got {state[key].shape}: {key}"
        for key, shape in required.items()
        if shape is not None and key in state and state[key].shape != shape
    ]
    if faults:
        raise UserError("the weights do not match the model\n" + "\n".join(faults))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError(
            f"{path}: requires safetensors; run `pip install safetensors`, or install "
            "mtl_jax[convert]"
        ) from None
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a safetensors file with supported dtypes ({error})") from None
    return {k: x if x.dtype.kind in "biu" else x.astype(np.float32) for k, x in tensors.items()}
