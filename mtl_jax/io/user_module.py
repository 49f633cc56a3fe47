"""Loading of Python files that the user wrote."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mtl_jax.errors import UserError


def load_module(path: Path) -> ModuleType:
    """Run a Python file as a module. Raises UserError with the line where it fails."""
    name = str(path.absolute())  # the file's stem may be the name of a library
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module here
    with user_code_errors(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def user_code_errors(path: Path) -> Iterator[None]:
    """Turn exceptions of the code in a file into a UserError that names the line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # any exception: the code is the user's
        raise UserError(f"{_place(path, error)}: {_first_sentence(error)}") from None


def _place(path: Path, error: Exception) -> str:
    """Return the path and the line of the file where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    lines += [error.lineno] if isinstance(error, SyntaxError) else []
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _first_sentence(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):  # ml_collections wraps its KeyErrors
        error = error.args[0]
    text = str(error.args[0]) if error.args else type(error).__name__
    first = " ".join(text.partition("Other fields present")[0].partition("Did you mean")[0].split())
    near = re.search(r'Did you mean "(.*?)"', text)
    return f"{first} Did you mean {near[1]}?" if near else first
