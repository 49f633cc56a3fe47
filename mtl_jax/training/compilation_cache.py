"""Persistent cache of compiled programs, with which later runs start faster."""

import os

import jax

from mtl_jax.io.user_folders import cache_folder


def enable_compilation_cache(folder: str = "") -> str:
    """Cache the programs that XLA compiles in a folder, and return its path.

    The folder is the environment variable JAX_COMPILATION_CACHE_DIR if set, else `folder`, else
    `mtl_jax/xla` in the user's cache. Programs that compile fast are cached too: there are hundreds
    of them. If there is no such variable or folder, and the user has no home, nothing is cached and
    '' is returned.
    """
    usual = cache_folder()
    own = "" if usual is None else str(usual / "xla")
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder or own
    if not chosen:
        return ""
    jax.config.update("jax_compilation_cache_dir", chosen)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return chosen
