"""Sample records of several sources."""

from mtl_jax.data.datasets.subset import choose
from mtl_jax.data.synthetic.shapes import ShapesSource


def names(sources):
    return [[source[i].file_name for i in range(len(source))] for source in sources]


def test_records_of_all_sources_are_sampled_with_a_fixed_seed():
    sources = [ShapesSource(length=n, seed=n) for n in (30, 1, 300)]
    chosen = choose(sources, 40)
    assert sum(map(len, chosen)) == 40
    first, last = names([chosen[0], chosen[-1]])
    assert len(first) > 1
    assert len(last) > len(first)
    assert names(choose(sources, 40)) == names(chosen)
    for part, whole in ((first, sources[0]), (last, sources[-1])):
        every = names([whole])[0]
        assert sorted(set(part), key=every.index) == part


def test_all_records_are_returned_if_there_are_too_few():
    sources = [ShapesSource(length=n, seed=0) for n in (3, 2)]
    assert names(choose(sources, 5)) == names(choose(sources, 9)) == names(sources)
