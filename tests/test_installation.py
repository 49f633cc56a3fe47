"""Tests of the wheel, and of an installation for prediction alone."""

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
import scripts
from mistakes import check_names
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_imports import MODULES, TENSORFLOW, imports

from mtl_jax.images.decode import write_png

# One stage of one step, to compile fewer programs.
SHORT = (
    "--config.stages=({'layers':'4+','steps':1,'learning_rate':0.0},)",
    "--config.eval.loss=False",
    *(f"--config.data.sources[{i}].length=4" for i in range(3)),
)


def run(*command: object, cwd: Path, **environment: str) -> scripts.Done:
    """Run a command without the variables that lead to this checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
    )
    return scripts.Done(done.returncode, done.stdout, done.stderr)


def succeed(*command: object, cwd: Path, **environment: str) -> scripts.Done:
    done = run(*command, cwd=cwd, **environment)
    assert done.code == 0, done
    return done


def make_environment(folder: Path, pip: bool = True) -> Path:
    """Create an environment without packages and return its Python."""
    venv.create(folder, with_pip=pip)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build a wheel, and a source distribution from which it is built, and check both."""
    folder = tmp_path_factory.mktemp("wheel")
    python = make_environment(folder / "tools")
    tools = ("build", "twine")
    if run(python, "-m", "pip", "install", "-q", *tools, cwd=folder).code:
        pytest.skip("build and twine cannot be installed: no package index")
    succeed(python, "-m", "build", "-o", folder / "dist", scripts.ROOT, cwd=folder)
    found = sorted((folder / "dist").iterdir())
    assert [path.suffix for path in found] == [".whl", ".gz"]
    succeed(python, "-m", "twine", "check", "--strict", *found, cwd=folder)
    return found[0]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel into a clean environment and return its folder of commands.

    The requirements are those of the environment of the tests.
    """
    folder = tmp_path_factory.mktemp("installed")
    python = make_environment(folder / "env")
    succeed(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    (site,) = (folder / "env/lib").glob("python3*/site-packages")
    (site / "requirements.pth").write_text(str(Path(np.__file__).parents[1]) + "\n")
    return python.parent


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory) -> Path:
    """Train with the installed command outside the checkout and return its folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    options = ("--config", "mtl_synthetic:tiny", "--workdir", "run", *SHORT)
    done = succeed(installed / "mtl-jax", "train", *options, cwd=folder)
    (line,) = (line for line in done.err.splitlines() if line.startswith("mtl_synthetic: "))
    check_names(line, installed.parent.resolve(), "mtl_jax/configs/mtl_synthetic.py")
    write_png(folder / "photo.png", np.full((90, 120, 3), 120, np.uint8))
    return folder


@pytest.mark.slow
def test_the_installed_command_lists_its_commands(installed, tmp_path):
    done = succeed(installed / "mtl-jax", "--help", cwd=tmp_path)
    assert done == succeed(installed / "python", "-m", "mtl_jax", "--help", cwd=tmp_path)
    check_names(done.out, "train", "evaluate", "predict", "convert", "visualize", "data")
    where = "import mtl_jax; print(mtl_jax.__file__)"
    (file,) = succeed(installed / "python", "-c", where, cwd=tmp_path).out.split()
    assert Path(file).is_relative_to(installed.parent)


@pytest.mark.slow
def test_the_wheel_contains_every_config(installed, tmp_path):
    code = "from mtl_jax.config.shipped import shipped_folder; print(shipped_folder())"
    (folder,) = succeed(installed / "python", "-c", code, cwd=tmp_path).out.split()
    names = {path.name for path in Path(folder).glob("*.py")}
    assert names == {path.name for path in (scripts.ROOT / "configs").glob("*.py")}
    for name in ("biwi_pose", "hyperface_resnet"):  # begin with another config
        wrong = (f"--config={name}", "--config.train.seed=-1")
        scripts.mistake(run(installed / "mtl-jax", "train", *wrong, cwd=tmp_path), "seed", -1)
    succeed(installed / "mtl-jax", "data", "new-config", "mine", cwd=tmp_path)
    done = run(installed / "mtl-jax", "train", "--config", "mine.py", cwd=tmp_path)
    scripts.mistake(done, "own_data", "config.data.path")


@pytest.mark.slow
def test_a_run_of_a_shipped_config_is_evaluated_and_used_from_another_folder(
    installed, trained, tmp_path
):
    # Without --trust: the run is the user's own.
    succeed(installed / "mtl-jax", "evaluate", "--workdir", trained / "run", cwd=tmp_path)
    assert (trained / "run/evaluation/test/metrics.json").is_file()
    options = ("--workdir", trained / "run", "--input", trained / "photo.png", "--output", "out")
    succeed(installed / "mtl-jax", "predict", *options, cwd=tmp_path)
    assert (tmp_path / "out/predictions.json").is_file()
    assert (tmp_path / "out/overlays/photo.png.png").is_file()


