"""Tests of SIGTERM and SIGINT in a process with `catch_signals`, also while its main thread is in
C code, where Python's handlers do not run.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = """
import hashlib, signal, sys, time
from mtl_jax.io import stop_signals
def compute():  # for minutes, without the interpreter
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
def say(what):
    print(what, flush=True)
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
stop_signals.catch_signals()
"""
IDLE = "say('ready'); compute()"
UNSAVED = """
stop_signals.hold(); say('ready')
while not stop_signals.received(): time.sleep(0.01)
say('waits')
"""
SAVED = "stop_signals.release(); say('not here')"
LATER = "stop_signals.hold(); stop_signals.release(); say('ready'); compute()"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("code", "said", "sent"),
    [
        (IDLE, ["ready"], 1),
        (UNSAVED + SAVED, ["ready", "waits"], 1),
        (UNSAVED + "compute()", ["ready", "waits"], 2),
        (LATER, ["ready"], 1),
    ],
    ids=["idle", "unsaved", "twice", "saved"],
)
def test_a_signal_ends_the_process_when_nothing_is_lost(code, said, sent, number):
    process = _start(code, "SIG_DFL")
    assert process.stdout is not None
    for line in said[:sent]:
        assert process.stdout.readline().strip() == line
        if line == "ready" and code == IDLE:
            time.sleep(0.2)  # until it computes
        process.send_signal(number)
        began = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (128 + number, "")
    assert out.split() == said[sent:]
    assert time.monotonic() - began < 10


def test_a_signal_that_is_ignored_remains_ignored():
    process = _start("say('ready'); time.sleep(1); say('end')", "SIG_IGN")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0].strip() == "end"
    assert process.returncode == 0


def _start(code, handler):
    return subprocess.Popen(
        [sys.executable, "-c", START + code, handler],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
