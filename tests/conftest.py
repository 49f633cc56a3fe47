"""Settings of all tests: CPU, fast compilation, one cache of compiled programs for all test runs,
and runtime checks of shape annotations.
"""

import os
import tempfile
from importlib.metadata import version

import shared_cache
from jaxtyping import install_import_hook
from xdist.scheduler import LoadFileScheduling

# Read when jax is imported, and inherited by subprocesses of tests. For small models, optimized
# programs are not faster but take three times as long to compile: the gradient of the smallest Mask
# R-CNN takes 28.7 s, and 9.5 s with these flags.
FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):  # an unknown flag terminates the process
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(shared_cache.folder("programs", "jax", "jaxlib"))
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# A test that downloads from a server of its own removes it.
os.environ["MTL_JAX_OFFLINE"] = "1"
# Otherwise idle threads of PyTorch spin and slow down the tests of the other worker.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Runs that tests train are noted in a folder of their own, which all workers use.
if "PYTEST_XDIST_WORKER" not in os.environ:
    STATE = tempfile.TemporaryDirectory(prefix="mtl_jax_state_")
    os.environ["XDG_STATE_HOME"] = STATE.name
# In these modules every call is checked against its shape and type annotations.
ANNOTATED = (
    "data.synthetic.heads",
    "data.synthetic.surfaces",
    "layers",
    "losses",
    "models",
    "ops",
    "training",
)
install_import_hook([f"mtl_jax.{name}" for name in (*ANNOTATED, "types")], "typechecker.check")


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):  # once, before the workers start
        shared_cache.trim()


# A file is the unit of work of a worker, with two exceptions: the files of the first folder share a
# trained run, and the longest file is divided into two halves, one for each model.
TOGETHER = {"tests/experiment/": "experiment", "[maskrcnn_resnet50_fpn_v2": "second model"}


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid):
        found = (name for part, name in TOGETHER.items() if part in nodeid)
        return next(found, super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)
