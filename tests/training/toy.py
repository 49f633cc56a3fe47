"""A small model with frozen parts, batch statistics, dropout and unequal masks."""

import re
from collections.abc import Callable, Iterator
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.layers.norm import Norm
from mtl_jax.losses import masked_sum
from mtl_jax.types import AttributeLabels, Batch, GroundTruth, Model, Variables

IMAGES, SLOTS, CLASSES = 24, 3, 4


class Block(nn.Module):
    """A dense layer and, if `normalised`, batch normalisation over the valid rows."""

    normalised: bool

    @nn.compact
    def __call__(self, x, valid):
        x = nn.Dense(16, name="conv1")(x)
        if not self.normalised:
            return nn.relu(x)
        # A large epsilon: a few rows have little variance, which would make rounding matter.
        norm = Norm(kind="batch", train=True, epsilon=0.1, name="norm1")
        return nn.relu(norm(x, valid))


class Backbone(nn.Module):
    """Blocks named as the stages of a ResNet."""

    @nn.compact
    def __call__(self, x, valid):
        for name in ("stem", "stage2", "stage3", "stage4", "stage5"):
            x = Block(name in ("stem", "stage5"), name=name)(x, valid)
        return x


class Net(nn.Module):
    """Class logits [B, K] and a box for each slot [B, M, 4]."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, x, valid):
        x = Backbone(name="backbone")(x, valid)
        x = nn.relu(nn.Dense(16, name="fpn")(x))
        x = nn.Dropout(0.3, deterministic=False)(x)
        logits = nn.Dense(self.num_classes, name="class_logits")(x)
        return logits, nn.Dense(4 * SLOTS, name="boxes")(x).reshape(-1, SLOTS, 4)


def make_model(on_trace: Callable[[], None] = lambda: None, num_classes: int = CLASSES) -> Model:
    """Build the model; `on_trace` is called whenever its terms are traced."""
    net = Net(num_classes)

    def run(variables, batch, key):
        x = batch.images.reshape(len(batch.images), -1).astype(jnp.float32) / 255
        rngs = {"dropout": key}
        return net.apply(variables, x, batch.valid, rngs=rngs, mutable=["batch_stats"])

    def init(key, inputs):
        x = jnp.zeros((len(inputs.images), inputs.images[0].size))
        return net.init({"params": key, "dropout": key}, x, inputs.valid)

    def terms(variables, batch, key, train):
        on_trace()
        (logits, boxes), new = run(variables, batch, key)
        known = batch.gt.valid & batch.valid[:, None]
        errors = (boxes - batch.gt.boxes / 8) ** 2
        label = jax.nn.one_hot(batch.gt.classes[:, 0], logits.shape[-1])
        classes = -(jax.nn.log_softmax(logits) * label).sum(-1)
        box, label = masked_sum(errors, known), masked_sum(classes, known[:, 0])
        return {"box": (box,), "class": (label,)}, new["batch_stats"]

    weights = {"box": 1.0, "class": 0.5}
    predict = lambda variables, inputs: None  # noqa: E731
    shared = r"(^|/)(backbone|fpn)/"
    return Model(init, terms, predict, weights, shared)  # pyright: ignore


@cache
def init(seed: int) -> Variables:
    """Return initial variables. They are cached and must not be donated."""
    model = make_model()
    return jax.jit(model.init)(jax.random.key(seed), make_batch(0, 0).inputs)


def make_batch(seed: int, step: int, size: int = 4) -> Batch:
    """Draw a step's batch: shuffled by epoch, with noise, and unequal numbers of objects."""
    per_epoch = IMAGES // size
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(IMAGES)
    index = order[position * size : (position + 1) * size].astype(np.int32)
    records = [np.random.default_rng(i) for i in index]
    images = np.stack([rng.integers(0, 200, (4, 4, 3)) for rng in records])
    noise = np.random.default_rng((seed, step, 1)).integers(0, 50, images.shape)
    boxes = np.stack([rng.uniform(0, 8, (SLOTS, 4)) for rng in records]).astype(np.float32)
    valid = np.arange(SLOTS) < (1 + index % SLOTS)[:, None]
    classes = np.stack([rng.integers(1, CLASSES, SLOTS) for rng in records]).astype(np.int32)
    known = np.ones((size, SLOTS, 1), bool)
    return Batch(
        images=(images + noise).astype(np.uint8),
        sizes=np.full((size, 2), 4, np.float32),
        valid=np.ones(size, bool),
        exhaustive=np.ones(size, bool),
        index=index,
        gt=GroundTruth(
            boxes,
            classes,
            valid,
            np.zeros_like(valid),
            np.zeros((size, SLOTS, 2, 2), np.uint8),
            np.zeros_like(valid),
            {"age": AttributeLabels(np.zeros((size, SLOTS, 1), np.float32), known)},
        ),
    )


def make_batches(seed: int = 0, size: int = 4) -> Callable[[int], Iterator[Batch]]:
    """Return the `batches` of `fit`: endless iterators that start at a step."""

    def batches(step: int) -> Iterator[Batch]:
        while True:
            yield make_batch(seed, step, size)
            step += 1

    return batches


def check_non_finite(error: Exception, step: int, terms: dict[str, str], images: list[str]) -> None:
    """Assert that the message names the step, only these images, each of these terms with its
    value, and both terms of the model once.
    """
    message = str(error)
    assert re.search(rf"\b{step}\b", message)
    assert re.findall(r"\bimage\d+\.png\b", message) == images
    clauses = [set(re.findall(r"[\w.-]+", clause)) for clause in re.split("[,;:()]", message)]
    assert all(any(set(term) <= words for words in clauses) for term in terms.items()), message
    assert sorted(re.findall(r"\b(?:box|class)\b", message)) == ["box", "class"]


def file_names(index: np.ndarray) -> list[str]:
    """Return the file names of images."""
    return [f"image{i}.png" for i in index]
