"""Settings of the whole suite: the CPU, quick compilation, one cache of compiled programs for all
runs, and annotations that are checked.
"""

import os
from importlib.metadata import version

import shared_cache
from jaxtyping import install_import_hook
from xdist.scheduler import LoadFileScheduling

# Read when jax is imported, and inherited by the processes that tests start. At the tests' sizes
# optimized programs are no faster, and take three times as long to compile: the gradient of the
# smallest Mask R-CNN 28.7 s, and 9.5 s with these flags.
FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):  # an unknown flag ends the process
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(shared_cache.folder("programs", "jax", "jaxlib"))
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# PyTorch's threads would otherwise spin while they wait for a processor that another test uses.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Shapes and types of every call are compared with the annotations, where these give shapes.
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


# What a worker takes at once: a file of tests, but for these. The first share a trained run; the
# second is the longest file, half of which does for one model and half for the other.
TOGETHER = {"tests/experiment/": "experiment", "[maskrcnn_resnet50_fpn_v2": "second model"}


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid):
        found = (name for part, name in TOGETHER.items() if part in nodeid)
        return next(found, super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)
