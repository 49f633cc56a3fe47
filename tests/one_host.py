"""Run train.py as one of two hosts on this machine.

python one_host.py ADDRESS NUMBER ARGUMENTS_OF_TRAIN
"""

import sys
from functools import partial

import jax
import scripts

from mtl_jax.commandline import run
from mtl_jax.io.stop_signals import catch_signals


def main(address: str, number: int) -> None:
    join = partial(jax.distributed.initialize, address, 2, number)
    jax.distributed.initialize = join
    del sys.argv[1:3]
    run(scripts.load("train").main)


if __name__ == "__main__":
    catch_signals()
    main(sys.argv[1], int(sys.argv[2]))
