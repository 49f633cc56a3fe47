import os
import subprocess
import sys

import pytest

from mtl_jax.io.malloc import TUNABLES

PROGRAM = """
import os, sys
from mtl_jax.io.malloc import restart_with_kept_memory
print("started", flush=True)
restart_with_kept_memory()
print(os.environ["GLIBC_TUNABLES"], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is used on Linux only")
def test_a_process_restarts_once_with_its_arguments():
    plain = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", PROGRAM, "--config", "a b"]

    def lines(**environment):
        done = subprocess.run(command, env=plain | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    arguments = "['--config', 'a b']"
    again = ":".join(f"glibc.malloc.{name}" for name in TUNABLES)
    assert lines() == ["started", "started", f"{again} {arguments}"]
    kept = "glibc.malloc.arena_max=4"
    assert lines(GLIBC_TUNABLES=kept) == ["started", f"{kept} {arguments}"]
