"""Measure reading a .pth file with this library and with PyTorch.

    nice python -m benchmarks.read_weights maskrcnn_resnet50_fpn_coco.pth --repeats 3

Each reading is a new process; the libraries take turns. Prints for each library the smallest
processor time of the imports and of the reading, and the memory at its peak.
"""

import argparse
import subprocess
import sys

LIBRARIES = {
    "mtl_jax": "from mtl_jax.convert.torch_files import read_torch",
    "PyTorch": """
import torch
def read_torch(path):
    return {name: x.numpy() for name, x in torch.load(path, weights_only=True).items()}
""",
}
MEASURE = """
import resource, sys, time
start = time.process_time()
exec(sys.argv[1])
middle = time.process_time()
tensors = read_torch(sys.argv[2])
end = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(middle - start, end - middle, peak / 1000, len(tensors))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", help=".pth file")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each library (3)")
    arguments = parser.parse_args()
    measured: dict[str, list[list[float]]] = {library: [] for library in LIBRARIES}
    for _ in range(arguments.repeats):
        for library, program in LIBRARIES.items():
            command = [sys.executable, "-c", MEASURE, program, arguments.file]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured[library].append([float(value) for value in done.stdout.split()])
    for library, rows in measured.items():
        imports, reading, memory, tensors = (min(column) for column in zip(*rows, strict=True))
        print(
            f"{library:<8} {tensors:.0f} tensors: imports {imports:.2f} s, "
            f"reading {reading:.2f} s, {memory:.0f} MB"
        )


if __name__ == "__main__":
    main()