PREDICT = scripts.ROOT / "requirements-predict.txt"


def requirements(path: Path) -> dict[str, Requirement]:
    """Return the requirements in a file by name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(each.name): each for each in found}


def with_dependencies(names: Iterable[str]) -> list[Distribution]:
    """Return the installed distributions of these names and of all that they require."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(name, "") for name in names], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                name = canonicalize_name(needed.name)
                waiting += [(name, each) for each in ("", *needed.extras)]
    return list(found.values())


@pytest.fixture(scope="module")
def light(installed, tmp_path_factory) -> tuple[str | Path, ...]:
    """Return a Python with the wheel and the requirements of prediction alone, without site."""
    site = tmp_path_factory.mktemp("light")
    (package,) = (installed.parent / "lib").glob("python3*/site-packages/mtl_jax")
    (site / "mtl_jax").symlink_to(package)
    for each in with_dependencies(requirements(PREDICT)):
        for file in each.files or ():
            if file.parts[0] in ("..", "__pycache__"):
                continue
            top = Path(str(each.locate_file(file.parts[0])))
            whole = top.is_file() or (top / "__init__.py").exists()  # else several may share it
            part = Path(*file.parts[: 1 if whole else 2])
            if not (site / part).exists():
                (site / part).parent.mkdir(exist_ok=True)
                (site / part).symlink_to(Path(str(each.locate_file(part))))
    return "/usr/bin/env", f"PYTHONPATH={site}", sys.executable, "-S"


def test_the_ranges_of_prediction_are_those_of_the_package():
    project = tomllib.loads((scripts.ROOT / "pyproject.toml").read_text())["project"]
    ranges = {str(Requirement(text)) for text in project["dependencies"]}
    assert {str(each) for each in requirements(PREDICT).values()} <= ranges


PROBE = """
import sys
from mtl_jax.__main__ import _run
code = _run(sys.argv[1:])
print("loaded:", *sys.modules)
sys.exit(code)
"""


@pytest.mark.slow
def test_commands_that_do_not_train_work_with_the_requirements_of_prediction(
    light, trained, tmp_path
):
    photo = trained / "photo.png"
    loaded: set[str] = set()
    for command in (
        ("predict", "--workdir", trained / "run", "--input", photo, "--output", "out"),
        ("convert", "pack", trained / "run", "--output", "model.npz"),
        ("predict", "--workdir", "model.npz", "--input", photo, "--output", "again"),
        ("visualize", "model", "--workdir", trained / "run", "--input", photo, "--output", "look"),
    ):
        # Without a restart of the process, which would not print what is loaded.
        done = succeed(*light, "-c", PROBE, *command, cwd=tmp_path, GLIBC_TUNABLES="")
        loaded |= set(done.out.rpartition("loaded: ")[2].split())
    assert not loaded & TENSORFLOW
    assert (tmp_path / "out/overlays/photo.png.png").is_file()
    assert (tmp_path / "look/index.html").is_file()
    # No requirement is superfluous.
    own = [tree for name, tree in MODULES.items() if f"mtl_jax.{name}" in loaded]
    direct = {full.partition(".")[0] for tree in own for full in imports(tree)} & loaded
    distributions = packages_distributions()
    used = {canonicalize_name(name) for each in direct for name in distributions.get(each, ())}
    assert set(requirements(PREDICT)) - used == set()


@pytest.mark.slow
def test_what_requires_tensorflow_is_one_line_without_it(light, trained, tmp_path):
    for command in (
        ("train", "--config", "mtl_synthetic:tiny", "--workdir", tmp_path / "run", *SHORT),
        ("evaluate", "--workdir", trained / "run"),
    ):
        done = run(*light, "-m", "mtl_jax", *command, cwd=tmp_path)
        assert done.code == 2, done
        line = done.err.splitlines()[-1]
        check_names(line, "tensorflow", "mtl_jax", "--no-deps")
        assert "Traceback" not in done.err


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((scripts.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in extras for text in extras[name])]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    distributions = packages_distributions()
    found = {
        canonicalize_name(name)
        for tree in MODULES.values()
        for full in imports(tree)
        for name in distributions.get(full.partition(".")[0], ())[:1]
    }
    assert found - declared <= {"mtl-jax", "jaxlib"}  # jax requires the jaxlib of its version
