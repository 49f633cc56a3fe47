"""Alias of `mtl_jax.config.defaults`, imported by config files of earlier versions."""

from mtl_jax.config.defaults import (  # noqa: F401
    get_chips,
    get_colour_chips,
    get_default,
    get_hyperface,
    get_matterport,
    get_small,
    get_small_hyperface,
    make_tiny,
)
