"""Where the compilation cache is."""

import jax
import pytest

from mtl_jax.training.compilation_cache import enable_compilation_cache


@pytest.fixture(autouse=True)
def _restore():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_environment_goes_before_the_argument_before_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compilation_cache() == str(tmp_path / "mtl_jax/xla")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mtl_jax/xla")
    assert enable_compilation_cache("/a/folder") == "/a/folder"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/b/folder")
    assert enable_compilation_cache("/a/folder") == "/b/folder"
    assert jax.config.jax_compilation_cache_dir == "/b/folder"
