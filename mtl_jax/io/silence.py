"""Suppress messages of a library that also raises what it reports."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(logger: str) -> Iterator[None]:
    """Suppress a logger, and exceptions in threads of C++ code, while the block runs."""
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    hook, sys.unraisablehook = sys.unraisablehook, lambda *_: None
    try:
        yield
    except Exception:
        time.sleep(0.2)  # until other threads, which fail for the same reason, have ended
        raise
    finally:
        log.disabled, sys.unraisablehook = before, hook
