"""matterport Mask_RCNN's inference in TensorFlow only, and weight files in the format of its Keras.

Written from its description; boxes are [y1, x1, y2, x2] in fractions of (H - 1, W - 1). This is the
reference for the library, and uses none of its code.
"""

from dataclasses import dataclass

import h5py
import numpy as np
import tensorflow as tf

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STD = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


@dataclass(frozen=True)
class Config:
    """The values of matterport's config, with its names in lower case."""

    depth: int = 50
    num_classes: int = 4
    top_down_pyramid_size: int = 64
    fc_layers_size: int = 128
    image_size: int = 256
    rpn_anchor_scales: tuple = (32, 64, 128, 256, 512)
    rpn_anchor_ratios: tuple = (0.5, 1, 2)
    detection_min_confidence: float = 0.7
    attributes: bool = False


def layer_shapes(config):
    """Return the kernel shapes of layers and the features of norms, by name."""
    kernels, norms = {"conv1": (7, 7, 3, 64)}, {"bn_conv1": 64}
    inputs = 64
    for stage, blocks in enumerate(BLOCKS[config.depth], start=2):
        inner = 32 * 2 ** (stage - 1)
        for block in "abcdefghijklmnopqrstuvw"[:blocks]:
            at = f"{stage}{block}_branch"
            kernels[f"res{at}2a"], norms[f"bn{at}2a"] = (1, 1, inputs, inner), inner
            kernels[f"res{at}2b"], norms[f"bn{at}2b"] = (3, 3, inner, inner), inner
            kernels[f"res{at}2c"], norms[f"bn{at}2c"] = (1, 1, inner, 4 * inner), 4 * inner
            if block == "a":
                kernels[f"res{at}1"], norms[f"bn{at}1"] = (1, 1, inputs, 4 * inner), 4 * inner
            inputs = 4 * inner
    p, fc, k = config.top_down_pyramid_size, config.fc_layers_size, config.num_classes
    for level in (2, 3, 4, 5):
        kernels[f"fpn_c{level}p{level}"] = (1, 1, 64 * 2**level, p)
        kernels[f"fpn_p{level}"] = (3, 3, p, p)
    anchors = len(config.rpn_anchor_ratios)
    kernels |= {
        "rpn_conv_shared": (3, 3, p, 512),
        "rpn_class_raw": (1, 1, 512, 2 * anchors),
        "rpn_bbox_pred": (1, 1, 512, 4 * anchors),
        "mrcnn_class_conv1": (7, 7, p, fc),
        "mrcnn_class_conv2": (1, 1, fc, fc),
        "mrcnn_class_logits": (fc, k),
        "mrcnn_bbox_fc": (fc, 4 * k),
        "mrcnn_mask_conv1": (3, 3, p, 256),
        "mrcnn_mask_conv2": (3, 3, 256, 256),
        "mrcnn_mask_conv3": (3, 3, 256, 256),
        "mrcnn_mask_conv4": (3, 3, 256, 256),
        "mrcnn_mask_deconv": (2, 2, 256, 256),
        "mrcnn_mask": (1, 1, 256, k),
    }
    norms |= {"mrcnn_class_bn1": fc, "mrcnn_class_bn2": fc}
    norms |= {f"mrcnn_mask_bn{i}": 256 for i in (1, 2, 3, 4)}
    if config.attributes:
        kernels |= {
            "mrcnn_pos1": (3, 3, p, fc),
            "mrcnn_class_conv2111": (3, 3, fc, fc),
            "mrcnn_pos1_conv3": (5, 5, fc, fc),
            "mrcnn_pos_logits": (fc, 2 * k),
        }
        norms |= {"mrcnn_class_bn122": fc, "mrcnn_pos1_bn1": fc, "mrcnn_pos1_bn3": fc}
    return kernels, norms


