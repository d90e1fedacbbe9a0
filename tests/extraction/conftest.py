import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Set up a new, empty feature cache for every test."""
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "feature-cache"))
    monkeypatch.delenv("CROSSFIT_CACHE_SIZE", raising=False)
