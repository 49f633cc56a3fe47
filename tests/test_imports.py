"""Tests of the import rules between packages, from the import statements of all files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtl_jax"
DATA = {
    f"data.{name}" for name in ("records", "segmentation", "face_points", "duplicates", "pixels")
}
# The packages and modules of mtl_jax that each package or module may import, besides itself. The
# longest matching name applies to a module; modules that match no name may import everything. An
# allowed name includes everything below it: "images" allows "images.decode".
BORDERS: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "losses": {"types"},
    "io": {"errors"},
    "images": {"errors", "io"},
    "attributes": {"errors", "images.geometry"},
    "config.options": {"errors", "images.resize"},
    "config": {"config.options", "attributes", "errors", "io.user_module", "data.datasets.blocks"},
    "ops": {"types"},
    "layers": {"ops", "types"},
    "models": {
        *("types", "errors", "attributes", "ops", "layers", "losses"),
        *("config.options", "images.geometry", "images.resize"),
    },
    "training": {"types", "errors", "losses", "io", "config.options"},
    "data": {"types", "errors", "io", "images", "attributes", *DATA},
    "data.readers": {"errors", "io", "images", "attributes", "data.synthetic", *DATA},
    "data.synthetic": {"types", "attributes", *DATA},
    "data.face_masks": {"attributes", *DATA},
    "data.datasets": {
        *("types", "errors", "io", "images", "attributes", "config.options"),
        *("data.readers", "data.synthetic", "data.face_masks", *DATA),
    },
    "data.loader": {
        *("types", "errors", "images", "attributes", "config.options", "data.face_masks"),
        *DATA,
    },
    "data.tools": {"errors", "io", "images", "attributes", "data"},
    "results": {"types", "attributes", "images.geometry", "data.records", "data.segmentation"},
    "evals": {"results", "attributes", "config.options", "data.records"},
}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
TENSORFLOW = {"tensorflow", "tensorflow_datasets"}
CONFIGS = {"ml_collections", "absl"}
TRAINING = {"optax", "orbax", "tensorboardX"}
# Libraries that are loaded neither by a package nor by what it imports.
WITHOUT: dict[str, set[str]] = {
    "data": JAX | CONFIGS,
    "evals": JAX | TENSORFLOW | CONFIGS,
    "results": JAX | TENSORFLOW | CONFIGS,
    "images": JAX | TENSORFLOW | CONFIGS,
    "attributes": JAX | TENSORFLOW | CONFIGS,
    "config": JAX | TENSORFLOW,
    "models": TENSORFLOW | CONFIGS,
    "training": TENSORFLOW | CONFIGS,
    "inference": TENSORFLOW | TRAINING | {"matplotlib"},
    "runs.loading": TENSORFLOW | TRAINING | {"matplotlib"},
    "visualize": TENSORFLOW,
    "convert.torchvision": TENSORFLOW,
    "convert.matterport": TENSORFLOW,
    "convert.export": TENSORFLOW | TRAINING,
}
# Modules that may import TensorFlow, at the top or inside functions.
TENSORFLOW_USERS = {
    "data.loader.pipeline",
    "data.readers.tables.tfds",
    "data.readers.tables.tfds_faces",
    "convert.saved_model",
}


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module by its name without `mtl_jax.`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(
            path.read_text()
        )
    return found


MODULES = modules()


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of every import in `tree`, including imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def on_top(tree: ast.Module) -> ast.Module:
    """Return a module with the statements that run when `tree` is imported."""
    later = ast.FunctionDef | ast.AsyncFunctionDef
    return ast.Module([node for node in tree.body if not isinstance(node, later)], [])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def border_of(module: str) -> str | None:
    """Return the longest name of BORDERS that contains `module`, or None."""
    return max((name for name in BORDERS if within(module, name)), key=len, default=None)


def crossings(module: str, tree: ast.AST) -> list[str]:
    """Return the imports in `tree` that the border of `module` forbids."""
    own = border_of(module)
    if own is None or module.endswith("__main__"):
        return []
    inner = sorted({n.removeprefix("mtl_jax.") for n in imports(tree) if within(n, "mtl_jax")})
    return [
        name
        for name in inner
        if border_of(name) != own and not any(within(name, other) for other in BORDERS[own])
    ]


def loaded_by(module: str, trees: dict[str, ast.Module]) -> set[str]:
    """Return the libraries that `module` imports, directly or through modules of mtl_jax."""
    seen, waiting, libraries = set(), [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for full in imports(on_top(trees[name])):
            if not within(full, "mtl_jax"):
                libraries.add(full.partition(".")[0])
                continue
            inner = full.removeprefix("mtl_jax").removeprefix(".")
            waiting.append(inner if inner in trees else inner.rpartition(".")[0])
    return libraries


@pytest.mark.parametrize("border", BORDERS)
def test_packages_import_only_what_their_border_allows(border):
    own = {name: tree for name, tree in MODULES.items() if border_of(name) == border}
    assert own
    assert {name: wrong for name, tree in own.items() if (wrong := crossings(name, tree))} == {}


CROSSED = {
    "types": "errors",
    "errors": "types",
    "losses": "ops.boxes",
    "io": "images.decode",
    "images": "attributes.base",
    "attributes": "images.decode",
    "config.options": "attributes.base",
    "config": "data.readers.formats",
    "ops": "layers.fpn",
    "layers": "losses",
    "models": "training.loop",
    "training": "models.mask_rcnn.network",
    "data": "data.readers.formats",
    "data.readers": "data.loader.pipeline",
    "data.synthetic": "data.readers.formats",
    "data.face_masks": "data.loader.transforms",
    "data.datasets": "data.loader.transforms",
    "data.loader": "data.datasets.sources",
    "data.tools": "models.mask_rcnn.network",
    "results": "visualize.drawing.draw",
    "evals": "data.readers.formats",
}


@pytest.mark.parametrize("border", BORDERS)
def test_an_import_across_a_border_is_found(border):
    package, _, name = f"mtl_jax.{CROSSED[border]}".rpartition(".")
    for text in (f"from {package} import {name}", f"def f():\n    import {package}.{name}"):
        assert crossings(border, ast.parse(text)) == [CROSSED[border]]
    assert crossings(border, ast.parse("import numpy")) == []


@pytest.mark.parametrize("package", WITHOUT)
def test_packages_load_no_forbidden_library(package):
    own = [m for m in MODULES if within(m, package) and not m.endswith("__main__")]
    assert own
    wrong = {m: loaded_by(m, MODULES) & WITHOUT[package] for m in own}
    assert {m: libraries for m, libraries in wrong.items() if libraries} == {}


@pytest.mark.parametrize("package", WITHOUT)
def test_a_library_that_is_loaded_indirectly_is_found(package):
    for library in WITHOUT[package]:
        trees = {
            package: ast.parse("from mtl_jax.other import name"),
            "other": ast.parse(f"import {library}.part"),
        }
        assert loaded_by(package, trees) & WITHOUT[package] == {library}


def test_tensorflow_is_imported_in_few_modules():
    users = {
        name
        for name, tree in MODULES.items()
        if {full.partition(".")[0] for full in imports(tree)} & TENSORFLOW
    }
    assert users <= TENSORFLOW_USERS


def test_pytorch_is_imported_nowhere():
    assert not any(within(full, "torch") for tree in MODULES.values() for full in imports(tree))
    tree = ast.parse("def f():\n    from torch.utils import data")
    assert any(within(full, "torch") for full in imports(tree))


def test_folders_and_modules_stay_small():
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    folders = [path.parent for path in files]
    crowded = {str(f.relative_to(ROOT)) for f in folders if folders.count(f) > 15}
    long = [
        str(path.relative_to(ROOT)) for path in files if len(path.read_text().splitlines()) > 400
    ]
    assert (crowded, long) == (set(), [])
