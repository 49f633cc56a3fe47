"""Compare the time from the prompt to the drawn image with that of a short script for torchvision.

    python -m benchmarks.first_photo --images first.jpg other.jpg --repeats 3 --output photo.json
    python -m benchmarks.first_photo --images first.jpg other.jpg --imports

Both draw what a Mask R-CNN R50-FPN with the same random weights finds in one photo, each in a new
process: ours by `predict.py` with a packed model, torchvision's by SCRIPT. The calls of ours are

    first    with empty caches: the network is traced and compiled
    second   the same again
    other    another photo, whose size should differ; nothing should be compiled anew

and both libraries take turns, so that other load on the machine affects both equally. Reported are
the processor time of all threads, which depends less on other load, and the wall-clock time;
minima over `--repeats`, each with new caches. The random weights find 100 objects. `--imports` also
prints the processor time of the imports of prediction. PyTorch and torchvision must be installed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
import torch, torchvision
from torchvision.io import read_image, write_png
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

weights, photo, output, size = sys.argv[1:]
model = torchvision.models.detection.maskrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, min_size=int(size), max_size=int(size))
model.load_state_dict(torch.load(weights, weights_only=True))
image = read_image(photo)
with torch.inference_mode():
    found = model.eval()([image / 255])[0]
kept = found["scores"] > 0.5
image = draw_segmentation_masks(image, found["masks"][kept, 0] > 0.5)
write_png(draw_bounding_boxes(image, found["boxes"][kept]), output)
"""
PLANT = """
import sys
import torch, torchvision

torch.manual_seed(0)
model = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
torch.save(model.state_dict(), sys.argv[1])
"""
IMPORTS = """
import time
import mtl_jax.inference.files, mtl_jax.inference.predictor, mtl_jax.runs.loading

print(time.process_time())
"""
Times = dict[str, tuple[float, float]]  # processor and wall-clock seconds of each call


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs=2, required=True, metavar=("FIRST", "OTHER"))
    parser.add_argument("--size", type=int, default=512, help="side of the padded image (512)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of all calls (1)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--imports", action="store_true", help="also measure the imports")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights, packed = plant(Path(folder), options.size)
        runs = [
            measure(Path(folder) / str(i), weights, packed, options.images, options.size)
            for i in range(options.repeats)
        ]
    best = {call: tuple(min(run[call][k] for run in runs) for k in (0, 1)) for call in runs[0]}
    print(format_table(best))
    if options.imports:
        done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True)
        print(f"imports of prediction: {float(done.stdout):.2f} s of processor time")
    if options.output:
        report = {"runs": runs, "load_average": os.getloadavg(), "processors": os.cpu_count()}
        options.output.write_text(json.dumps(report, indent=1))


def plant(folder: Path, size: int) -> tuple[Path, Path]:
    """Write torchvision's state dict with random weights, and the same as a packed model."""
    weights, run, packed = folder / "weights.pth", folder / "run", folder / "model.npz"
    convert = [sys.executable, "-m", "mtl_jax.convert"]
    sides = ["--min-size", str(size), "--max-size", str(size)]
    for command in (
        [sys.executable, "-c", PLANT, str(weights)],
        [*convert, "torchvision", str(weights), "--workdir", str(run), *sides],
        [*convert, "pack", str(run), "--output", str(packed)],
    ):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return weights, packed


def measure(folder: Path, weights: Path, packed: Path, images: Sequence[Path], size: int) -> Times:
    """Return the times of all calls, with new caches in `folder`."""
    first, other = (str(path.resolve()) for path in images)
    caches = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    caches["XDG_CACHE_HOME"] = str(folder / "cache")
    times: Times = {}
    for call, photo in {"first": first, "second": first, "other": other}.items():
        output = folder / call
        output.mkdir(parents=True)
        ours = ["predict.py", "--workdir", str(packed), "--input", photo, "--output", str(output)]
        theirs = ["-c", SCRIPT, str(weights), photo, str(output / "drawn.png"), str(size)]
        times[f"mtl_jax, {call}"] = run([sys.executable, *ours], caches)
        times[f"torchvision, {call}"] = run([sys.executable, *theirs], caches)
    return times


def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Run a command and return the processor and the wall-clock seconds that it took."""
    before, start = _processor_time(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return _processor_time() - before, time.perf_counter() - start


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def format_table(times: Mapping[str, Sequence[float]]) -> str:
    """Return a table of the times of each call, and their ratio."""
    lines = [
        f"{'call':<8}{'processor seconds':>26}{'ratio':>8}{'wall-clock seconds':>26}{'ratio':>8}",
        f"{'':<8}" + f"{'mtl_jax':>13}{'torchvision':>13}{'':>8}" * 2,
    ]
    for call in ("first", "second", "other"):
        ours, theirs = times[f"mtl_jax, {call}"], times[f"torchvision, {call}"]
        cells = [f"{a:>13.2f}{b:>13.2f}{a / b:>8.2f}" for a, b in zip(ours, theirs, strict=True)]
        lines.append(f"{call:<8}" + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
