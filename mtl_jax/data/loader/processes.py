"""Call a function in other processes, so that calls are not serialised by Python's GIL."""

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

Result = TypeVar("Result")
_function: Callable[[int], Any]  # the function that a worker process calls


@contextmanager
def in_processes(
    function: Callable[[int], Result], count: int
) -> Iterator[Callable[[int], Result]]:
    """Yield a function that calls `function` in one of `count` processes. Any thread can call it.

    `function` is pickled once for each process, so its caches persist there. Its exceptions are
    raised in the caller. Raises CancelledError if the processes or the interpreter are ending, and
    UserError if a process was killed. Processes are spawned, not forked, because threads of
    TensorFlow and JAX may hold locks.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _begin, (function,))

    def submit(argument: int) -> Future[Result]:
        try:
            return pool.submit(_call, argument)
        except BrokenProcessPool:
            raise
        except RuntimeError:  # the pool is shut down
            raise CancelledError from None

    def call(argument: int) -> Result:
        try:
            return submit(argument).result()
        except BrokenProcessPool:
            raise UserError(
                "a process that makes batches did not start or was killed; if memory is "
                "insufficient, lower data.workers"
            ) from None

    try:
        yield call
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    cv2.setNumThreads(0)  # the processes run in parallel instead
    # A terminal sends SIGINT to every process; only the parent handles it. SIGTERM is not ignored:
    # if one process was killed, the pool ends the others with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent process has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _call(argument: int) -> Any:
    return _function(argument)
