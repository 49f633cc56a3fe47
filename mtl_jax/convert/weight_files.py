"""Read and write files of named tensors. No code from a file is ever run."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_whole

_MAX_RATIO = 4  # of the bytes of all tensors to those of their file; several may share their values


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read a .safetensors file, or with PyTorch a .pth file, as NumPy arrays by name.

    Raises UserError if the file is missing or invalid, or contains anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


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
        raise UserError(f"{path}: requires safetensors; install mtl_jax[convert]") from None
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a safetensors file with supported dtypes ({error})") from None
    return {k: x if x.dtype.kind in "biu" else x.astype(np.float32) for k, x in tensors.items()}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path}: reading it requires PyTorch; install torch, or convert the state dict to"
            " .safetensors on a machine that has it"
        ) from None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(m.file_size for m in archive.infolist()) > path.stat().st_size:
                    raise ValueError("its tensors are compressed")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise any exception
        reason = " ".join(str(error).splitlines()[:1])[:200] or type(error).__name__
        raise UserError(f"{path}: not a PyTorch state dict ({reason})") from None
    # Training scripts save the model's weights together with the optimizer's.
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise UserError(f"{path}: must contain a state dict, a mapping from names to tensors")
    # Views of one stored number can claim any shape.
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > _MAX_RATIO * path.stat().st_size:
        raise UserError(f"{path}: its tensors have {size:,} bytes, many more than the file")
    try:
        return {
            key: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for key, tensor in state.items()
        }
    except (RuntimeError, TypeError, NotImplementedError, ValueError):
        raise UserError(
            f"{path}: must contain dense tensors with values; save model.state_dict() of a model "
            "that is neither sparse, quantized nor on the device meta"
        ) from None


def write_torch(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors as a .pth file that `torch.load(weights_only=True)` reads, whole or not at all.

    Raises UserError without PyTorch.
    """
    path = Path(path)
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{path}: writing it requires PyTorch; install torch") from None
    # If torch opens the file itself, it does not raise OSError.
    with write_whole(path) as draft, open(draft, "wb") as file:
        torch.save({key: torch.from_numpy(x.copy()) for key, x in tensors.items()}, file)