def random_weights(config, seed=0):
    """Return weights by layer and variable that keep activations near 1."""
    rng = np.random.default_rng(seed)
    kernels, norms = layer_shapes(config)
    gains = {"conv1": 0.02, "mrcnn_pos_logits": 0.3}  # pixels are up to 150
    gains |= {f"fpn_{name}": 0.4 for name in ("c2p2", "c3p3", "c4p4", "c5p5")}
    weights = {}
    for name, shape in kernels.items():
        inputs = np.prod(shape[:-1]) / (4 if name == "mrcnn_mask_deconv" else 1)
        scale = gains.get(name, 1.4) / np.sqrt(inputs)
        weights[name] = {
            "kernel": scale * rng.normal(size=shape),
            "bias": 0.1 * rng.normal(size=shape[-1]),
        }
    for name, features in norms.items():
        # The last norm of a block has a small scale, so that sums over many blocks stay small.
        gain = 0.3 if name.endswith("branch2c") else 1.0
        weights[name] = {
            "gamma": gain * rng.uniform(0.7, 1.3, features),
            "beta": 0.1 * rng.normal(size=features),
            "moving_mean": 0.1 * rng.normal(size=features),
            "moving_variance": rng.uniform(0.7, 1.3, features),
        }
    return {
        layer: {name: value.astype(np.float32) for name, value in part.items()}
        for layer, part in weights.items()
    }


def write_weights(path, weights, top=""):
    """Write a file as Keras 2's `save_weights` does: a group per layer, one for the sub-model."""
    with h5py.File(path, "w") as file:
        group = file.require_group(top) if top else file
        layers = {}
        for layer in weights:
            layers.setdefault("rpn_model" if layer.startswith("rpn_") else layer, []).append(layer)
        layers["input_image"] = []  # layers without weights are listed too
        group.attrs["layer_names"] = [name.encode() for name in layers]
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.0.8"
        for name, members in layers.items():
            own = group.create_group(name)
            named = {
                f"{layer}/{variable}:0": value
                for layer in members
                for variable, value in weights[layer].items()
            }
            own.attrs["weight_names"] = [key.encode() for key in named]
            for key, value in named.items():
                own[key] = value


def anchors_of(config):
    """Return all anchors in pixels, by level, row, column and ratio."""
    out = []
    for level, scale in enumerate(config.rpn_anchor_scales):
        stride = 4 * 2**level
        for y in range(0, config.image_size, stride):
            for x in range(0, config.image_size, stride):
                for ratio in config.rpn_anchor_ratios:
                    h, w = scale / np.sqrt(ratio), scale * np.sqrt(ratio)
                    out.append((y - h / 2, x - w / 2, y + h / 2, x + w / 2))
    return np.array(out)


def read_weights(path):
    """Read a file of `write_weights`, as Keras's `load_weights(by_name=True)` does."""
    weights = {}
    with h5py.File(path, "r") as file:
        for name in file.attrs["layer_names"]:
            for key in file[name].attrs["weight_names"]:
                layer, variable = key.removesuffix(":0").split("/")
                weights.setdefault(layer, {})[variable] = file[name][key][()]
    return weights


def spread_outputs(weights, config, image):
    """Centre and scale the outputs, so that on `image` scores differ and deltas are small."""
    graph = Graph(weights, config)
    pyramid = graph.pyramid(image)
    for name, deviation in (("rpn_class_raw", 1.5), ("rpn_bbox_pred", 0.5)):
        outputs = [graph.conv(graph.hidden(x), name)[0] for x in pyramid]
        _spread(
            weights[name],
            tf.concat([tf.reshape(x, [-1, x.shape[-1]]) for x in outputs], 0),
            deviation,
        )
    features = graph.regions(pyramid, graph.proposals(pyramid))
    for name, deviation in (("mrcnn_class_logits", 2.0), ("mrcnn_bbox_fc", 0.5)):
        _spread(weights[name], graph.dense(features, name), deviation)


def _spread(layer, outputs, deviation):
    mean, factor = np.mean(outputs, 0), deviation / np.std(outputs, 0)
    layer["kernel"] = layer["kernel"] * factor
    layer["bias"] = (layer["bias"] - mean) * factor


