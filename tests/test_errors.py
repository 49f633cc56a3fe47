"""Lines that are printed for faults, whatever the faulty data contain."""

import subprocess
import sys
import time

import pytest
import scripts

from mtl_jax.errors import MAX_LINE, AnnotationErrors, printable, shorten, summarize


def beside_paths(line: str) -> int:
    return sum(len(word) + 1 for word in line.split(" ") if "/" not in word)


def test_control_characters_are_escaped_and_scripts_are_kept():
    given = "a\x1b[31m\x00\r\n\u202eb \udce9 猫 é \u00a0"
    assert printable(given) == "a\\x1b[31m\\x00\\r\\n\\u202eb \\udce9 猫 é \u00a0"
    assert printable(printable(given)) == printable(given)


@pytest.mark.parametrize(
    "value", ["x" * 40_000, "x y " * 10_000, "a/b " * 10_000, "é" * 40_000, "'" * 40_000]
)
def test_a_long_value_is_cut_and_a_path_is_not(value):
    path = "/".join(["/data", *["folder" * 20] * 20, "a.json"])
    line = shorten(f"{path}: annotation 7: name is {value!r}; correct or remove it")
    assert line.startswith(f"{path}: annotation 7:")
    assert line.endswith("correct or remove it")
    assert beside_paths(line) <= MAX_LINE + 5
    assert len(line) < len(path) + 2 * 4096


def test_a_short_line_is_unchanged():
    line = f"/data/a.json: {'word ' * 50}end"
    assert shorten(line) == line


def test_faults_of_a_kind_are_counted_after_twenty():
    start = time.process_time()
    many = [
        f"/data/a.json: annotation {i} (image {i}, {i}.jpg): bbox [{i}, 1, 'x'] has no area; remove"
        for i in range(300_000)
    ]
    rare = "/data/a.json: image 3: the image file is empty; replace it"
    lines = summarize([*many[:100], rare, *many[100:]])
    assert lines[:20] == many[:20]
    assert lines[20] == rare
    (rest,) = lines[21:]
    assert rest.startswith("299,980 ")
    assert rest.endswith(many[0])
    assert time.process_time() - start < 20
    error = AnnotationErrors(many[:1000])
    assert len(error.faults) == 1000
    assert len(str(error).split("\n")) == 21


def test_kinds_are_limited_too():
    words = [f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
    lines = summarize(f"a.json: {word} is wrong" for word in words)
    assert len(lines) == 21
    assert lines[-1].startswith("80 ")


PRINTED = """
from mtl_jax import commandline
from mtl_jax.errors import UserError

def main(argv):
    raise UserError("\\n".join(f"missing: layer{i}.\\x1b[31m" for i in range(1000)))

commandline.run(main)
"""


def test_a_command_prints_a_summary():
    done = subprocess.run(
        [sys.executable, "-c", PRINTED],
        cwd=scripts.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) == 21
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("980 ")
