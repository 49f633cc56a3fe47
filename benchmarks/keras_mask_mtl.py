"""MaskMTL's hierarchical network in Keras, from its description, with our variables."""

import keras
import numpy as np

from mtl_jax.types import Variables

FEATURES = (160, 192, 224, 224, 224)
STAGES = ((0.3, "max"), (0.3, "mean"), (0.1, "mean"), (0.1, "max"), (0.1, "max"))
EXITS = {"age": 3, "gender": 4, "race": 5}
OUTPUTS = {"age": (1, None), "gender": (1, "sigmoid"), "race": (5, "softmax")}


def build(
    convs: tuple[int, ...] = FEATURES, hidden: int = 896, dropout: float = 0.5
) -> keras.Model:
    """Build the network for gray images of 48 x 48 in 0..1."""
    layers = keras.layers
    x = images = keras.Input((48, 48, 1))
    outputs = {}
    for number, (slope, pool) in enumerate(STAGES, 1):
        x = layers.Conv2D(convs[number - 1], 3, padding="same", name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = layers.LeakyReLU(negative_slope=slope)(x)
        x = (layers.MaxPooling2D if pool == "max" else layers.AveragePooling2D)(2)(x)
        for name in [name for name, stage in EXITS.items() if stage == number]:
            y = layers.Dense(hidden, activation="relu", name=f"{name}1")(layers.Flatten()(x))
            y = layers.Dropout(dropout)(y)
            y = layers.Dense(hidden, activation="relu", name=f"{name}2")(y)
            size, activation = OUTPUTS[name]
            outputs[name] = layers.Dense(size, activation=activation, name=name)(y)
    return keras.Model(images, outputs)


def set_weights(model: keras.Model, variables: Variables) -> None:
    """Set the weights of a Keras model to our variables."""
    params, stats = variables["params"], variables["batch_stats"]
    for number in range(1, len(STAGES) + 1):
        at = params["backbone"][f"stage{number}"]["shared"]
        norm = at["norm"]["norm"]
        moving = stats["backbone"][f"stage{number}"]["shared"]["norm"]["norm"]
        _set(model, f"conv{number}", at["conv"]["kernel"], at["conv"]["bias"])
        vectors = (norm["scale"], norm["bias"], moving["mean"], moving["var"])
        _set(model, f"norm{number}", *vectors)
    for name in EXITS:
        for i in (1, 2):
            dense = params[f"{name}_head"][f"fc{i}"]
            _set(model, f"{name}{i}", dense["kernel"], dense["bias"])
        dense = params[f"{name}_output"]
        _set(model, name, dense["kernel"], dense["bias"])


def _set(model: keras.Model, name: str, *weights: np.ndarray) -> None:
    model.get_layer(name).set_weights([np.asarray(w) for w in weights])
