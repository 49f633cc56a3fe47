"""The command `mtl-jax train` in a checkout. Its code is mtl_jax/commands/train.py."""

from functools import partial

from mtl_jax.commandline import run
from mtl_jax.commands import train
from mtl_jax.io.stop_signals import catch_signals

main = partial(train.main, prog="python train.py")

if __name__ == "__main__":
    catch_signals()
    run(partial(main, restart=True))
