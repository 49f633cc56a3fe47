"""Files of PyTorch are read as PyTorch reads them, and it reads those that are written."""

import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.convert.torch_files import read_torch, write_torch
from mtl_jax.errors import UserError

torch = pytest.importorskip("torch")
mutations = pytest.importorskip("convert.torch_mutations")
ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])


def save(path, value, is_zip=True, **options):
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, **options)
    return path


def check_read(path):
    """Assert that the file is read as PyTorch reads it, and return the tensors."""
    found = read_torch(path)
    mutations.check_equal(found, mutations.read_with_torch(path))
    return found


@BOTH
def test_layouts_and_types(tmp_path, is_zip):
    torch.manual_seed(0)
    whole = torch.randn(6, 8)
    kinds = "float64 float16 bfloat16 uint8 int8 int16 int32 int64 bool complex64 complex128"
    state = {
        "whole": whole,
        "row": whole[2],
        "columns": whole[1:, 1::3],
        "turned": whole.T,
        "window": whole.as_strided((3, 4), (2, 1), 5),
        "repeated": whole[0].expand(3, 8),
        "scalar": torch.tensor(2.5),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        **{f"empty {i}": torch.zeros(shape) for i, shape in enumerate([(0,), (0, 4), (3, 0, 2)])},
        **{kind: (100 * torch.randn(7)).to(getattr(torch, kind)) for kind in kinds.split()},
        "not finite": torch.tensor([np.nan, np.inf, -np.inf, 1e300, 1e-310], dtype=torch.float64),
        "half bits": torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16),
        "brain bits": torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "Straße/重み": torch.ones(1),
    }
    found = check_read(save(tmp_path / "weights.pth", state, is_zip))
    assert found["half bits"].dtype == found["float64"].dtype == np.float32
    assert np.shares_memory(found["whole"], found["turned"])
    found["row"][0] = 7.0  # as PyTorch's, the arrays are writable and share their values
    assert found["whole"][2, 0] == 7.0


def test_types_that_have_no_storage_type(tmp_path):
    bits = torch.arange(256).to(torch.uint8)
    state = {
        **{
            kind: torch.arange(5).to(getattr(torch, kind))
            for kind in ("uint16", "uint32", "uint64")
        },
        **{
            kind: bits.view(getattr(torch, kind))
            for kind in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
        },
        "float8_e8m0fnu": bits[:255].view(torch.float8_e8m0fnu),
    }
    check_read(save(tmp_path / "weights.pth", {k: x.clone() for k, x in state.items()}))


@BOTH
def test_a_module_and_a_checkpoint(tmp_path, is_zip):
    for number, data in enumerate(mutations.seeds()[:4]):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(data)
        assert "0.weight" in check_read(path)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.sharded = True
    check_read(save(tmp_path / "attribute.pth", {"a": parameter}, is_zip))


def test_only_storages_of_the_model_are_read(tmp_path):
    value = {"model": {"a": torch.ones(4)}, "optimizer": {"a": torch.zeros(10**6)}}
    path = save(tmp_path / "checkpoint.pth", value)
    read_torch(path)
    tracemalloc.start()
    check = read_torch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(check) == ["a"]
    assert peak < 10**6


def test_a_view_in_a_storage_of_files_before_0_4(tmp_path):
    """PyTorch 0.3 wrote parts of storages as views; the key of the view is in the pickle only."""
    path = save(tmp_path / "old.pth", {"a": torch.arange(6.0)}, is_zip=False)
    data = path.read_bytes()
    whole = b"K\x06Ntq\x07QK\x00K\x06\x85q\x08K\x01\x85"
    view = b"K\x06X\x04\0\0\0viewK\x02K\x03\x87tq\x07QK\x01K\x02\x85q\x08K\x01\x85"
    assert whole in data
    path.write_bytes(data.replace(whole, view))
    assert check_read(path)["a"].tolist() == [3.0, 4.0]
    path.write_bytes(data.replace(whole, view.replace(b"K\x02K\x03\x87", b"K\x02K\x05\x87")))
    with refused("old.pth"):
        read_torch(path)


def test_names_and_lists_of_python_2(tmp_path):
    """Its pickles contain byte strings, and the items of an OrderedDict as a list."""
    path = save(tmp_path / "weights.pth", {"ab": torch.ones(2)})
    pairs = b"ccollections\nOrderedDict\n]]("
    change = [
        (b"}q\x00X\x02\0\0\0ab", pairs + b"U\x02ab"),
        (b"s.", b"ea\x85R."),
    ]

    def rewrite(pickled):
        for old, new in change:
            assert old in pickled
            pickled = pickled.replace(old, new)
        return pickled

    path.write_bytes(mutations.repack(path.read_bytes(), rewrite))
    assert list(check_read(path)) == ["ab"]


