"""Tests of the command `mtl-jax`: its help, its commands and their forms, signals and restarts."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import scripts
from mistakes import check_names

from mtl_jax import __main__ as command
from mtl_jax import __version__, commandline

MTL_JAX = (sys.executable, "-m", "mtl_jax")
SCRIPTS = ("train", "evaluate", "predict")


def call(*arguments: str, **environment: str) -> scripts.Done:
    """Run `mtl-jax` in a subprocess."""
    env = {**os.environ, "PYTHONPATH": str(scripts.ROOT), **environment}
    done = subprocess.run([*MTL_JAX, *arguments], env=env, capture_output=True, text=True)
    return scripts.Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_help_lists_the_commands_on_one_screen(arguments):
    done = call(*arguments)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ")} == {
        *command.COMMANDS,
        "mtl-jax",
    }
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100


def test_the_version():
    done = call("--version")
    assert (done.code, done.err) == (0, "")
    check_names(done.out, __version__)


@pytest.mark.parametrize(
    ("word", "near"),
    [("trian", "train"), ("visualise", "visualize"), ("--hlep", "--help"), ("xyzzy", "--help")],
)
def test_a_mistyped_command_is_one_line_with_a_suggestion(word, near):
    done = call(word, "--config", "x")
    scripts.mistake(done, f"'{word}'", near)
    assert done.out == ""


@pytest.mark.parametrize("arguments", ["[]", "['--help']", "['trian']", "['--version']"])
def test_the_help_loads_no_large_library(arguments):
    code = f"""
import sys
sys.argv = ["mtl-jax", *{arguments}]
from mtl_jax.__main__ import main
try:
    main()
except SystemExit:
    pass
large = ("jax", "flax", "tensorflow", "numpy", "cv2", "ml_collections", "matplotlib")
print("loaded", *(name for name in large if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts.ROOT, capture_output=True)
    assert done.stdout.splitlines()[-1] == b"loaded", done


@pytest.mark.parametrize("name", command.COMMANDS)
def test_the_help_of_a_command_shows_it_as_it_is_called(name):
    done = call(name, "--help")
    assert done.code == 0, done
    examples = [line.strip() for line in done.out.splitlines() if f"mtl-jax {name} " in line]
    assert len(examples) >= 2  # the usage, and an example
    assert "python " not in done.out


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_of_a_script_shows_the_script(name):
    done = scripts.call(name, "--help")
    assert done.code == 0
    assert f"usage: python {name}.py " in done.out
    assert f"    python {name}.py --" in done.out
    assert "mtl-jax" not in done.out


def test_a_mistake_names_the_command_as_it_was_called():
    scripts.mistake(call("train"), "mtl-jax train", "--config")
    scripts.mistake(scripts.call("train"), "python train.py", "--config")
    scripts.mistake(call("data", "split"), "mtl-jax data split", "annotations")


def test_a_shipped_config_is_reported_with_its_path(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commandline.report_shipped("balloon:tiny")
    (line,) = capsys.readouterr().err.splitlines()
    check_names(line, "balloon", scripts.ROOT / "configs/balloon.py")
    (tmp_path / "mine.py").write_text("")
    commandline.report_shipped("mine.py:tiny")
    assert capsys.readouterr().err == ""


WAITS = """
import time
from pathlib import Path
Path(__file__).with_name("started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("form", [MTL_JAX, (sys.executable, str(scripts.ROOT / "train.py"))])
def test_a_signal_ends_a_training_from_its_first_line_on(form, tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    arguments = ["train"] * (form is MTL_JAX) + ["--config", str(tmp_path / "waits.py")]
    env = {**os.environ, "PYTHONPATH": str(scripts.ROOT)}
    process = subprocess.Popen([*form, *arguments], env=env)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143  # -15 without a handler


RESTARTS = """
import os
from pathlib import Path
with Path(__file__).with_name("loads").open("a") as file:
    file.write(os.environ.get("GLIBC_TUNABLES", "default").partition("=")[0] + "\\n")
from mtl_jax.config.defaults import get_default
VARIANTS = ("",)
def get_config(variant):
    if "GLIBC_TUNABLES" in os.environ:
        raise ValueError("restarted")
    config = get_default()
    config.data.format = "shapes"
    return config
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is configured")
def test_only_a_process_of_its_own_is_restarted(tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    path = tmp_path / "restarts.py"
    path.write_text(RESTARTS)
    scripts.mistake(call("train", "--config", str(path)), "restarted")
    assert (tmp_path / "loads").read_text().split() == ["default", "glibc.malloc.hugetlb"]
    (tmp_path / "loads").unlink()
    monkeypatch.setattr("mtl_jax.experiment.train", lambda *_: None)
    assert scripts.call("train", "--config", path).code == 0
    assert (tmp_path / "loads").read_text().split() == ["default"]


def raises(argv, name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow.data", "tensorflow_datasets"])
def test_a_package_that_prediction_does_not_need_is_named_in_one_line(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        commandline.run(partial(raises, name=name))
    (line,) = capsys.readouterr().err.splitlines()
    check_names(line, name.partition(".")[0], "mtl_jax", "--no-deps")


@pytest.mark.parametrize("name", ["numpy", "mtl_jax.absent", None])
def test_another_missing_module_is_an_error_of_the_program(name):
    with pytest.raises(ModuleNotFoundError):
        commandline.run(partial(raises, name=name))


def test_the_scripts_are_the_commands():
    for name in SCRIPTS:
        assert scripts.load(name).main.func.__module__ == f"mtl_jax.commands.{name}"
        assert len(Path(scripts.ROOT, f"{name}.py").read_text().splitlines()) <= 15
