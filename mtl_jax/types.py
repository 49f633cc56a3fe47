"""The letters of every shape, and the values that cross package borders.

Letters, used in every annotation of the package:

    B images          H W  canvas height, width   C  channels
    L pyramid levels  Hl Wl a level's height, width
    A anchors a cell  N  anchors of an image      P  proposals of an image
    R sampled RoIs    M  ground-truth slots       D  detection slots
    K classes with background (0)                 S  side of a square mask
    J landmarks       V  numbers in a label       E  numbers in a prediction
    O outputs of a head                           F  features of a vector

Boxes are `[x1, y1, x2, y2]`, continuous, in pixels of the canvas (the network's input): a picture
of width W spans x from 0 to W, its first pixel's centre is at 0.5. Nothing here imports jax or
TensorFlow: a batch of the input pipeline holds NumPy arrays, a batch inside the model traced ones.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8

Array = Any  # np.ndarray on the host, jax.Array on the device


class AttributeLabels(NamedTuple):
    """One attribute's labels. What the V numbers are is said by `attributes.Attribute` of each
    kind.
    """

    values: Float[Array, "*B M V"]
    known: Bool[Array, "*B M V"]


class GroundTruth(NamedTuple):
    """What is annotated on one image, in M slots; rows where `valid` is False hold nothing of
    meaning.
    """

    boxes: Float[Array, "*B M 4"]
    classes: Int[Array, "*B M"]  # 1 .. K-1
    valid: Bool[Array, "*B M"]
    crowd: Bool[Array, "*B M"]  # a region of many objects: neither positive nor negative
    masks: UInt8[
        Array, "*B M S S"
    ]  # coverage 0..255 of the S x S cells of the row's box (or of the whole canvas)
    mask_valid: Bool[Array, "*B M"]
    attributes: Mapping[str, AttributeLabels]


class Proposals(NamedTuple):
    """Regions of an image in which things may be, in P slots; rows where `valid` is False hold
    nothing of meaning.
    """

    boxes: Float[Array, "*B P 4"]
    valid: Bool[Array, "*B P"]


class Batch(NamedTuple):
    """Images of one canvas size and their ground truth."""

    images: UInt8[Array, "*B H W C"] | Float[Array, "*B H W C"]  # 0..255
    sizes: Float[
        Array, "*B 2"
    ]  # height, width of the part of the canvas that the picture covers, from its top left
    valid: Bool[Array, "*B"]  # False: the row only fills the batch up
    exhaustive: Bool[
        Array, "*B"
    ]  # False: unlabelled objects stand in the picture, so it gives no negatives
    index: Int[Array, "*B"]  # the record's position in its data set; -1 where not valid
    gt: GroundTruth
    proposals: Proposals | None = None  # of a model that is told where to look


class Detections(NamedTuple):
    """What a model found, in D slots ordered by score; rows where `valid` is False hold nothing of
    meaning.
    """

    boxes: Float[Array, "*B D 4"]
    scores: Float[Array, "*B D"]
    classes: Int[Array, "*B D"]
    valid: Bool[Array, "*B D"]
    masks: Float[Array, "*B D S S"] | None  # probability on the cells of the row's box
    attributes: Mapping[str, Float[Array, "*B D E"]]


Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree}; training adds "frozen"
Loss = Callable[[Variables, Batch, Array], tuple[Array, dict[str, Array], Any]]


class MaskedSum(NamedTuple):
    """What a mean is made of, so that the sums of a batch's parts make the mean of it all."""

    total: Float[Array, ""]
    count: Int[Array, ""]


Term = tuple[MaskedSum, ...]  # a term of an objective is the sum of such means
Total = Callable[[Mapping[str, Term]], tuple[Array, dict[str, Array]]]


class Model(NamedTuple):
    """A network and its objective as pure functions.

    `init(key, batch)` gives the variables. `loss(variables, batch, key)`, what training lowers,
    gives the weighted scalar, the unweighted differentiable terms by name, and the new batch
    statistics. `sums(variables, batch)` gives the terms of the network as it predicts, without
    dropout and with the running statistics, to be added up over batches, of which `total(sums)`
    gives the scalar and the terms. `predict(variables, batch)` gives detections in canvas pixels.
    `weights` are those that the scalar gives to the terms of tasks; what else it holds, a penalty,
    is no task's. `shared` is found in the paths of the parameters that all tasks share; '': none.
    """

    init: Callable[[Array, Batch], Variables]
    loss: Loss
    sums: Callable[[Variables, Batch], dict[str, Term]]
    total: Total
    predict: Callable[[Variables, Batch], Detections]
    weights: Mapping[str, float] = MappingProxyType({})
    shared: str = ""
