"""Create a run folder from matterport Mask_RCNN's Keras weights."""

from collections.abc import Sequence
from pathlib import Path

from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_matterport
from mtl_jax.config.resolve import resolve
from mtl_jax.convert import matterport_names as names
from mtl_jax.convert.coco_names import coco_used_categories
from mtl_jax.convert.keras_files import read_keras
from mtl_jax.convert.model_files import find_weights
from mtl_jax.convert.torchvision import Converted, read_categories
from mtl_jax.errors import UserError, compile_pattern
from mtl_jax.io.digests import file_digest
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.origin import write_origin
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.transfer import TransferRow, format_table, transfer


def import_weights(
    file: str,
    workdir: Path,
    *,
    min_size: int = 800,
    max_size: int = 1024,
    score_threshold: float = 0.7,
    anchor_sizes: Sequence[float] = (),
    anchor_ratios: Sequence[float] = (),
    class_names: Path | None = None,
    unused: Sequence[str] = (),
) -> None:
    """Create the run folder `workdir` from a weight file of matterport's Mask_RCNN or MTL_MRCNN.

    On the same padded image both networks find the same objects. The surrounding code differs:

    - Here the image is at the top left of the padded image, and the mean pixel fills the rest. In
      the original it is centred on black, and proposals extend into the black.
    - The original keeps a score equal to the threshold; here scores must be larger.
    - The original rounds final boxes to whole pixels, and classifies the padding of its list of
      proposals.
    - MTL_MRCNN reads attributes from the proposal; here they are read from the refined box.
    - Here a box's side is at most 62.5 times its anchor's.

    `anchor_ratios` are width / height. By default `anchor_ratios` and `anchor_sizes` are those of
    matterport's config. Prints the outcome of each part. Raises UserError if a tensor is missing or
    unexpected; unexpected keys that match a pattern of `unused` are ignored.
    """
    path, entry = find_weights(file, "matterport")
    converted = convert(
        path,
        min_size=min_size,
        max_size=max_size,
        score_threshold=score_threshold,
        anchor_sizes=anchor_sizes,
        anchor_ratios=anchor_ratios,
        class_names=class_names,
        unused=unused,
    )
    print(f"{file}: {converted.name}")
    if converted.setup.attributes:
        print("attribute head: assuming yaw and pitch, as in MTL_MRCNN; the file has no names")
    print(format_table(converted.rows))
    save_run(workdir, converted.setup, converted.variables)
    if entry is not None:
        write_origin(workdir, entry.card(file_digest(path)))


def convert(
    file: Path,
    *,
    min_size: int = 800,
    max_size: int = 1024,
    score_threshold: float = 0.7,
    anchor_sizes: Sequence[float] = (),
    anchor_ratios: Sequence[float] = (),
    class_names: Path | None = None,
    unused: Sequence[str] = (),
) -> Converted:
    """Convert a weight file. Raises UserError if a tensor is missing or unexpected."""
    patterns = [compile_pattern(pattern, "--unused") for pattern in unused]
    state = read_keras(file)

    def is_unused(key: str) -> bool:
        return any(pattern.search(key) for pattern in patterns)

    try:
        sizes = names.guess_sizes(state, not is_unused(f"{names.ATTRIBUTE_OUTPUT}/kernel"))
        found = names.to_variables(state, sizes, is_unused)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    name = f"matterport's Mask R-CNN, resnet{sizes.depth}, {sizes.classes - 1} classes"
    config = matterport_config(sizes, min_size, max_size, anchor_sizes, anchor_ratios)
    config.model.detection.score_threshold = score_threshold
    if class_names is None and sizes.classes == 81:
        categories = coco_used_categories()
    else:
        categories = read_categories(class_names, sizes.classes)
    setup = Setup.build(resolve(config), categories)
    variables, rows = transfer(variable_shapes(setup), unflatten_dict(found, sep="/"))
    left_out = [
        TransferRow(key, state[key].size, "left out: matches --unused")
        for key in state.keys() - names.model_shapes(sizes).keys()
    ]
    every = (*rows, *sorted(left_out))
    if any(row.outcome != "copied" for row in rows):
        print(format_table(every))
        raise UserError(f"{file}: the weights do not match the model; see the table above")
    return Converted(name, setup, variables, every)


def matterport_config(
    sizes: names.Sizes,
    min_size: int,
    max_size: int,
    anchor_sizes: Sequence[float] = (),
    anchor_ratios: Sequence[float] = (),
) -> ConfigDict:
    """Return a run's config for a model of these sizes; other fields are matterport's defaults.

    Raises UserError for sizes and ratios that such a model cannot have.
    """
    if max_size % 64 or max_size < 64:
        raise UserError(f"--max-size {max_size}: must be a multiple of 64")
    config = get_matterport(min_size, max_size)
    model = config.model
    if any(ratio <= 0 for ratio in anchor_ratios):
        raise UserError("--anchor-ratios: must be greater than 0")
    if anchor_ratios:
        model.rpn.anchor_ratios = tuple(1 / ratio for ratio in anchor_ratios)
    if anchor_sizes:
        model.rpn.anchor_sizes = tuple((float(size),) for size in anchor_sizes)
    if sizes.anchors != len(model.rpn.anchor_ratios):
        raise UserError(f"--anchor-ratios: the weights require {sizes.anchors}, one per anchor")
    model.backbone.depth = sizes.depth
    model.fpn.channels = sizes.channels
    model.rpn.channels = sizes.rpn_channels
    model.box_head.update(pool_size=sizes.pool_size, fc_features=sizes.features)
    model.mask_head.enabled = sizes.mask_channels > 0
    if sizes.mask_channels:
        model.mask_head.channels = sizes.mask_channels
    if sizes.attribute_channels:
        model.attribute_head.update(
            wide=True, pool_size=28, channels=sizes.attribute_channels, features=0, norm="frozen"
        )
        config.attributes.head = dict(
            kind="pose", angles=("yaw", "pitch"), scale=names.ATTRIBUTE_SCALE
        )
    return config
