"""Test that the complete network overfits six images, which requires all losses and targets."""

import json

import pytest
import scripts

CONFIG = """
from configs.mtl_synthetic import get_config as quickstart

VARIANTS = ("",)

def get_config(variant=""):
    config = quickstart("notebook")
    six = dict(config.data.sources[0], length=6, head_heights=(0.5, 0.95))
    config.data.sources = (six,)
    config.data.augment.flip = 0.0
    config.stages = (dict(layers="all", steps=140, learning_rate=0.0),)
    config.train.update(batch_size=3, eval_every=0, checkpoint_every=0)
    config.optimizer.update(learning_rate=2e-3, warmup_steps=20, weight_decay=0.0)
    config.eval.batch_size = 3
    return config
"""


@pytest.mark.slow
def test_six_images_are_overfitted(tmp_path):
    (tmp_path / "six.py").write_text(CONFIG)
    run = tmp_path / "run"
    # The number of steps makes it worthwhile to compile optimized programs.
    plain = {"XLA_FLAGS": "", "PYTHONPATH": str(scripts.ROOT)}
    done = scripts.start("train", "--config", tmp_path / "six.py", "--workdir", run, **plain)
    assert done.code == 0, done.err
    done = scripts.start("evaluate", "--workdir", run, "--split", "train", **plain)
    assert done.code == 0, done.err
    metrics = json.loads((run / "evaluation/train/metrics.json").read_text())
    # Measured: AP50 1.0 for both, age 0.3 years, yaw 0.2 degrees.
    assert metrics["box/AP50"] >= 0.95
    assert metrics["mask/AP50"] >= 0.95
    assert metrics["age/misses"] == 0
    assert metrics["age/mae"] < 3
    assert metrics["head/yaw/mae"] < 3
    assert metrics["gender/accuracy"] >= 0.9
