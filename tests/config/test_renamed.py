"""Renamed fields of a config are read by their old names, with one line that says the new name."""

import pytest

from mtl_jax.config.defaults import get_default
from mtl_jax.config.overrides import override
from mtl_jax.config.renamed import RENAMED
from mtl_jax.config.resolve import from_stored, resolve


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_read_in_a_file_in_a_flag_and_in_a_stored_config(old, new, capsys):
    section, name = old.rsplit(".", 1)
    reported = capsys.readouterr

    def in_file(value):
        config = get_default()
        fields = config
        for part in section.split("."):
            fields = fields[part]
        fields[name] = value
        return config

    def value_of(experiment):
        value = experiment.config
        for part in new.split("."):
            value = value[part]
        return value

    assert value_of(resolve(in_file(3))) == 3
    lines = reported().err.splitlines()
    assert len(lines) == 1
    assert old in lines[0]
    assert new in lines[0]

    config = get_default()
    override(config, [f"--config.{old}=4"])
    assert value_of(resolve(config)) == 4
    assert reported().err.count("\n") == 1

    stored = resolve(get_default()).config
    assert name not in str(stored)
    assert value_of(from_stored(in_file(5).to_dict())) == 5
    assert reported().err.count("\n") == 1
