import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Give every test its own, empty feature cache."""
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "feature-cache"))
    monkeypatch.delenv("CROSSFIT_CACHE_SIZE", raising=False)
