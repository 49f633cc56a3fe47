"""Read and write files of named tensors. No code from a file is ever run."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_whole


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read a .safetensors file, or with PyTorch a .pth file, as NumPy arrays by name.

    Raises UserError where the file is no such file, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def check_tensors(
    state: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...] | None],
    is_unused: Callable[[str], bool],
) -> None:
    """Compare tensors with those that a model wants, of given shapes or of any.

    Raises UserError that lists what lacks, has another shape, or is left over and not `is_unused`.
    """
    faults = [f"left over: {key}" for key in state if key not in wanted and not is_unused(key)]
    faults += [f"lacking: {key}" for key in wanted if key not in state]
    faults += [
        f"of shape {state[key].shape}, not {shape}: {key}"
        for key, shape in wanted.items()
        if shape is not None and key in state and state[key].shape != shape
    ]
    if faults:
        raise UserError("the weights are of another model\n" + "\n".join(faults))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        import ml_dtypes  # noqa: F401  NumPy knows bfloat16 by it
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError(f"{path}: reading it wants safetensors; install mtl_jax[convert]") from None
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no safetensors file of known numbers ({error})") from None
    return {k: x if x.dtype.kind in "biu" else x.astype(np.float32) for k, x in tensors.items()}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path}: reading it wants PyTorch; install torch, or save the state dict as"
            " .safetensors where torch is"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a PyTorch state dict ({reason})") from None
    # Training scripts save the model's weights beside the optimizer's.
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise UserError(f"{path}: holds no state dict, a mapping from names to tensors")
    return {
        key: value.float().numpy() if value.is_floating_point() else value.numpy()
        for key, value in state.items()
    }


def write_torch(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors as a .pth file that `torch.load(weights_only=True)` reads, whole or not at all.

    Raises UserError without PyTorch.
    """
    path = Path(path)
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{path}: writing it wants PyTorch; install torch") from None
    # torch's own opening gives no OSError.
    with write_whole(path) as draft, open(draft, "wb") as file:
        torch.save({key: torch.from_numpy(x.copy()) for key, x in tensors.items()}, file)
