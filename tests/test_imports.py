"""Who may import whom: proved by running the imports, and by reading every file's import lines."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtl_jax"


def modules() -> list[str]:
    """Name every module of the package."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def part(name: str) -> str:
    """Name the part of the package that a module belongs to: `data` of `mtl_jax.data.coco`."""
    return name.split(".")[1] if "." in name else ""


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def loaded_by(names: list[str], watched: tuple[str, ...]) -> list[str]:
    """Import modules, and tell which of `watched` are then loaded."""
    lines = [f"import {name}" for name in ("sys", *names)]
    done = fresh("\n".join(lines) + f"\nprint(*[w for w in {watched!r} if w in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def import_without(names: list[str], absent: tuple[str, ...]) -> str:
    """Import modules where `absent` ones cannot be; give what fails, or ''.

    TensorFlow itself looks for jax and takes it where it is, so that looking at what is loaded
    would not tell who asked for it.
    """
    lines = [f"import {name}" for name in ("sys", *names)]
    lines.insert(1, f"sys.modules.update(dict.fromkeys({absent!r}))")
    return fresh("\n".join(lines)).stderr


WITHOUT_JAX = {"data", "evals", "images", "image_headers", "attributes", "types", "errors"}
WITHOUT_TENSORFLOW = {"models", "ops", "layers", "losses", "training"}
# A command line may read configs; what it starts is looked at alone.
COMMANDS = ("__main__",)


def of(parts: set[str]) -> list[str]:
    return [name for name in modules() if part(name) in parts and not name.endswith(COMMANDS)]


def test_data_and_evaluation_need_no_jax():
    names = of(WITHOUT_JAX)
    assert "mtl_jax.data.pipeline" in names
    assert import_without(names, ("jax", "jaxlib", "flax")) == ""
    light = [name for name in names if name != "mtl_jax.data.pipeline"]
    assert loaded_by(light, ("jax", "jaxlib", "flax")) == []


def test_models_and_training_load_no_tensorflow_and_no_configs():
    names = of(WITHOUT_TENSORFLOW)
    assert "mtl_jax.models" in names
    assert loaded_by(names, ("tensorflow", "ml_collections")) == []


def test_the_checks_can_fail():
    assert "import of jax halted" in import_without(["mtl_jax.losses"], ("jax",))
    assert "tensorflow" in loaded_by(["mtl_jax.data.pipeline"], ("tensorflow", "jax"))
    assert loaded_by(["mtl_jax.losses"], ("tensorflow", "jax")) == ["jax"]


GROUND = {
    "types",
    "errors",
    "images",
    "image_headers",
    "attributes",
    "whole_files",
    "python_files",
}
# For each part what it may import besides itself and the ground floor; other parts may import all.
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "whole_files": set(),
    "python_files": {"errors"},
    "image_headers": set(),
    "images": {"image_headers", "whole_files"},
    "attributes": {"images", "errors"},
    "results": {"data.records", "data.segmentation", "visualize.draw"}
    | GROUND,  # it draws itself when asked
    "ops": GROUND,
    "losses": GROUND,
    "layers": {"ops"} | GROUND,
    "models": {"ops", "losses", "layers"} | GROUND,
    "training": GROUND,
    "data": GROUND,
    "evals": {"results", "data.records"} | GROUND,
}


def imported(path: Path) -> set[str]:
    """Name what a file imports of the package, without `mtl_jax.`, on top or anywhere else."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("mtl_jax.") for name in names if name.startswith("mtl_jax.")}
    return found


def forbidden(own: str, name: str) -> bool:
    """Say whether a file of part `own` may not import `name`, as `ops.nms.keep`."""
    allowed = ALLOWED[own] | {own}
    return not any(name == entry or name.startswith(entry + ".") for entry in allowed)


@pytest.mark.parametrize("own", sorted(ALLOWED))
def test_parts_import_what_stands_below_them(own):
    files = [PACKAGE / f"{own}.py", *sorted((PACKAGE / own).rglob("*.py"))]
    wrong = [
        f"{path.relative_to(ROOT)} imports mtl_jax.{name}"
        for path in files
        if path.exists() and path.name != "__main__.py"
        for name in sorted(imported(path))
        if forbidden(own, name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("own", "name", "wrong"),
    [
        ("ops", "layers.fpn.FPN", True),
        ("ops", "types.Batch", False),
        ("layers", "losses", True),
        ("training", "models.mask_rcnn", True),
        ("evals", "data.records.Record", False),
        ("evals", "data.pipeline", True),
        ("types", "images", True),
        ("data", "datasets.x", True),
    ],
)
def test_the_table_can_forbid(own, name, wrong):
    assert forbidden(own, name) == wrong


def test_only_data_and_the_export_import_tensorflow():
    allowed = {PACKAGE / "convert" / "saved_model.py"}
    for path in PACKAGE.rglob("*.py"):
        if path in allowed or "data" in path.relative_to(PACKAGE).parts[:-1]:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0].startswith("tensorflow") for n in names), path
