import hashlib
import zipfile

import numpy as np
from mistakes import refused

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
