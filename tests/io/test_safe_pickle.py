"""Pickles are read without running them, and in bounded memory and time."""

import io
import pickle
import struct
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import pytest

from mtl_jax.io.safe_pickle import Unpickler, counter, ordered_dict

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"collections.OrderedDict": ordered_dict, "collections.Counter": counter}


def load(data, **options):
    return Unpickler(io.BytesIO(data), NAMES, **options).load()


def test_plain_values_are_read_as_python_reads_them():
    values = [
        *(None, True, False, 0, 255, -1, 65535, 2**31 - 1, -(2**31), 2**40, -(2**70), 0.1, "", "ö"),
        *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], list(range(2000)), {}, {1: 2}),
        {str(i): [i, (i, {})] for i in range(300)},
        OrderedDict(a=1, b=OrderedDict()),
        Counter("abca"),
    ]
    for value in [*values, values]:
        assert load(pickle.dumps(value, 2)) == value


def test_objects_are_shared_and_can_contain_themselves():
    part = [1]
    found = load(pickle.dumps({"a": part, "b": part, "c": [part]}, 2))
    assert found["a"] is found["b"] is found["c"][0]
    part.append(part)
    found = load(pickle.dumps(part, 2))
    assert found[1] is found


def test_persistent_ids_are_converted():
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("number", str(obj)) if isinstance(obj, int) else None

    file = io.BytesIO()
    Pickler(file, 2).dump(["a", 3])
    assert load(file.getvalue(), refer=lambda found: found) == ["a", ("number", "3")]
    with pytest.raises(ValueError, match="damaged"):
        load(file.getvalue())


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"(N.",
        b"0.",
        b"\x85.",
        b"N\x86.",
        b"t.",
        b"h\0.",
        b"q\0N.",
        b"Na.",
        b"]a.",
        b"(e.",
        b"NNNs.",
        b"}(Nu.",
        b"}NR.",
        b"})R.",
        b"N}b.",
        b"}}b.",
        b"]Ns.",
        b"}]Ns.",
        b"})Ns.",
        b"X\2\0\0\0\xff\xfe.",
        b"X\4\0\0\0ab.",
        b"U\xffab.",
        b"ccollections\nOrderedDict\nNb.",
        b"ccollections\nOrderedDict\n(K\1tR.",
        b"ccollections\nOrderedDict\n]K\1a\x85R.",
        b"ccollections\nOrderedDict",
        b"ccollections\n\xff\n.",
        b"c" + b"x" * 500 + b"\nname\n.",
        b"ccollections\nCounter\n)R.",
        b"\x80",
        b"\x82\1.",
        b"\x81.",
        b"i.",
        b"o.",
    ],
)
def test_damaged_pickles(data):
    with pytest.raises(ValueError, match=r"pickle"):
        load(data)


@pytest.mark.parametrize(
    "name", ["posix.system", "builtins.eval", "collections.deque", "torch.load"]
)
def test_names_are_refused(name):
    module, _, function = name.rpartition(".")
    call = f"c{module}\n{function}\n".encode() + text(b"1") + b"\x85R."
    with pytest.raises(ValueError, match=name):
        load(call)


BOMBS = {
    "number of an object": b"}r\xff\xff\xff\xff.",
    "memo": b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(2_000_000)) + b".",
    "long text": b"X\xff\xff\xff\xff.",
    "long number": b"\x8b\xff\xff\xff\x7f.",
    "long bytes": b"\x8e" + b"\xff" * 7 + b"\x0f.",
    "frame": b"\x95" + b"\xff" * 7 + b"\x0f.",
    "marks": b"(" * 4_000_000,
    "lists": b"]" * 4_000_000,
    "nested tuples": b")" + b"\x85" * 900_000 + b".",
    "nested lists": b"]" * 450_000 + b"a" * 449_999 + b".",
    "nested key": b"})" + b"\x85" * 900_000 + b"Ns.",
    "doubled key": b"})q\0" + b"h\0h\0\x86q\0" * 60 + b"Ns.",
    "equal hashes": b"}("
    + b"".join(pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"N" for i in range(1, 50_000))
    + b"u.",
    "copies": b"]q\0("
    + b"K\1N\x86" * 50_000
    + b"e\x85q\1ccollections\nOrderedDict\nq\2"
    + b"h\2h\1R" * 100_000
    + b".",
}
LIMITED = """
import io, resource, sys
from mtl_jax.io.safe_pickle import Unpickler, ordered_dict
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 160 * 10**6,) * 2)
data = sys.stdin.buffer.read()
try:
    Unpickler(io.BytesIO(data), {"collections.OrderedDict": ordered_dict}).load()
    print("read")
except ValueError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="requires /proc")
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_use_little_memory_and_time(bomb):
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, cwd=ROOT, input=BOMBS[bomb], capture_output=True, timeout=600)
    harmless = bomb in ("number of an object", "nested tuples", "nested lists")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [b"read" if harmless else b"refused"]
