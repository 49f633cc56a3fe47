"""Types that are shared between packages, and the notation of array shapes.

Letters in all shape annotations of the package:

    B  images               H W    height, width of the padded image
    C  channels             Hl Wl  height, width of a pyramid level
    L  pyramid levels       A      anchors per cell
    N  anchors of an image  P      proposals of an image
    R  sampled RoIs         M      ground-truth slots
    D  detection slots      K      classes, with background (0)
    J  landmarks            S      side of a square mask
    V  numbers in a label   E      numbers in a prediction
    O  outputs of a head    F      features of a vector

The padded image, or canvas, is the network's input: the resized image at the top left, and zeros.
Boxes are `[x1, y1, x2, y2]`, continuous, in pixels of the padded image: an image of width W spans x
from 0 to W, and the centre of its first pixel is at 0.5. This module imports neither jax nor
TensorFlow: batches of the input pipeline have NumPy arrays, batches in a model traced arrays.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8

Array = Any  # np.ndarray on the host, jax.Array on the device


class AttributeLabels(NamedTuple):
    """Labels of one attribute. The class of each kind of attribute defines the V numbers."""

    values: Float[Array, "*B M V"]
    known: Bool[Array, "*B M V"]


class GroundTruth(NamedTuple):
    """Annotations of an image, in M slots. Rows where `valid` is False are undefined."""

    boxes: Float[Array, "*B M 4"]
    classes: Int[Array, "*B M"]  # 1 .. K-1
    valid: Bool[Array, "*B M"]
    # Coverage 0..255 of the S x S cells of the row's box, or of the whole padded image.
    masks: UInt8[Array, "*B M S S"]
    mask_valid: Bool[Array, "*B M"]
    # Boxes of what is neither learned nor background: crowds, and objects without a slot or hardly
    # visible. Unused rows are 0.
    ignored: Float[Array, "*B I 4"]
    attributes: Mapping[str, AttributeLabels]


class Proposals(NamedTuple):
    """Candidate regions of an image, in P slots. Rows where `valid` is False are undefined."""

    boxes: Float[Array, "*B P 4"]
    valid: Bool[Array, "*B P"]


class Inputs(NamedTuple):
    """What a model predicts from: images of one padded size."""

    images: UInt8[Array, "*B H W C"] | Float[Array, "*B H W C"]  # 0..255
    # height, width of the part of the padded image that the image covers, from its top left
    sizes: Float[Array, "*B 2"]
    valid: Bool[Array, "*B"]  # False: the row only fills the batch
    proposals: Proposals | None = None  # for a model that requires them


class Batch(NamedTuple):
    """Images of one padded size and their ground truth."""

    images: UInt8[Array, "*B H W C"] | Float[Array, "*B H W C"]  # these three as in `Inputs`
    sizes: Float[Array, "*B 2"]
    valid: Bool[Array, "*B"]
    exhaustive: Bool[Array, "*B"]  # False: some objects are not annotated; there are no negatives
    index: Int[Array, "*B"]  # the record's position in its data set; -1 where not valid
    gt: GroundTruth
    # Which classes are annotated in each image, background first; None: all. There can be objects
    # of the others anywhere in the image.
    labelled: Bool[Array, "*B K"] | None = None
    # If this is a part of a training step's batch: the position of each row in that batch.
    places: Int[Array, "*B"] | None = None

    @property
    def inputs(self) -> Inputs:
        """The images without their ground truth."""
        return Inputs(self.images, self.sizes, self.valid)


class Detections(NamedTuple):
    """Detections, in D slots ordered by score. Rows where `valid` is False are undefined."""

    boxes: Float[Array, "*B D 4"]
    scores: Float[Array, "*B D"]
    classes: Int[Array, "*B D"]
    valid: Bool[Array, "*B D"]
    masks: Float[Array, "*B D S S"] | None  # probability on the cells of the row's box
    attributes: Mapping[str, Float[Array, "*B D E"]]


Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree}; training adds "frozen"


class MaskedSum(NamedTuple):
    """A mean as its sum and count, so that the means of a batch's parts can be combined."""

    total: Float[Array, ""]
    count: Int[Array, ""]


Term = tuple[MaskedSum, ...]  # a loss term is the sum of such means


class Model(NamedTuple):
    """A network, its loss terms and its predictions as pure functions.

    `init(key, inputs)` returns the variables. `terms(variables, batch, key, train)` returns every
    loss term, unweighted, and the new batch statistics; without `train` the network runs as in
    prediction: no dropout, running statistics. `predict(variables, inputs)` returns detections in
    pixels of the padded images. The objective is the sum of the terms times their `weights`; a term
    without a weight is a regularisation term and is added as it is. `shared` is a pattern of the
    paths of the parameters that all attributes and detection share; '' for none.
    """

    init: Callable[[Array, Inputs], Variables]
    terms: Callable[[Variables, Batch, Array, bool], tuple[dict[str, Term], Any]]
    predict: Callable[[Variables, Inputs], Detections]
    weights: Mapping[str, float] = MappingProxyType({})
    shared: str = ""
