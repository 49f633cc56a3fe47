"""Files of PyTorch are read and written without it, and what is not a tensor is refused."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.convert.torch_files import read_torch, write_torch
from mtl_jax.io.stored_zip import write_members

ROOT = Path(__file__).resolve().parents[2]
STATE = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.array(3)}


NUMBERS = {
    "count": (b"\x8a\x08" + b"\xff" * 7 + b"\x0f", b"K\4\x85", b"K\1\x85"),
    "shape": (b"K\4", b"J\xff\xff\xff\x7f\x85", b"K\1\x85"),
    "repeated": (b"K\4", b"J\xff\xff\xff\x7f\x85", b"K\0\x85"),
    "negative shape": (b"K\4", b"J\xff\xff\xff\xff\x85", b"K\1\x85"),
    "stride": (b"K\4", b"K\4\x85", b"K\2\x85"),
    "negative stride": (b"K\4", b"K\4\x85", b"J\xff\xff\xff\xff\x85"),
    "dimensions": (b"K\4", b"(" + b"K\1" * 99 + b"t", b"(" + b"K\1" * 99 + b"t"),
    "overflow": (b"K\4", b"(K\0" + b"J\xff\xff\xff\x7f" * 9 + b"t", b"(" + b"K\1" * 10 + b"t"),
    "ranks": (b"K\4", b"K\4\x85", b"K\1K\1\x86"),
    "fraction": (b"K\4", b"G@\x10\0\0\0\0\0\0\x85", b"K\1\x85"),
}


def archive(path, pickled, storage=bytes(16)):
    """Write a file with a pickle and one storage."""
    members = {"data.pkl": pickled, "data/0": storage, "version": b"3\n"}
    with open(path, "wb") as file:
        write_members(file, ((f"archive/{name}", data) for name, data in members.items()))
    return path


def old(path, pickled, storages=b""):
    """Write a file as PyTorch before 1.6 does; `pickled` includes the list of its storages."""
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(x, 2) for x in start) + pickled + storages)
    return path


class Command:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch hostile",)


class Evaluated:
    def __reduce__(self):
        return eval, ("open('hostile', 'w')",)


@pytest.mark.parametrize(("hostile", "name"), [(Command, "posix.system"), (Evaluated, "eval")])
def test_code_is_refused_by_its_name(tmp_path, monkeypatch, hostile, name):
    monkeypatch.chdir(tmp_path)
    for value in (hostile(), {"a": hostile()}, {"model": {}, "args": hostile()}):
        pickled = pickle.dumps(value, 2)
        paths = archive(tmp_path / "new.pth", pickled), old(tmp_path / "old.pth", pickled)
        for path in paths:
            with refused(path.name, name):
                read_torch(path)
    assert not (tmp_path / "hostile").exists()


def one_tensor(count, shape, strides):
    """Return the pickle of a dict of one tensor, given pickled numbers."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu" + count + b"tQ"
    rest = b"K\0" + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest
    return b"\x80\x02}X\1\0\0\0a" + tensor + b"s."


@pytest.mark.parametrize("numbers", NUMBERS)
def test_tensors_beyond_their_storage(tmp_path, numbers):
    whole = archive(tmp_path / "whole.pth", one_tensor(b"K\4", b"K\4\x85", b"K\1\x85"))
    assert read_torch(whole)["a"].tolist() == [0.0] * 4
    path = archive(tmp_path / "weights.pth", one_tensor(*NUMBERS[numbers]))
    with refused("weights.pth"):
        read_torch(path)


def test_a_storage_of_two_types_or_sizes(tmp_path):
    first = one_tensor(b"K\4", b"K\4\x85", b"K\1\x85")
    for old, new in ((b"Float", b"Int"), (b"K\4tQ", b"K\2tQ")):
        second = first.replace(old, new).replace(b"K\4\x85", b"K\2\x85").replace(b"}X", b"X")
        path = archive(
            tmp_path / "weights.pth", first[:-1] + second[2:-2].replace(b"a", b"b", 1) + b"s."
        )
        with refused("weights.pth", "0"):
            read_torch(path)


WITHOUT = """
import sys
sys.modules["torch"] = None
import numpy as np
from mtl_jax.convert.torch_files import write_torch
from mtl_jax.convert.weight_files import read_tensors
state = read_tensors(sys.argv[1])
write_torch(sys.argv[2], state)
again = read_tensors(sys.argv[2])
assert list(again) == list(state)
for name in state:
    np.testing.assert_array_equal(again[name], state[name])
assert sys.modules["torch"] is None
assert not any(name.startswith(("torch.", "torchvision")) for name in sys.modules)
"""


def test_reading_and_writing_import_no_pytorch(tmp_path):
    path, again = tmp_path / "weights.pth", tmp_path / "again.pth"
    write_torch(path, STATE)
    command = [sys.executable, "-c", WITHOUT, str(path), str(again)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert path.read_bytes() == again.read_bytes()


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "weights.pth"
    write_torch(path, {"a": np.ones(2)})
    content = path.read_bytes()
    for wrong in (np.array([None]), np.array(["text"]), np.ones(2, np.dtype(">f4"))):
        with pytest.raises(ValueError, match="b: "):
            write_torch(path, {"a": np.zeros(2), "b": wrong})
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_another_kind(tmp_path):
    for name, content in {
        "empty": b"",
        "text": b"<html><body>Not found</body></html>",
        "array": b"\x93NUMPY",
        "numbers": b"\x80\x02}X\1\0\0\0aK\1s.",
        "list": b"\x80\x02].",
    }.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with refused(path.name):
            read_torch(path)
        with refused(path.name):
            read_torch(archive(path, content))
        with refused(path.name):
            read_torch(old(path, content))
    with refused("absent.pth"):
        read_torch(tmp_path / "absent.pth")
    with refused(tmp_path.name):
        read_torch(tmp_path)


def test_files_of_pytorch_before_1_6(tmp_path):
    tensor = one_tensor(b"K\4", b"K\4\x85", b"K\1\x85").replace(b"K\4tQ", b"K\4NtQ")
    keys, length = pickle.dumps(["0"], 2), (4).to_bytes(8, "little")
    values = np.arange(4, dtype=np.float32)
    path = old(tmp_path / "old.pth", tensor + keys, length + values.tobytes())
    np.testing.assert_array_equal(read_torch(path)["a"], values)
    for pickled, storages in (
        (tensor + keys, length + values.tobytes()[:-1]),
        (tensor + keys, (3).to_bytes(8, "little") + values.tobytes()),
        (tensor + keys, (2**62).to_bytes(8, "little") + values.tobytes()),
        (tensor + pickle.dumps([], 2), b""),
        (tensor + pickle.dumps(["1"], 2), length + values.tobytes()),
        (tensor + pickle.dumps(["0", "0"], 2), 2 * (length + values.tobytes())),
        (tensor + pickle.dumps({"0": 0}, 2), length + values.tobytes()),
        (tensor, b""),
    ):
        with refused("old.pth"):
            read_torch(old(path, pickled, storages))
