"""Tests of the notebooks: each runs without errors on small data and shows its images."""

import base64
import os
import re
from functools import partial
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
import scripts
from mistakes import check_faults, check_names
from nbclient import NotebookClient

PATHS = sorted((scripts.ROOT / "notebooks").glob("*.ipynb"))
# After one step, the model returns detections of any score.
CONFIG = """
from configs.mtl_synthetic import get_config as get_notebook

VARIANTS = ("",)

def get_config(variant=""):
    config = get_notebook("notebook")
    for block in config.data.sources:
        block["length"] = 12
    for name in ("gender", "smile", "face"):
        del config.attributes[name]
    config.model.detection.update(score_threshold=0.0, max_detections=50)
    config.stages = (dict(layers="all", steps=1, learning_rate=0.0),)
    config.train.batch_size = 2
    config.eval.update(batch_size=2, images=2)
    return config
"""


def execute(name: str, folder: Path, **parameters: object) -> nbformat.NotebookNode:
    """Execute a notebook in `folder` with changed parameters and return it; errors are raised."""
    notebook = nbformat.read(scripts.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    tagged = [i for i, cell in enumerate(notebook.cells) if "tags" in cell.metadata]
    assert notebook.cells[tagged[0]].metadata["tags"] == ["parameters"]
    for key in parameters:
        assert re.search(rf"\b{key}\b.*=", notebook.cells[tagged[0]].source), key
    changed = [f"{key} = {value!r}" for key, value in parameters.items()]
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell("\n".join(changed)))
    environment = {
        **os.environ,
        "PYTHONPATH": str(scripts.ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute(env=environment)


def images(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    """Return the images that a notebook shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    encoded = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(e), np.uint8), 1) for e in encoded]


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def check_images(notebook: nbformat.NotebookNode, count: int) -> None:
    shown = images(notebook)
    assert len(shown) == count
    assert min(image.std() for image in shown) > 3


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Execute the notebook evaluate without a run, so that it trains one; return both."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "small.py").write_text(CONFIG)
    names = dict(CONFIG=str(folder / "small.py"), WORKDIR=str(folder / "run"))
    return execute("evaluate", folder, **names, OUTPUT=str(folder / "report")), folder / "run"


@pytest.mark.slow
def test_evaluate(evaluated):
    notebook, run = evaluated
    check_images(notebook, 5)
    assert (run / "evaluation/test/metrics.json").is_file()
    check_names(printed(notebook), "AP50", "misses")
    assert re.search(r"\byaw\W+mae\b", printed(notebook))
    assert "report/index.html" in printed(notebook)


@pytest.fixture
def execute_own(request, tmp_path):
    """Return a function that executes the notebook whose name is in the test's name."""
    return partial(execute, request.node.name.removeprefix("test_"), tmp_path)


@pytest.mark.slow
def test_inspect_model(execute_own, evaluated, tmp_path):
    notebook = execute_own(WORKDIR=str(evaluated[1]), OUTPUT=str(tmp_path / "look"))
    check_images(notebook, 7)
    (line,) = re.findall(r"^\d+ .*", printed(notebook), re.MULTILINE)  # the number of arrays
    assert "[" not in line  # a list of arrays that are zero, huge or not finite


@pytest.mark.slow
def test_predict(execute_own, evaluated, tmp_path):
    folders = dict(DATA=str(tmp_path / "drawn/images"), OUTPUT=str(tmp_path / "out"))
    notebook = execute_own(WORKDIR=str(evaluated[1]), **folders)
    check_images(notebook, 3)
    assert "head | age" in re.sub(r"head 0\.\d+", "head", printed(notebook))
    assert (tmp_path / "out/predictions.json").is_file()
    assert len(list((tmp_path / "out/overlays").iterdir())) == 6


@pytest.mark.slow
def test_inspect_data(execute_own, tmp_path):
    folders = dict(DATA=str(tmp_path / "drawn"), OUTPUT=str(tmp_path / "look"))
    notebook = execute_own(**folders, PICTURES=6)
    check_images(notebook, 4)
    logged = printed(notebook)
    assert re.search(r"^6 .*\{'head': \d+\}$", logged, re.MULTILINE)
    faults = re.findall(r"spoilt\.json: (.*)", logged)
    check_faults(faults, (1, 0, "000000.png", "bbox"), (2, 0, "000000.png", "category_id", 77))


@pytest.mark.slow
def test_train_your_own(execute_own, evaluated, tmp_path):
    folders = dict(DATA=str(tmp_path / "via"), WORKDIR=str(tmp_path / "run"))
    notebook = execute_own(**folders, CHECKPOINT=str(evaluated[1]), PICTURES=12, STEPS=1)
    check_images(notebook, 2)
    logged = printed(notebook)
    # The training images of the twelve, then the omitted annotations: none.
    assert re.search(r"^10 .*Counter\(.*\n[^\d\[({]+$", logged, re.MULTILINE)
    assert "AP50" in logged
    assert (tmp_path / "run/checkpoints").is_dir()
    # All weights except those of the classes are loaded from the checkpoint.
    assert "backbone" in logged


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert 0 < len(notebook.cells) <= 12
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [i for i, cell in enumerate(code) if cell.metadata] == [0]  # the tag of the parameters


def test_all_notebooks_are_executed_here():
    assert len(PATHS) == 5
    assert all(f"test_{path.stem}" in globals() for path in PATHS)
