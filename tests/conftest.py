"""What holds for the whole suite: the CPU, fast compiles, and a compilation cache of its own."""

import os
import shutil
import tempfile
from pathlib import Path

from jaxtyping import install_import_hook

# Read when jax is imported, and inherited by the processes that tests start. At the tests' sizes
# optimized programs are no faster, and take twice as long to compile.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# PyTorch's threads would else spin while they wait for a processor that another test is using.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_CACHE = Path(tempfile.mkdtemp(prefix="mtl_jax_xla_"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
# Shapes and types of every call are compared with the annotations.
install_import_hook("mtl_jax", "typechecker.check")


def pytest_unconfigure():
    shutil.rmtree(_CACHE, ignore_errors=True)
