"""Seeded mutations of PyTorch's files, and what `torch.load` reads from a file."""

import io
import pickle
import pickletools
import random
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

OPCODES = [code.code.encode("latin1") for code in pickletools.opcodes]


def read_with_torch(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict as NumPy arrays, floating-point ones as float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of protocols
        state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state.get("model"), Mapping):
        state = state["model"]
    return {
        key: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for key, tensor in state.items()
    }


def check_equal(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Assert that tensors have equal names, order, types, shapes and values."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (name, found[name].dtype, found[name].shape) == (name, array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def seeds() -> list[bytes]:
    """Return files of both formats: a model's state dict, a checkpoint, and unusual tensors.

    Keys of storages in the older format are addresses, which differ between processes.
    """
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer = torch.optim.Adam(network.parameters())
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    whole = torch.randn(6, 8)
    unusual = {
        "whole": whole,
        "columns": whole[:, 1::2],
        "turned": whole.T,
        "repeated": whole[0].expand(3, 8),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "complex": torch.randn(3, dtype=torch.complex64),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(kind): torch.arange(4).to(kind) for kind in (torch.uint8, torch.int16, torch.int64)},
    }
    checkpoint = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
    }
    files = []
    for value in (network.state_dict(), checkpoint, unusual):
        for is_zip in (True, False):
            file = io.BytesIO()
            torch.save(value, file, _use_new_zipfile_serialization=is_zip)
            files.append(file.getvalue())
    return files


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a file with a random change: of bytes anywhere, or of its pickle alone."""
    if rng.random() < 0.5:
        return mutate_bytes(data, rng)
    if data[:2] == b"PK":
        return repack(data, lambda pickled: mutate_pickle(pickled, rng))
    # The pickles are followed by the storages. The fourth one describes the tensors.
    file = io.BytesIO(data)
    starts = [0]
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        starts.append(file.tell())
    at = rng.choice([0, 1, 2, 3, 3, 3, 3, 4])
    start, end = starts[at : at + 2]
    return data[:start] + mutate_pickle(data[start:end], rng) + data[end:]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit, exchange two bytes or blocks, set a byte, or cut bytes away."""
    out, size = bytearray(data), len(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at, other = rng.randrange(size), rng.randrange(size)
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at], out[other] = out[other], out[at]
            case 2:
                out[at] = rng.choice([0, 1, 127, 128, 255])
            case 3:
                length = rng.choice([1, 2, 4, 8, 64])
                out[at : at + length], out[other : other + length] = (
                    out[other : other + length],
                    out[at : at + length],
                )
            case 4:
                # Headers and the directory of an archive are mostly at its start and end.
                place = rng.choice(
                    [rng.randrange(min(size, 400)), -1 - rng.randrange(min(size, 400))]
                )
                out[place] ^= 1 << rng.randrange(8)
            case _:
                return bytes(out[: rng.randrange(size)])
    return bytes(out)


def mutate_pickle(data: bytes, rng: random.Random) -> bytes:
    """Change one instruction of a pickle, or exchange, repeat, insert or remove some."""
    at = [position or 0 for _, _, position in pickletools.genops(data)]
    steps = [data[i:j] for i, j in zip(at, [*at[1:], len(data)], strict=True)]
    for _ in range(rng.choice([1, 1, 2])):
        i, j = rng.randrange(len(steps)), rng.randrange(len(steps))
        match rng.randrange(8):
            case 0:
                steps[i] = rng.choice(OPCODES) + steps[i][1:]
            case 1:
                steps[i], steps[j] = steps[j], steps[i]
            case 2:
                steps.insert(i, steps[j])
            case 3:
                del steps[i]
            case 4:
                steps.insert(
                    i, rng.choice(OPCODES) + bytes(rng.choices(range(256), k=rng.randrange(9)))
                )
            case 5:
                numbers = [k for k, step in enumerate(steps) if step[:1] in (b"K", b"M", b"J")]
                k = rng.choice(numbers or [i])
                large = rng.choice([0, 1, 2, 5, 255, 2**31, 2**40, 2**62, 2**63, -1, -(2**63)])
                encoded = pickle.encode_long(large)
                steps[k] = b"\x8a" + bytes([len(encoded)]) + encoded
            case 6:
                texts = [k for k, step in enumerate(steps) if step[:1] in (b"X", b"c")]
                k = rng.choice(texts or [i])
                position = rng.randrange(len(steps[k]))
                changed = bytearray(steps[k])
                changed[position] ^= 1 << rng.randrange(8)
                steps[k] = bytes(changed)
            case _:
                puts = [k for k, step in enumerate(steps) if step[:1] in (b"q", b"h")]
                k = rng.choice(puts or [i])
                steps[k] = steps[k][:1] + bytes([rng.randrange(40)])
        if not steps:
            break
    return b"".join(steps)


def repack(data: bytes, change) -> bytes:
    """Return an archive with its pickle changed, and with the checksum of the changed pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return out.getvalue()
