"""The command `mtl-jax evaluate` in a checkout. Its code is mtl_jax/commands/evaluate.py."""

from functools import partial

from mtl_jax.commandline import run
from mtl_jax.commands import evaluate

main = partial(evaluate.main, prog="python evaluate.py")

if __name__ == "__main__":
    run(partial(main, restart=True))
