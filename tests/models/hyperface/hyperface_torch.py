"""HyperFace's networks in PyTorch."""

import torch
import torch.nn.functional as tf
from flax.traverse_util import flatten_dict


def channels_first(images):
    return torch.tensor(images).permute(0, 3, 1, 2)


class HyperFace:
    """The repository's layers, one call per line of its source, with this library's variables."""

    def __init__(self, variables):
        self.params = flatten_dict(variables["params"], sep="/")
        self.stats = flatten_dict(variables["batch_stats"], sep="/")

    def conv(self, x, path, stride=1, padding=0):
        kernel, bias = (torch.tensor(self.params[f"{path}/{n}"]) for n in ("kernel", "bias"))
        return tf.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, padding)

    def norm(self, x, path):
        path += "/norm"
        mean, var = (torch.tensor(self.stats[f"{path}/{n}"]) for n in ("mean", "var"))
        weight, bias = (torch.tensor(self.params[f"{path}/{n}"]) for n in ("scale", "bias"))
        return tf.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    def dense(self, x, path):
        kernel, bias = (torch.tensor(self.params[f"{path}/{n}"]) for n in ("kernel", "bias"))
        return x @ kernel + bias

    def trunk(self, x, pool2):
        x = tf.max_pool2d(tf.relu(self.conv(x, "backbone/conv1", 4)), 3, 2)
        pool1 = self.norm(x, "backbone/norm1")
        x = tf.max_pool2d(tf.relu(self.conv(pool1, "backbone/conv2", 1, 2)), pool2, 2)
        x = self.norm(x, "backbone/norm2")
        conv3 = self.norm(tf.relu(self.conv(x, "backbone/conv3", 1, 1)), "backbone/norm3")
        x = self.norm(tf.relu(self.conv(conv3, "backbone/conv4", 1, 1)), "backbone/norm4")
        x = tf.max_pool2d(tf.relu(self.conv(x, "backbone/conv5", 1, 1)), 3, 2)
        return pool1, conv3, self.norm(x, "backbone/norm5")

    def heads(self, x, name, names):
        x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens channels last
        x = tf.relu(self.dense(x, f"{name}/fc1"))
        return {
            n: self.dense(tf.relu(self.dense(x, f"{name}/{n}_hidden")), f"{name}/{n}")
            for n in names
        }

    def hyperface(self, x):
        pool1, conv3, pool5 = self.trunk(x, 2)
        conv1a = self.norm(tf.relu(self.conv(pool1, "fusion/conv1a", 4)), "fusion/norm1a")
        conv3a = self.norm(tf.relu(self.conv(conv3, "fusion/conv3a", 2)), "fusion/norm3a")
        fused = self.norm(torch.cat([conv1a, conv3a, pool5], 1), "fusion/norm_fused")
        names = ("class_logits", "face_output", "visible_face_output", "head_output")
        names += ("gender_output",)
        return self.heads(self.conv(fused, "fusion/conv_all"), "fused_heads", names)
