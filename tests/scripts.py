"""Functions that run the scripts as from a terminal, in this process or in a subprocess."""

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from mistakes import check_names

from mtl_jax import commandline

ROOT = Path(__file__).resolve().parents[1]


class Done(NamedTuple):
    """Exit code and output of a script."""

    code: int
    out: str
    err: str


def load(name: str):
    """Import the script `train`, `evaluate` or `predict` as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *arguments: object) -> Done:
    """Run a script in this process; exceptions other than SystemExit propagate."""
    out, err = io.StringIO(), io.StringIO()
    argv = [f"{name}.py", *map(str, arguments)]
    with (
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            commandline.run(load(name).main)
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def start(name: str, *arguments: object, **environment: str) -> Done:
    """Run a script in a subprocess; `code` is negative if a signal terminated it."""
    done = subprocess.run(
        [sys.executable, ROOT / f"{name}.py", *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def mistake(done: Done, *parts: object) -> str:
    """Return the line that reports a user's mistake.

    Asserts that the exit code is 2 and that the line names all `parts`.
    """
    assert done.code == 2, done
    (line,) = done.err.splitlines()
    check_names(line, *parts)
    return line
