"""model.json of an exported model, of which the slow tests of the export see one class only."""

from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.convert.export import describe
from mtl_jax.data.records import Category
from mtl_jax.runs.loading import Run
from mtl_jax.runs.setup import Setup


def test_classes_have_the_ids_of_their_data_set():
    experiment = resolve(load_config_file("configs/mtl_synthetic.py:tiny"))
    setup = Setup.build(experiment, [Category(7, "cat"), Category(3, "dog"), Category(9, "cow")])
    found = describe(Run(setup, {}, predict=lambda inputs: inputs), batch_size=2)
    assert found["classes"] == {1: "cat", 2: "dog", 3: "cow"}
    assert found["category_ids"] == {1: 7, 2: 3, 3: 9}
    assert found["batch_size"] == 2
    assert set(found["attributes"]) == {"age", "gender", "smile", "head", "face"}
