"""Train a model.

    python train.py --config configs/mtl_synthetic.py
    python train.py --config configs/utkface_age.py:tiny --workdir runs/try --config.train.seed=1

If the run folder exists, training resumes from its latest checkpoint. After SIGTERM or Ctrl-C the
current step is completed and saved; a second signal ends the process at once.
`--config.FIELD=VALUE` changes a field of the config. `--find learning_rate` and `--find batch_size`
train no model; they print the value to use.
"""

from collections.abc import Sequence
from pathlib import Path

from mtl_jax.commandline import Parser, report_shipped
from mtl_jax.errors import UserError
from mtl_jax.io.malloc import restart_with_kept_memory


def main(argv: Sequence[str], prog: str = "mtl-jax train", restart: bool = False) -> int:
    """Run the command that the user calls `prog`. `restart`: this process is its own and may be
    restarted with other settings of the memory allocator.
    """
    parser = Parser(__doc__, prog)
    parser.add_argument("--config", required=True, help="FILE.py[:variant] or NAME[:variant]")
    parser.add_argument("--workdir", help="the run folder (default: runs/NAME[_variant])")
    parser.add_argument("--hosts", action="store_true", help="join the other hosts of a cluster")
    parser.add_argument("--find", choices=("learning_rate", "batch_size"), help="find a value")

    from mtl_jax.config.resolve import load_experiment

    try:
        args, overrides = parser.parse_with_overrides(argv)
        resolved = load_experiment(args.config, overrides)
    except UserError as error:
        if "--hosts" in argv:  # the arguments may be wrong
            from mtl_jax.runs.hosts import tell_hosts

            tell_hosts(error)
        raise
    name = Path(args.config.partition(":")[0]).stem
    variant = args.config.partition(":")[2]
    workdir = args.workdir or Path("runs", f"{name}_{variant}" if variant else name)

    if restart:
        restart_with_kept_memory()
    report_shipped(args.config)
    # Imported after the config is checked: TensorFlow and jax take seconds to import.
    from mtl_jax import experiment

    if args.find:
        print(experiment.find(resolved, args.find))
        return 0
    experiment.train(resolved, Path(workdir), args.hosts)
    return 0
