import hashlib
import random
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.errors import UserError
from mtl_jax.training.single_file import METADATA, read_pack, write_pack

VARIABLES = {
    "params": {"head": {"kernel": np.arange(6.0).reshape(2, 3)}},
    "batch_stats": {"norm": {"mean": np.ones(2, np.float32)}},
}


def test_a_packed_model_is_read_unchanged(tmp_path):
    digest = write_pack(tmp_path / "new" / "model.npz", {"classes": ["cat"]}, VARIABLES)
    assert digest == hashlib.sha256((tmp_path / "new" / "model.npz").read_bytes()).hexdigest()
    metadata, variables = read_pack(tmp_path / "new" / "model.npz")
    assert metadata == {"classes": ["cat"]}
    np.testing.assert_array_equal(
        variables["params"]["head"]["kernel"], VARIABLES["params"]["head"]["kernel"]
    )
    assert variables["batch_stats"]["norm"]["mean"].dtype == np.float32
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.npz"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with (
        zipfile.ZipFile(tmp_path / "objects.npz", "w") as file,
        file.open(f"{METADATA}.npy", "w") as entry,
    ):
        np.save(entry, np.array([print], object))
    with (
        zipfile.ZipFile(tmp_path / "huge.npz", "w") as file,
        file.open(f"{METADATA}.npy", "w") as entry,
    ):
        claim = dict(descr="<f4", fortran_order=False, shape=(2**58,))
        np.lib.format.write_array_header_1_0(entry, claim)
    write_pack(tmp_path / "whole.npz", {}, VARIABLES)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    for name in ("text", "arrays", "objects", "huge", "cut", "absent"):
        with refused(tmp_path / f"{name}.npz"):
            read_pack(tmp_path / f"{name}.npz")


def test_names_with_slashes_are_kept(tmp_path):
    variables = {
        "params": {"km/h_output": {"kernel": np.ones(2)}, "100%2F_output": {"bias": np.zeros(3)}},
        "batch_stats": {},
    }
    write_pack(tmp_path / "model.npz", {}, variables)
    found = read_pack(tmp_path / "model.npz")[1]
    assert found["params"].keys() == variables["params"].keys()
    np.testing.assert_array_equal(found["params"]["km/h_output"]["kernel"], np.ones(2))


def test_a_compressed_pack_is_refused_in_a_moment(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("params/a.npy", "w") as entry,
    ):
        claim = dict(descr="<f4", fortran_order=False, shape=(50_000_000,))
        np.lib.format.write_array_header_1_0(entry, claim)
        for _ in range(50):
            entry.write(bytes(4_000_000))
    with refused(tmp_path / "bomb.npz"):
        read_pack(tmp_path / "bomb.npz")


def test_every_damage_of_a_pack_is_one_line(tmp_path):
    write_pack(tmp_path / "whole.npz", {"classes": ["cat"]}, VARIABLES)
    whole = (tmp_path / "whole.npz").read_bytes()
    rng = random.Random(0)
    path = tmp_path / "damaged.npz"
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        with suppress(UserError):
            read_pack(path)


@pytest.mark.parametrize("metadata", ["[" * 100_000, "[]", "null", "{", "\xff"])
def test_metadata_that_is_not_an_object_is_refused(tmp_path, metadata):
    path = tmp_path / "model.npz"
    np.savez(path, **{METADATA: np.frombuffer(metadata.encode("latin1"), np.uint8)})
    with refused(path):
        read_pack(path)
