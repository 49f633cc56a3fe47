"""Labels of many instances as arrays, from which metrics are computed."""

from collections.abc import Iterable, Sequence

import numpy as np

from mtl_jax.attributes.base import Attribute, Labels
from mtl_jax.data.records import Record


def gather(attributes: Sequence[Attribute], records: Iterable[Record]) -> list[Labels]:
    """Collect, for each attribute, the labels of all instances in `records` except crowds."""
    rows: list[list[tuple]] = [[] for _ in attributes]
    for record in records:
        for instance in record.instances:
            for attribute, its_rows in zip(attributes, rows, strict=True):
                values, known = instance.label_of(attribute)
                if not instance.crowd and known.any():
                    its_rows.append((values, known, instance.box))
    return [
        stack(attribute, its_rows) for attribute, its_rows in zip(attributes, rows, strict=True)
    ]


def stack(attribute: Attribute, rows: Sequence[tuple]) -> Labels:
    """Stack rows (values `[V]`, known `[V]`, box, ...) of an attribute, as float64."""
    size = attribute.label_size
    values = np.array([row[0] for row in rows], np.float64).reshape(-1, size)
    known = np.array([row[1] for row in rows], bool).reshape(-1, size)
    return Labels(values, known, np.array([row[2] for row in rows], np.float64).reshape(-1, 4))
