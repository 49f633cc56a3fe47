"""A function's values from other processes, which Python's lock does not hold up."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2

from mtl_jax.errors import UserError

Given = TypeVar("Given")
_function: Callable[[int], Any]  # of a process


@contextmanager
def in_processes(function: Callable[[int], Given], count: int) -> Iterator[Callable[[int], Given]]:
    """Give `function` as one of `count` processes calls it, to be called in any thread.

    It is pickled once for each process, so that what it keeps is kept there. What it raises is
    raised here; CancelledError, where the processes or the interpreter are ending. The processes
    are new ones, not forks: threads of TensorFlow and of jax hold locks.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _begin, (function,))

    def submit(argument: int) -> Future[Given]:
        try:
            return pool.submit(_call, argument)
        except BrokenProcessPool:
            raise
        except RuntimeError:  # it takes no more
            raise CancelledError from None

    def call(argument: int) -> Given:
        try:
            return submit(argument).result()
        except BrokenProcessPool:
            raise UserError(
                "a process that makes batches did not start or was killed; if memory is short, "
                "lower data.workers"
            ) from None

    try:
        yield call
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    cv2.setNumThreads(0)  # the processes are what runs in parallel
    # The parent decides what ends: a terminal sends this to every process. SIGTERM ends a process:
    # it is how a pool of which one was killed ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent is gone, however it went: nobody would ask for anything any more."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _call(argument: int) -> Any:
    return _function(argument)