def test_both_orders_of_bytes(tmp_path):
    state = {
        "a": torch.arange(3.0),
        "half": torch.arange(3.0).half(),
        "complex": torch.tensor([1 + 2j]),
        "long": torch.arange(3),
    }
    other = {"little": "big", "big": "little"}[sys.byteorder]
    out = io.BytesIO()
    path = save(tmp_path / "weights.pth", state)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = other.encode() if name.endswith("byteorder") else old.read(name)
            new.writestr(name, data)
    path.write_bytes(out.getvalue())
    check_read(path)
    path.write_bytes(out.getvalue().replace(other.encode(), b"b" * len(other)))
    with refused("weights.pth"):
        read_torch(path)
    path = save(tmp_path / "untyped.pth", {"a": torch.arange(3).to(torch.uint16)})
    changed = path.read_bytes().replace(sys.byteorder.encode(), other.encode())
    assert len(changed) >= 3
    path.write_bytes(changed)
    with refused("untyped.pth"):
        read_torch(path)


@BOTH
def test_files_without_checksums(tmp_path, is_zip):
    computes = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "weights.pth", {"a": torch.arange(6.0)}, is_zip)
    finally:
        torch.serialization.set_crc32_options(computes)
    check_read(path)


def test_a_changed_value_does_not_match_its_checksum(tmp_path):
    path = save(tmp_path / "weights.pth", {"a": torch.arange(6.0)})
    data = path.read_bytes()
    number = struct.pack("<f", 5.0)
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, struct.pack("<f", 6.0)))
    with refused("weights.pth"):
        read_torch(path)


LAYOUTS = [
    "resnet18",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "resnet50",
            "convnext_tiny",
            "maskrcnn_resnet50_fpn",
            "maskrcnn_resnet50_fpn_v2",
            "fasterrcnn_resnet50_fpn",
            "fasterrcnn_resnet50_fpn_v2",
            "keypointrcnn_resnet50_fpn",
        )
    ),
]


@pytest.mark.parametrize("name", LAYOUTS)
def test_models_of_torchvision(tmp_path, name):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    options = {"weights_backbone": None} if "rcnn" in name else {}
    state = models.get_model(name, weights=None, **options).state_dict()
    path = tmp_path / f"{name}.pth"
    for is_zip in (True, False):
        check_read(save(path, state, is_zip))
        path.unlink()
    write_torch(path, {key: tensor.numpy() for key, tensor in state.items()})
    check_read(path)


def test_200_mutated_files(tmp_path):
    seeds, path, outcomes = mutations.seeds(), tmp_path / "mutated.pth", []
    for seed in seeds:
        path.write_bytes(seed)
        check_read(path)
    for number in range(200):
        data = mutations.mutate(seeds[number % len(seeds)], random.Random(number))
        path.write_bytes(data)
        tracemalloc.start()
        try:
            found = read_torch(path)
        except UserError as error:
            found, message = None, str(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(data) + 300_000, number
        assert found is not None or "\n" not in message
        if found is not None:
            mutations.check_equal(found, mutations.read_with_torch(path))
        outcomes.append(found is None)
    assert 20 < sum(outcomes) < 180


def test_a_whole_model_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with refused("model.pth", "torch.nn.modules.linear.Linear"):
        read_torch(tmp_path / "model.pth")


LIMITED = """
import resource, sys
from mtl_jax.convert.torch_files import read_torch
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]),) * 2)
print(sum(array.nbytes for array in read_torch(sys.argv[2]).values()))
"""


@BOTH
@pytest.mark.skipif(sys.platform != "linux", reason="requires /proc")
def test_memory_is_less_than_twice_the_file(tmp_path, is_zip):
    state = {str(i): torch.ones(10**6) for i in range(20)} | {"large": torch.ones(20 * 10**6)}
    path = save(tmp_path / "weights.pth", state, is_zip)
    for share, is_enough in ((1.2, True), (0.9, False)):
        command = [sys.executable, "-c", LIMITED, str(int(share * path.stat().st_size)), str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert (done.returncode == 0) == is_enough, done.stderr
        assert ("160000000" in done.stdout) == is_enough
        assert is_enough or "UserError" in done.stderr


def test_written_files_are_pytorchs(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(5, 4))
    kinds = ["float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "bool"]
    arrays = {
        **{kind: numbers.astype(kind) for kind in [*kinds, "complex64", "complex128"]},
        "scalar": np.array(3.5),
        "turned": numbers.T,
        "part": numbers[::2, 1:3],
        "empty": np.zeros((0, 4), np.float32),
        "Straße/重み": np.ones(1, np.float32),
    }
    path = tmp_path / "weights.pth"
    write_torch(path, arrays)
    for is_mapped in (False, True):
        found = torch.load(path, weights_only=True, mmap=is_mapped)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].is_contiguous()
            assert found[name].numpy().dtype == array.dtype
            np.testing.assert_array_equal(found[name].numpy(), array)
    check_read(path)
    content = path.read_bytes()
    write_torch(path, arrays)
    assert path.read_bytes() == content
    assert zipfile.ZipFile(path).testzip() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_are_refused(tmp_path):
    program = torch.jit.trace(torch.nn.ReLU(), torch.ones(1))
    torch.jit.save(program, tmp_path / "program.pth")
    with refused("program.pth"):
        read_torch(tmp_path / "program.pth")
