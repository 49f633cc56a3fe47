"""Tests that the scripts, configs, fields and arguments in the README's commands exist."""

import argparse
import re
import shlex
import sys
from importlib import import_module
from unittest.mock import patch

import pytest
import scripts

from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.errors import UserError

TEXT = (scripts.ROOT / "README.md").read_text(encoding="utf-8")


def commands(text):
    """Return the commands in a text's bash blocks, without comments and line continuations."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (line.partition(" #")[0].strip() for line in lines) if line]


class Parsed(Exception):
    """A command line is valid: its script would start."""


def parse(command):
    """Parse a command with its script's parser and apply its overrides; raise Parsed if valid."""
    words = [w for w in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", w)]
    if words[:2] == ["python", "-m"]:
        module = import_module(f"{words[2]}.__main__")
        words = words[1:]
    else:
        module = scripts.load(words[1].removesuffix(".py"))
    overrides = [word for word in words if word.startswith("--config.")]
    original = argparse.ArgumentParser.parse_known_args

    def parse_known_args(self, *args, **kwargs):
        found, rest = original(self, *args, **kwargs)
        if set(rest) - set(overrides):
            raise AssertionError(f"{command}: {rest}")
        config = getattr(found, "config", None)
        if config:
            override(load_config_file(config), overrides)
        raise Parsed

    with (
        patch.object(argparse.ArgumentParser, "parse_known_args", parse_known_args),
        patch.object(sys, "argv", words[1:]),
    ):
        module.main(words[2:])


FOUND = commands(TEXT)


def test_the_three_commands_are_shown():
    for name in ("train", "evaluate", "predict"):
        assert any(f"python {name}.py" in command for command in FOUND)


@pytest.mark.parametrize("command", [c for c in FOUND if re.search(r"\bpython\b", c)])
def test_a_python_command_parses(command, monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    with pytest.raises(Parsed):
        parse(command)


@pytest.mark.parametrize("command", [c for c in FOUND if c.startswith("make ")])
def test_a_make_command_has_its_target(command):
    makefile = (scripts.ROOT / "Makefile").read_text()
    for target in command.split()[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", FOUND)
def test_a_command_is_of_a_tested_kind(command):
    assert re.match(r"([A-Z_]+=\S* )*(python|make|pip install|git clone|cd) ?", command)


def test_mistakes_in_commands_are_found(monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    for wrong in (
        "python train.py --config configs/absent.py",
        "python train.py --config configs/shapes.py --config.trian.seed=1",
        "python predict.py --input a",
    ):
        with pytest.raises(UserError):
            parse(wrong)
    assert commands("```bash\na \\\n  b # c\n```\n```python\nx\n```") == ["a    b"]


@pytest.mark.parametrize("path", sorted(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)))
def test_the_target_of_a_link_exists(path):
    assert (scripts.ROOT / path).exists()
