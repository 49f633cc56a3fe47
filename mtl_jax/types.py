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
    crowd: Bool[Array, "*B M"]  # a region of many objects: neither positive nor negative
    # Coverage 0..255 of the S x S cells of the row's box, or of the whole padded image.
    masks: UInt8[Array, "*B M S S"]
    mask_valid: Bool[Array, "*B M"]
    attributes: Mapping[str, AttributeLabels]


class Proposals(NamedTuple):
    """Candidate regions of an image, in P slots. Rows where `valid` is False are undefined."""

    boxes: Float[Array, "*B P 4"]
    valid: Bool[Array, "*B P"]


class Batch(NamedTuple):
    """Padded images of one size and their ground truth."""

    images: UInt8[Array, "*B H W C"] | Float[Array, "*B H W C"]  # 0..255
    sizes: Float[Array, "*B 2"]  # height, width of the image without padding
    valid: Bool[Array, "*B"]  # False: the row only completes the batch
    # False: the image has unlabelled objects, so it is not used for negatives.
    exhaustive: Bool[Array, "*B"]
    index: Int[Array, "*B"]  # position of the record in its data set; -1 where not valid
    gt: GroundTruth
    proposals: Proposals | None = None  # of a model that requires external proposals


class Detections(NamedTuple):
    """Detections, in D slots ordered by score. Rows where `valid` is False are undefined."""

    boxes: Float[Array, "*B D 4"]
    scores: Float[Array, "*B D"]
    classes: Int[Array, "*B D"]
    valid: Bool[Array, "*B D"]
    masks: Float[Array, "*B D S S"] | None  # probability on the cells of the row's box
    attributes: Mapping[str, Float[Array, "*B D E"]]


Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree}; training adds "frozen"
Loss = Callable[[Variables, Batch, Array], tuple[Array, dict[str, Array], Any]]


class MaskedSum(NamedTuple):
    """Sum and number of elements, so that parts of a batch combine to the mean of the batch."""

    total: Float[Array, ""]
    count: Int[Array, ""]


Term = tuple[MaskedSum, ...]  # a loss term is the sum of these means
Total = Callable[[Mapping[str, Term]], tuple[Array, dict[str, Array]]]


class Model(NamedTuple):
    """A network and its loss as pure functions.

    init(key, batch)             returns the variables.
    loss(variables, batch, key)  returns the training loss: the weighted scalar, the unweighted
                                 differentiable terms by name, and the new batch statistics.
    sums(variables, batch)       returns the terms in evaluation mode, without dropout and with
                                 running statistics, as sums to be added over batches.
    total(sums)                  returns the weighted scalar and the terms of added sums.
    predict(variables, batch)    returns detections in pixels of the padded image.
    weights                      weights of the tasks' terms in the scalar. Regularisation terms are
                                 not included.
    shared                       pattern of the paths of the parameters shared by all tasks; '':
                                 none.
    """

    init: Callable[[Array, Batch], Variables]
    loss: Loss
    sums: Callable[[Variables, Batch], dict[str, Term]]
    total: Total
    predict: Callable[[Variables, Batch], Detections]
    weights: Mapping[str, float] = MappingProxyType({})
    shared: str = ""
