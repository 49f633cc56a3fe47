"""Predict a folder and stop midway, by a signal to the process itself or by an error.

python tests/inference/stopped_predict.py INPUT OUTPUT BATCHES SIGNAL [resume]
"""

import os
import signal

from inference.fake_run import FakeRun

from mtl_jax.commandline import run
from mtl_jax.inference.files import OutputOptions, predict_folder
from mtl_jax.inference.predictor import Predictor


class Stops(FakeRun):
    def __init__(self, after, how):
        super().__init__()
        self.after, self.how = after, how

    def predict(self, batch):
        self.after -= 1
        if self.after < 0:
            if self.how == "error":
                raise RuntimeError("out of memory")
            os.kill(os.getpid(), getattr(signal, self.how))
            signal.pause()
        return super().predict(batch)


def main(argv):
    folder, output, after, how, resumes = argv
    options = OutputOptions(resume=bool(resumes))
    return predict_folder(Predictor(Stops(int(after), how)), [folder], output, options)


if __name__ == "__main__":
    # A shell ignores SIGINT in its background jobs, and this process inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(main)
