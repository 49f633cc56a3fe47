"""The README and the pages of docs: commands, config snippets, imports and links are right."""

import argparse
import ast
import re
import shlex
import sys
from importlib import import_module
from unittest.mock import patch

import pytest
import scripts
from ml_collections import ConfigDict

from mtl_jax.__main__ import COMMANDS
from mtl_jax.config.defaults import get_default
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.config.shipped import copy_template
from mtl_jax.errors import UserError

README = scripts.ROOT / "README.md"
PAGES = (README, *sorted((scripts.ROOT / "docs").glob("*.md")))
TEXTS = {
    page.relative_to(scripts.ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES
}


def blocks(text, language):
    """Return the contents of a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text):
    """Return the lines of a page's bash blocks, continued lines joined, without comments."""
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in (line.partition(" #")[0].strip() for line in lines) if line]


MAINS = "mtl_jax.commands."


class Parsed(Exception):
    """The arguments of a command were accepted."""


def parse(command):
    """Parse a command's arguments with its script's parser; read and override its config."""
    words = [w for w in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", w)]
    if words[0] == "mtl-jax":
        in_package = words[1] in ("convert", "visualize", "data")
        module = import_module(f"mtl_jax.{words[1]}.__main__" if in_package else MAINS + words[1])
    elif words[:2] == ["python", "-m"]:
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


FOUND = list(dict.fromkeys(command for text in TEXTS.values() for command in commands(text)))
PYTHON = [c for c in FOUND if re.search(r"\bpython\b|^mtl-jax \w", c) and "pytest" not in c]
SNIPPETS = [
    pytest.param(block, id=f"{name}-{i}")
    for name, text in TEXTS.items()
    for i, block in enumerate(blocks(text, "python"))
]


def test_the_readme_shows_the_commands():
    found = commands(TEXTS["README.md"])
    for name in COMMANDS:
        assert any(command.startswith(f"mtl-jax {name} ") for command in found), name


def test_the_readme_names_every_page():
    for page in TEXTS:
        assert page == "README.md" or f"]({page})" in TEXTS["README.md"]


@pytest.mark.parametrize("command", [c for c in PYTHON if "-m benchmarks." not in c])
def test_a_python_command_parses(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_template("mine")  # as a command of the README does
    with pytest.raises(Parsed):
        parse(command)


@pytest.mark.parametrize("command", [c for c in PYTHON if "-m benchmarks." in c])
def test_a_benchmark_has_the_options_of_its_command(command):
    words = shlex.split(command.partition("-m ")[2])
    source = (scripts.ROOT / f"{words[0].replace('.', '/')}.py").read_text(encoding="utf-8")
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in source, word


@pytest.mark.parametrize("command", [c for c in FOUND if "make " in c])
def test_a_make_command_has_its_target(command):
    makefile = (scripts.ROOT / "Makefile").read_text()
    for target in command.partition("make ")[2].split():
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", FOUND)
def test_a_command_is_one_that_these_tests_check(command):
    assert re.match(r"([A-Z_]+=\S* )*(\S*python|mtl-jax|make|pip install|git clone|cd) ?", command)


def test_mistakes_in_commands_are_found(monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    for wrong in (
        "python train.py --config configs/absent.py",
        "python train.py --config configs/shapes.py --config.trian.seed=1",
        "python predict.py --input a",
        "mtl-jax train --config absent",
        "mtl-jax data new-config",
    ):
        with pytest.raises(UserError):
            parse(wrong)
    assert commands("```bash\na \\\n  b # c\n```\n```python\nx\n```") == ["a    b"]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_imports_of_a_python_snippet_work(snippet):
    found = ast.parse(snippet).body
    imports = [node for node in found if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "snippet", "exec"), {})


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_config_snippet_resolves(snippet):
    names = {"config": get_default()}
    if "def get_config" in snippet:
        exec(snippet, names)
        names["config"] = names["get_config"]("")
    elif snippet.startswith("config."):
        if "eval.groups" in snippet or "attribute_keys" in snippet:
            names["config"].attributes = declared()
        exec(snippet, names)
    assert resolve(names["config"])


def declared():
    """Return the attributes that the page on attributes declares."""
    first = blocks(TEXTS["docs/attributes.md"], "python")[0]
    names = {"config": ConfigDict()}
    exec(first, names)
    return names["config"].attributes


def anchors(text):
    """Return the anchors of a page's headings, as GitHub derives them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_link_leads_to_is_there(name):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXTS[name]):
        path, _, anchor = link.partition("#")
        target = (scripts.ROOT / name).parent / path if path else scripts.ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link
