from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

def DEFINE_config_dict(
    name: str,
    config: ConfigDict,
    help_string: str = ...,
    flag_values: flags.FlagValues = ...,
    lock_config: bool = True,
    accept_new_attributes: bool = False,
    sys_argv: Sequence[str] | None = None,
) -> flags.FlagHolder: ...
