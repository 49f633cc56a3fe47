"""The notebooks: each runs to its end on small data and shows the pictures that it promises."""

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
# Finds everything, well or not, after a single step.
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
    config.eval.update(batch_size=2, pictures=2)
    return config
"""


def execute(name: str, folder: Path, **parameters: object) -> nbformat.NotebookNode:
    """Run a notebook's kernel in `folder`, with other parameters; what fails in it is raised."""
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


def pictures(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    """Give the pictures that a notebook shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    encoded = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(e), np.uint8), 1) for e in encoded]


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def check_pictures(notebook: nbformat.NotebookNode, count: int) -> None:
    shown = pictures(notebook)
    assert len(shown) == count
    assert min(picture.std() for picture in shown) > 3


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Execute the notebook that evaluates where there is no run yet: it trains one."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "small.py").write_text(CONFIG)
    names = dict(CONFIG=str(folder / "small.py"), WORKDIR=str(folder / "run"))
    return execute("evaluate", folder, **names, OUTPUT=str(folder / "report")), folder / "run"


@pytest.mark.slow
def test_evaluate(evaluated):
    notebook, run = evaluated
    check_pictures(notebook, 5)
    assert (run / "evaluation/test/metrics.json").is_file()
    check_names(printed(notebook), "AP50", "misses")
    assert re.search(r"\byaw\W+mae\b", printed(notebook))
    assert "report/index.html" in printed(notebook)


@pytest.fixture
def execute_own(request, tmp_path):
    """Return a function that executes the notebook after which the test is named."""
    return partial(execute, request.node.name.removeprefix("test_"), tmp_path)


@pytest.mark.slow
def test_inspect_model(execute_own, evaluated, tmp_path):
    notebook = execute_own(WORKDIR=str(evaluated[1]), OUTPUT=str(tmp_path / "look"))
    check_pictures(notebook, 7)
    (line,) = re.findall(r"^\d+ .*", printed(notebook), re.MULTILINE)  # of how many arrays
    assert "[" not in line  # a list of those that are dead, huge or not finite


@pytest.mark.slow
def test_predict(execute_own, evaluated, tmp_path):
    folders = dict(DATA=str(tmp_path / "drawn/images"), OUTPUT=str(tmp_path / "out"))
    notebook = execute_own(WORKDIR=str(evaluated[1]), **folders)
    check_pictures(notebook, 3)
    assert "head | age" in re.sub(r"head 0\.\d+", "head", printed(notebook))
    assert (tmp_path / "out/predictions.json").is_file()
    assert len(list((tmp_path / "out/overlays").iterdir())) == 6


@pytest.mark.slow
def test_inspect_data(execute_own, tmp_path):
    folders = dict(DATA=str(tmp_path / "drawn"), OUTPUT=str(tmp_path / "look"))
    notebook = execute_own(**folders, PICTURES=6)
    check_pictures(notebook, 4)
    told = printed(notebook)
    assert re.search(r"^6 .*\{'head': \d+\}$", told, re.MULTILINE)
    faults = re.findall(r"spoilt\.json: (.*)", told)
    check_faults(faults, (1, 0, "000000.png", "bbox"), (2, 0, "000000.png", "category_id", 77))


@pytest.mark.slow
def test_train_your_own(execute_own, evaluated, tmp_path):
    folders = dict(DATA=str(tmp_path / "via"), WORKDIR=str(tmp_path / "run"))
    notebook = execute_own(**folders, CHECKPOINT=str(evaluated[1]), PICTURES=12, STEPS=1)
    check_pictures(notebook, 2)
    told = printed(notebook)
    # Of the twelve those of training, and below them what was left out: nothing.
    assert re.search(r"^10 .*Counter\(.*\n[^\d\[({]+$", told, re.MULTILINE)
    assert "AP50" in told
    assert (tmp_path / "run/checkpoints").is_dir()
    # Every weight but those of the classes comes from the checkpoint.
    assert "backbone" in told


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert 0 < len(notebook.cells) <= 12
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [i for i, cell in enumerate(code) if cell.metadata] == [0]  # the parameters' tag


def test_all_notebooks_are_executed_here():
    assert len(PATHS) == 5
    assert all(f"test_{path.stem}" in globals() for path in PATHS)
