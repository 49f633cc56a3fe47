"""Data parallelism: four forced CPU devices compared with one, in a new process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from mistakes import check_names
from training.toy import make_batch

from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.sharding import make_mesh, pad_batch, replicate, shard_batch

ROOT = Path(__file__).parents[2]

FOUR_DEVICES = """
import sys
import jax, numpy as np
from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mtl_jax.training.sharding import make_mesh, shard_batch
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage
from mtl_jax.training.step import make_eval_loss, make_train_step
from training.toy import init, make_batch, make_model

options = OptimizerOptions(learning_rate=0.05, schedule="constant", warmup_steps=0)
mask = trainable(init(0)["params"], "all")
schedule = learning_rate_schedule(options, 4, 0.05)
optimizer = make_optimizer(options, schedule)

def run(devices):
    mesh = make_mesh(jax.devices()[:devices])
    state = start_stage(init(0), optimizer, mask, mesh)
    step = make_train_step(make_model(), optimizer, mask, schedule, mesh)
    losses = []
    for number in range(4):
        batch = shard_batch(make_batch(0, number, size=6), mesh)
        assert len(batch.images.addressable_shards) == devices
        state, metrics = step(state, batch, jax.random.key(0))
        losses.append([metrics.loss, *metrics.terms.values(), metrics.grad_norm])
    losses.append(make_eval_loss(make_model(), mesh)(state.variables, [make_batch(1, 0)])["loss"])
    return state, np.concatenate([np.ravel(x) for x in losses])

one, one_losses = run(1)
four, four_losses = run(4)
np.testing.assert_allclose(four_losses, one_losses, rtol=1e-5)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), four, one)

checkpointer = Checkpointer(sys.argv[1], {})
checkpointer.save(four, 4)
back = checkpointer.restore("latest", one)
jax.tree.map(np.testing.assert_array_equal, back, four)
assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(back))
np.savez(sys.argv[2], bias=four.params["fpn"]["bias"])
"""


def test_four_devices_equal_one_and_a_checkpoint_moves_between_them(tmp_path):
    flags = "--xla_force_host_platform_device_count=4"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    result = subprocess.run(
        [sys.executable, "-c", FOUR_DEVICES, tmp_path / "checkpoints", tmp_path / "four.npz"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    variables = Checkpointer(tmp_path / "checkpoints").restore_variables("latest")
    bias = np.load(tmp_path / "four.npz")["bias"]
    np.testing.assert_array_equal(variables["params"]["fpn"]["bias"], bias)


ONE_OF_TWO_HOSTS = """
import sys
import jax, numpy as np
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from mtl_jax.config.options.training import LoopOptions, OptimizerOptions, Stage
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.loop import fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.sharding import make_mesh, replicated, shard_batch
from mtl_jax.training.step import make_eval_loss
from training.toy import file_names, init, make_batch, make_batches, make_model

mesh, batch = make_mesh(), make_batch(0, 0, size=6)
assert mesh.size == 4
there = shard_batch(batch, mesh)
assert there.index.shape == (8,)
own = np.concatenate([s.data for s in there.index.addressable_shards]).tolist()
assert own == [*batch.index, -1, -1][4 * jax.process_index():][:4], own
whole = jax.jit(lambda x: x, out_shardings=replicated(mesh))(there)
jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a)[:6], b), whole, batch)

checkpointer = Checkpointer(sys.argv[3], {}, "", "max")
state = fit(
    make_model(), init(0), (Stage("all", 3),), OptimizerOptions(warmup_steps=0), make_batches(),
    lambda variables, step: make_eval_loss(make_model(), mesh)(variables, [batch]), checkpointer,
    MetricWriter(sys.argv[4], 3, active=jax.process_index() == 0), mesh,
    LoopOptions(batch_size=4, eval_every=0), file_names,
)
assert int(state.step) == 3
checkpointer.close()
"""


@pytest.mark.slow
def test_two_hosts_train_together_on_the_rows_of_their_devices(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    hosts = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", ONE_OF_TWO_HOSTS, address, str(i)),
                *(tmp_path / "checkpoints", tmp_path),
            ],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], errors
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [3, 3]  # only one host writes: the lines of training and of validation
    assert Checkpointer(tmp_path / "checkpoints").latest() == 3


def test_hosts_without_a_cluster_are_refused():
    lines = "from mtl_jax.training.sharding import join_hosts; join_hosts()"
    result = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert result.returncode
    check_names(result.stderr.splitlines()[-1], "UserError", "--hosts")


@pytest.mark.parametrize(("rows", "multiple", "padded"), [(6, 4, 8), (4, 4, 4), (1, 3, 3)])
def test_padding_rows_are_not_valid(rows, multiple, padded):
    batch = make_batch(0, 0, size=rows)
    full = pad_batch(batch, multiple)
    assert full.valid.tolist() == [True] * rows + [False] * (padded - rows)
    assert full.index.tolist() == [*batch.index, *[-1] * (padded - rows)]
    for before, after in zip(jax.tree.leaves(batch), jax.tree.leaves(full), strict=True):
        assert len(after) == padded
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after[:rows], before)
    rest = full._replace(index=full.index + 1)
    assert not any(np.any(leaf[rows:]) for leaf in jax.tree.leaves(rest))


def test_a_batch_reaches_the_device_unchanged():
    batch = make_batch(0, 0)
    jax.tree.map(np.testing.assert_array_equal, shard_batch(batch, make_mesh()), batch)


def test_replicas_share_no_memory():
    tree = {"a": jax.numpy.arange(4.0)}
    copy = replicate(tree, make_mesh())
    jax.jit(lambda x: x + 1, donate_argnums=0)(copy["a"])
    assert copy["a"].is_deleted()
    np.testing.assert_array_equal(tree["a"], np.arange(4.0))
