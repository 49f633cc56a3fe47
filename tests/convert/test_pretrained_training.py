"""configs/balloon.py:resnet50 starts from public weights, of a detector and of a backbone, trains
and resumes.
"""

import json
import shutil

import numpy as np
import pytest
import scripts
from convert import seeded
from convert.planted import plant
from file_server import serving
from mistakes import check_names
from real_data import data_set

from mtl_jax.convert.torch_files import write_torch
from mtl_jax.training.checkpoint import Checkpointer

pytest.importorskip("torch")

pytestmark = pytest.mark.slow
BODY = "backbone.body."
SMALL = (
    "--config.data.resize.min_size=96",
    "--config.data.resize.max_size=128",
    "--config.data.resize.canvases=((96,128),(128,96))",
    "--config.model.rpn.pre_nms_train=100",
    "--config.model.rpn.post_nms_train=50",
    "--config.model.roi.samples=16",
    "--config.model.detection.max_detections=10",
    "--config.train.batch_size=1",
    "--config.train.checkpoint_every=1",
    "--config.eval.images=1",
    "--config.eval.loss=False",
)


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "resnet50"])
def test_a_training_starts_from_public_weights_and_resumes(name, tmp_path, monkeypatch):
    data_set("balloon")
    state = seeded.state("maskrcnn_resnet50_fpn")
    start: tuple[str, ...] = ()  # the config's own
    if name == "resnet50":
        state = {k.removeprefix(BODY): x for k, x in state.items() if k.startswith(BODY)}
        state |= {"fc.weight": np.zeros((1000, 2048), np.float32), "fc.bias": np.zeros(1000)}
        start = ("--config.init.checkpoint=resnet50", "--config.model.backbone.norm_eps=1e-5")
    write_torch(tmp_path / "planted.pth", state)
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(scripts.ROOT)
    run = tmp_path / "run"
    command = ("--config", "configs/balloon.py:resnet50", "--workdir", run, *SMALL, *start)
    with serving() as server:
        planted = plant(server, name, (tmp_path / "planted.pth").read_bytes(), monkeypatch)
        done = scripts.call("train", *command, "--config.stages[0].steps=1")
    assert done.code == 0, done
    copied = [line for line in done.out.splitlines() if line.endswith("copied")]
    assert any("backbone" in line for line in copied)
    assert any("rpn" in line for line in copied) == (name != "resnet50")
    started = json.loads((run / "origin.json").read_text())["started_from"]
    assert started["name"] == name
    assert started["card"]["source"]["address"] == planted.address
    frozen = Checkpointer(run / "checkpoints").restore_variables("latest")["batch_stats"]
    np.testing.assert_array_equal(
        frozen["backbone"]["stem"]["norm1"]["norm"]["var"],
        state[f"{BODY if name != 'resnet50' else ''}bn1.running_var"],
    )

    shutil.rmtree(tmp_path / "weights")  # a run that resumes requires no weights
    done = scripts.call("train", *command, "--config.stages[0].steps=2")
    assert done.code == 0, done
    check_names(done.out, run, 1)
    assert Checkpointer(run / "checkpoints").latest() == 2
    assert json.loads((run / "origin.json").read_text())["started_from"] == started
