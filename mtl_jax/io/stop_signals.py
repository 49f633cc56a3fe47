"""SIGINT and SIGTERM for a training process: no completed step is lost, and nothing delays an exit.

A Python signal handler runs only between two instructions of the main thread: not while XLA
compiles, and its exception can be lost in an import. Therefore a thread receives the signals.
"""

import os
import signal
import threading
from signal import SIGINT, SIGTERM

_lock = threading.Lock()
_pipe: tuple[int, int] | None = None  # the file descriptors that signals are written to
_held = False  # whether a signal must wait for `release`
_received = 0  # the signal that waits


def catch_signals() -> None:
    """Exit at once with code 128 + signal on SIGINT or SIGTERM from now on; see `hold`.

    Must be called in the main thread. A signal that is ignored, as SIGINT in a background job of a
    shell, remains ignored.
    """
    global _pipe
    if _pipe is not None:
        return
    _pipe = os.pipe()
    os.set_blocking(_pipe[1], False)
    signal.set_wakeup_fd(_pipe[1])
    threading.Thread(target=_watch, args=(_pipe[0],), daemon=True, name="signals").start()
    for number in (SIGINT, SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # the thread acts


def hold() -> None:
    """Keep the next signal waiting for `release`. A second signal ends the process at once.

    No effect unless `catch_signals` was called.
    """
    global _held
    with _lock:
        _held = _pipe is not None


def received() -> int:
    """Return the number of the signal that waits, or 0."""
    return _received


def release() -> None:
    """Raise SystemExit with code 128 + signal if a signal waits; later ones end at once again."""
    global _held
    with _lock:
        _held = False
    if _received:
        raise SystemExit(128 + _received)


def _watch(pipe: int) -> None:
    global _received
    while numbers := os.read(pipe, 1):
        if numbers[0] not in (SIGINT, SIGTERM):
            continue
        with _lock:
            if not _held or _received:
                os._exit(128 + numbers[0])
            _received = numbers[0]