class Graph:
    """The inference graph for one image without padding."""

    def __init__(self, weights, config):
        self.weights = weights
        self.config = config

    def conv(self, x, name, stride=1, padding="VALID"):
        weights = self.weights[name]
        return tf.nn.conv2d(x, weights["kernel"], stride, padding) + weights["bias"]

    def norm(self, x, name):
        w = self.weights[name]
        return tf.nn.batch_normalization(
            x, w["moving_mean"], w["moving_variance"], w["beta"], w["gamma"], 1e-3
        )

    def dense(self, x, name):
        return x @ self.weights[name]["kernel"] + self.weights[name]["bias"]

    def block(self, x, stage, letter):
        at = f"{stage}{letter}_branch"
        # The first 1x1 applies the stride.
        stride = 2 if letter == "a" and stage > 2 else 1
        y = tf.nn.relu(self.norm(self.conv(x, f"res{at}2a", stride), f"bn{at}2a"))
        y = tf.nn.relu(self.norm(self.conv(y, f"res{at}2b", 1, "SAME"), f"bn{at}2b"))
        y = self.norm(self.conv(y, f"res{at}2c"), f"bn{at}2c")
        if letter == "a":
            x = self.norm(self.conv(x, f"res{at}1", stride), f"bn{at}1")
        return tf.nn.relu(x + y)

    def pyramid(self, image):
        x = tf.constant(image, tf.float32)[None] - [123.7, 116.8, 103.9]
        x = tf.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)])
        x = tf.nn.relu(self.norm(self.conv(x, "conv1", 2), "bn_conv1"))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        features = []
        for stage, blocks in enumerate(BLOCKS[self.config.depth], start=2):
            for letter in "abcdefghijklmnopqrstuvw"[:blocks]:
                x = self.block(x, stage, letter)
            features.append(x)
        top, levels = None, []
        for level in (5, 4, 3, 2):
            lateral = self.conv(features[level - 2], f"fpn_c{level}p{level}")
            if top is not None:
                lateral += tf.keras.layers.UpSampling2D(2)(top)
            top = lateral
            levels.insert(0, self.conv(top, f"fpn_p{level}", 1, "SAME"))
        return [*levels, tf.nn.max_pool2d(levels[-1], 1, 2, "VALID")]

    def hidden(self, x):
        return tf.nn.relu(self.conv(x, "rpn_conv_shared", 1, "SAME"))

    def proposals(self, pyramid, pre_nms=6000, post_nms=1000):
        scores, deltas = [], []
        for x in pyramid:
            hidden = self.hidden(x)
            logits = tf.reshape(self.conv(hidden, "rpn_class_raw"), [-1, 2])
            scores.append(tf.nn.softmax(logits)[:, 1])
            deltas.append(tf.reshape(self.conv(hidden, "rpn_bbox_pred"), [-1, 4]))
        scores, deltas = tf.concat(scores, 0), tf.concat(deltas, 0)
        side = self.config.image_size
        anchors = ((anchors_of(self.config) - [0, 0, 1, 1]) / (side - 1)).astype(np.float32)
        best = tf.math.top_k(scores, min(pre_nms, len(anchors))).indices
        boxes = self.refine(tf.gather(anchors, best), tf.gather(deltas, best))
        kept = tf.image.non_max_suppression(boxes, tf.gather(scores, best), post_nms, 0.7)
        return tf.gather(boxes, kept)

    def refine(self, boxes, deltas):
        deltas = deltas * STD
        sides = boxes[:, 2:] - boxes[:, :2]
        centres = boxes[:, :2] + 0.5 * sides + deltas[:, :2] * sides
        sides = sides * tf.exp(deltas[:, 2:])
        return tf.clip_by_value(tf.concat([centres - sides / 2, centres + sides / 2], 1), 0, 1)

    def pool(self, pyramid, boxes, size):
        sides = boxes[:, 2:] - boxes[:, :2]
        share = tf.sqrt(sides[:, 0] * sides[:, 1])
        steps = tf.math.log(share * self.config.image_size / 224) / np.log(2)
        levels = tf.clip_by_value(4 + tf.round(steps), 2, 5)
        # By rounding, TensorFlow loses the last row of some boxes that end on the border; they are
        # made to end slightly before it.
        boxes = tf.clip_by_value(boxes, 0, 1 - 3e-7)
        out = np.zeros((len(boxes), size, size, pyramid[0].shape[-1]), np.float32)
        for level in range(2, 6):
            here = np.flatnonzero(levels == level)
            out[here] = tf.image.crop_and_resize(
                pyramid[level - 2], tf.gather(boxes, here), 0 * here, [size, size]
            )
        return out

    def regions(self, pyramid, boxes):
        x = self.pool(pyramid, boxes, 7)
        x = tf.nn.relu(self.norm(self.conv(x, "mrcnn_class_conv1"), "mrcnn_class_bn1"))
        return tf.nn.relu(self.norm(self.conv(x, "mrcnn_class_conv2"), "mrcnn_class_bn2"))[:, 0, 0]

    def classify(self, pyramid, boxes):
        x = self.regions(pyramid, boxes)
        probabilities = tf.nn.softmax(self.dense(x, "mrcnn_class_logits"))
        deltas = self.dense(x, "mrcnn_bbox_fc")
        return probabilities, tf.reshape(deltas, [-1, self.config.num_classes, 4])

    def detections(self, boxes, probabilities, deltas):
        """Return boxes, scores and classes by descending score."""
        classes = np.argmax(probabilities, 1)
        rows = np.arange(len(classes))
        scores = probabilities.numpy()[rows, classes]
        refined = self.refine(boxes, deltas.numpy()[rows, classes])
        usable = (classes > 0) & (scores >= self.config.detection_min_confidence)
        kept = []
        for label in set(classes[usable]):
            own = np.flatnonzero(usable & (classes == label))
            best = tf.image.non_max_suppression(tf.gather(refined, own), scores[own], 100, 0.3)
            kept += list(own[best])
        kept = np.array(sorted(kept, key=lambda i: -scores[i])[:100], int)
        return tf.gather(refined, kept), scores[kept], classes[kept]

    def masks(self, pyramid, boxes, classes):
        x = self.pool(pyramid, boxes, 14)
        for i in (1, 2, 3, 4):
            x = self.conv(x, f"mrcnn_mask_conv{i}", 1, "SAME")
            x = tf.nn.relu(self.norm(x, f"mrcnn_mask_bn{i}"))
        weights = self.weights["mrcnn_mask_deconv"]
        shape = [len(x), 28, 28, 256]
        x = tf.nn.conv2d_transpose(x, weights["kernel"], shape, 2, "VALID") + weights["bias"]
        every = tf.sigmoid(self.conv(tf.nn.relu(x), "mrcnn_mask"))
        return np.stack([every[i, :, :, label] for i, label in enumerate(classes)])

    def attributes(self, pyramid, boxes):
        """Return MTL_MRCNN's two outputs of each box and class."""
        x = self.pool(pyramid, boxes, 28)
        x = tf.nn.max_pool2d(self.conv(x, "mrcnn_pos1"), 2, 2, "VALID")
        x = tf.nn.relu(self.norm(x, "mrcnn_class_bn122"))
        x = tf.nn.max_pool2d(self.conv(x, "mrcnn_class_conv2111"), 2, 2, "VALID")
        x = tf.nn.relu(self.norm(x, "mrcnn_pos1_bn1"))
        x = tf.nn.relu(self.norm(self.conv(x, "mrcnn_pos1_conv3"), "mrcnn_pos1_bn3"))[:, 0, 0]
        flat = self.dense(x, "mrcnn_pos_logits")
        return tf.reshape(flat, [-1, self.config.num_classes, 2])
