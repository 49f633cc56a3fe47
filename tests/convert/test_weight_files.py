import json
import random
import struct
import sys
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from mistakes import check_faults, refused

from mtl_jax.convert.weight_files import check_tensors, read_tensors
from mtl_jax.errors import UserError

safetensors = pytest.importorskip("safetensors.numpy")
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def write_header(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors_are_read_as_they_were_written(tmp_path):
    safetensors.save_file(TENSORS, tmp_path / "weights.safetensors")
    found = read_tensors(tmp_path / "weights.safetensors")
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_halves_become_float32(tmp_path):
    header = dict(a=dict(dtype="BF16", shape=[2], data_offsets=[0, 4]))
    write_header(tmp_path / "weights.safetensors", header, struct.pack("<HH", 0x3F80, 0xC000))
    found = read_tensors(tmp_path / "weights.safetensors")["a"]
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, -2.0]


def test_without_safetensors_one_line_names_the_package_to_install(tmp_path, monkeypatch):
    safetensors.save_file(TENSORS, tmp_path / "weights.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with refused("weights.safetensors", "mtl_jax[convert]"):
        read_tensors(tmp_path / "weights.safetensors")


def test_safetensors_with_wrong_headers_are_refused(tmp_path):
    safetensors.save_file(TENSORS, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for name, content in (
        ("empty", b""),
        ("cut", whole[:-4]),
        ("long_header", struct.pack("<Q", 2**60) + b"{}"),
        ("no_json", struct.pack("<Q", 4) + b"oops"),
    ):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    tensor = dict(dtype="F32", shape=[4], data_offsets=[0, 16])
    for name, changes in (
        ("huge", dict(shape=[2**62, 2**62])),
        ("beyond", dict(data_offsets=[0, 2**40])),
        ("backwards", dict(data_offsets=[16, 0])),
        ("strange", dict(dtype="PICKLE")),
        ("eight_bits", dict(dtype="F8_E4M3", data_offsets=[0, 4])),
    ):
        header = {"a": tensor | changes}
        write_header(
            tmp_path / f"{name}.safetensors", header, bytes(header["a"]["data_offsets"][1] % 32)
        )
    for file in tmp_path.iterdir():
        if file.stem != "whole":
            with refused(file):
                read_tensors(file)


def test_all_faults_are_listed_at_once():
    required = {"a": (2, 2), "b": None, "c": (1,)}
    check_tensors(TENSORS | {"c": np.ones(1)}, required | {"a": (2, 3)}, lambda key: False)
    with pytest.raises(UserError) as error:
        check_tensors(TENSORS | {"d": 0, "e.x": 0}, required, lambda key: key.startswith("e."))
    faults = str(error.value).splitlines()[1:]
    check_faults(faults, ("d",), ("c",), ("a", (2, 3), (2, 2)))


def test_parameters_of_a_module_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    state = {"a": torch.nn.Parameter(torch.ones(2, 3)), "b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(state, tmp_path / "weights.pth")
    found = read_tensors(tmp_path / "weights.pth")
    np.testing.assert_array_equal(found["a"], np.ones((2, 3), np.float32))
    assert found["b"].dtype == np.float32


@pytest.mark.parametrize("kind", ["sparse", "csr", "quantized", "meta", "expanded"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_without_dense_values_are_refused(tmp_path, kind):
    torch = pytest.importorskip("torch")
    dense = torch.eye(3)
    tensor = {
        "sparse": lambda: dense.to_sparse(),
        "csr": lambda: dense.to_sparse_csr(),
        "quantized": lambda: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "meta": lambda: torch.ones(3, device="meta"),
        "expanded": lambda: torch.ones(1).expand(2**34),
    }[kind]()
    torch.save({"a": tensor}, tmp_path / "weights.pth")
    with refused(tmp_path / "weights.pth"):
        read_tensors(tmp_path / "weights.pth")


def test_a_compressed_archive_is_refused_in_a_moment(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(30_000_000)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in whole.namelist():
            packed.writestr(member, whole.read(member))
    with refused(tmp_path / "packed.pth"):
        read_tensors(tmp_path / "packed.pth")


def test_every_damage_of_a_state_dict_is_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(4), "b": torch.zeros(2)}, tmp_path / "whole.pth")
    whole, path = (tmp_path / "whole.pth").read_bytes(), tmp_path / "damaged.pth"
    rng = random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(UserError):
            read_tensors(path)
