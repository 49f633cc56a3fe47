"""Detection on the records of data sets, for evaluation."""

from collections.abc import Iterator, Sequence

import numpy as np

from mtl_jax.data.loader import pipeline, transforms
from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Record, Source
from mtl_jax.results import Result
from mtl_jax.runs.loading import Predict, Propose, Run
from mtl_jax.runs.setup import Setup


def detect_with(run: Run, held_out: Sequence[Source]) -> Iterator[tuple[Record, Result]]:
    """Yield every record of the sources with a run's detections, using its proposals."""
    return detect(after(run.propose, run.predict), held_out, run.setup)


def after(propose: Propose | None, predict: Predict) -> Predict:
    """Return `predict` with `propose`, if there is one, applied to its batches first."""
    return predict if propose is None else lambda inputs: predict(propose(inputs))


def detect(
    predict: Predict, held_out: Sequence[Source], setup: Setup
) -> Iterator[tuple[Record, Result]]:
    """Yield every record of the sources with its detections, in pixels of the original image."""
    data = setup.experiment.data
    for source in held_out:
        batches = pipeline.eval_batches(
            source, setup.attributes, data, batch_size=setup.experiment.eval.batch_size
        )
        for batch in batches:
            detections = predict(batch.inputs)
            for row in np.flatnonzero(batch.valid).tolist():
                record = materialize(source[int(batch.index[row])])
                _, geometry = transforms.fit(record, data.resize)
                result = Result.from_detections(
                    detections,
                    row,
                    geometry,
                    record.height,
                    record.width,
                    categories=setup.categories,
                    declared=setup.attributes,
                    exact_masks=setup.experiment.exact_masks,
                )
                yield record, result
