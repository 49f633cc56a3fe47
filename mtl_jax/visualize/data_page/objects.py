"""The part of a data page on the objects that training uses, ignores and loses."""

from mtl_jax.data.loader import object_counts
from mtl_jax.runs.objects import Objects
from mtl_jax.visualize.page import Page


def add_objects(page: Page, objects: Objects | None) -> None:
    """Add the table of splits train and val, and what is wrong with them. Drawn data has none."""
    if objects is None:
        return
    page.heading("Objects in training")
    page.text("Objects that training and validation use, ignore (crowds) and lose:")
    page.table(object_counts.HEADER, object_counts.table(objects.train, objects.val))
    page.list(object_counts.lost_lines(objects.train, objects.val))
    if objects.faults:
        page.text("Training refuses this data:")
        page.list(objects.faults)
    if objects.warnings:
        page.text("Warnings:")
        page.list(objects.warnings)
