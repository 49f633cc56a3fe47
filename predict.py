"""The command `mtl-jax predict` in a checkout. Its code is mtl_jax/commands/predict.py."""

from functools import partial

from mtl_jax.commandline import run
from mtl_jax.commands import predict

main = partial(predict.main, prog="python predict.py")

if __name__ == "__main__":
    run(partial(main, restart=True))
