"""Run train.py and kill the process before a step.

python killed_run.py STEP ARGUMENTS_OF_TRAIN
"""

import os
import signal
import sys
from itertools import count

import scripts

from mtl_jax.data.loader import pipeline


def main(last: int) -> None:
    original = pipeline.train_batches

    def batches(*args, start_step, **kwargs):
        steps = count(start_step + 1)
        for step, batch in zip(
            steps, original(*args, start_step=start_step, **kwargs), strict=False
        ):
            if step == last:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    pipeline.train_batches = batches
    scripts.load("train").main(sys.argv[2:])


if __name__ == "__main__":
    main(int(sys.argv[1]))
