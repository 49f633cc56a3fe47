"""Write the outputs of torchvision's models for the weights and the image of `seeded`.

    PYTHONPATH=.:tests python tests/convert/write_goldens.py

The files contain only outputs. `test_goldens` compares with them where PyTorch is not installed.
"""

from pathlib import Path

import numpy as np
import torch
from convert import seeded, torchvision_side
from convert.our_side import part

from mtl_jax.convert import torchvision_names as names

FOLDER = Path(__file__).parent / "goldens"


def main() -> None:
    batch = seeded.batch()
    image = torch.tensor(batch.images[0].transpose(2, 0, 1) / 255, dtype=torch.float32)
    target = {
        "boxes": torch.tensor(batch.gt.boxes[0]),
        "labels": torch.tensor(batch.gt.classes[0], dtype=torch.int64),
        "masks": torch.tensor(batch.gt.masks[0] // 255),
    }
    for arch in seeded.ARCHS:
        state = seeded.state(arch)
        model = torchvision_side.load(arch, state, seeded.SIZE)
        (found,) = torchvision_side.detect(model, [image])
        levels, (proposals,) = torchvision_side.look_inside(model, [image])
        exhaustive = torchvision_side.load(arch, state, seeded.SIZE, **torchvision_side.EXHAUSTIVE)
        trained = torchvision_side.differentiate(exhaustive, [image], [target])
        gradients = names.to_variables(
            trained.gradients, names.model_tensors(names.arch_options(arch))
        )
        golden = {
            "proposals": proposals,
            "boxes": found["boxes"],
            "scores": found["scores"],
            "labels": found["labels"],
            "masks": np.packbits(found["masks"][: seeded.MASKS, 0] >= 0.5),
        }
        golden |= {f"level/{i}": seeded.sample(x) for i, x in enumerate(levels)}
        golden |= {f"loss/{name}": np.float32(value) for name, value in trained.terms.items()}
        golden |= {f"gradient/{x}": seeded.sample(part(gradients, x)) for x in seeded.PARTS}
        file = FOLDER / f"{arch}.npz"
        np.savez_compressed(file, **golden)
        print(f"{file}: {len(found['scores'])} detections, {file.stat().st_size} bytes")
        print(trained.terms, trained.largest, found["scores"][[0, -1]], len(proposals))


if __name__ == "__main__":
    main()
