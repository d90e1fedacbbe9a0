"""Networks return the same results whatever the global settings are."""

import contextlib
import multiprocessing
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from crossfit import registry
from crossfit._torch import few_torch_threads, isolated
from crossfit.neural import Checkpoint, NeuralEstimator
from crossfit.neural.training import operations_of
from crossfit.testing.planted import planted_inputs

PLUGINS = (
    "crossfit-acln",
    "crossfit-alcca",
    "crossfit-bssan",
    "crossfit-correlation",
    "crossfit-cran",
    "crossfit-heads",
    "crossfit-ranking",
    "crossfit-topicnet",
)
CARDS = [
    e.card
    for e in registry.entries("crossfit.methods")
    if e.distribution in PLUGINS and issubclass(registry.load(e.name), NeuralEstimator)
]


@contextlib.contextmanager
def _set(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


def _start_method(name):
    multiprocessing.set_start_method(name, force=True)


@contextlib.contextmanager
def _warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


STATES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "deterministic": lambda: _set(torch.use_deterministic_algorithms, True, False),
    "float64": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "device": lambda: _set(torch.set_default_device, "meta", None),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "precision": lambda: _set(torch.set_float32_matmul_precision, "medium", "highest"),
    "threads": lambda: _set(torch.set_num_threads, 3, torch.get_num_threads()),
    "numpy errors": lambda: np.errstate(all="raise"),
    "warnings": _warnings_as_errors,
    "spawn": lambda: _set(_start_method, "spawn", multiprocessing.get_start_method()),
}


class _KilledError(Exception):
    pass


class _Dies(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise _KilledError


def _fitted(card, views, y, *callbacks):
    method = registry.resolve_target(card.target)(**card.test_params)
    method.set_params(random_state=0, max_epochs=2, device="cpu", verbose=0)
    return method.set_params(callbacks=list(callbacks) or None).fit(views, y)


def _answers(method, views):
    found = [method.similarity(views)]
    if method.card.kind == "embedding":
        for name in views.names:
            found.append(method.encode(views.distinct(name)[0], name))
    if hasattr(method, "explain"):
        explained = method.explain(views)
        found += [explained[name].values for name in explained.names]
    return found


@pytest.fixture(scope="module")
def plain():
    """Compute once the results of every method with the default settings."""
    known = {}

    def of(card):
        if card.name not in known:
            views, y = planted_inputs(card, 24)
            y = None if card.labels == "none" else y
            known[card.name] = views, y, _answers(_fitted(card, views, y), views)
        return known[card.name]

    return of


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_method_learns_and_answers_the_same_whatever_is_set(card, state, plain, tmp_path):
    views, y, expected = plain(card)
    before = torch.get_rng_state()
    with STATES[state]():
        set_then = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
        found = _answers(_fitted(card, views, y), views)
        assert set_then == (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    # A fit that was killed continues to the same result.
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(_KilledError):
        _fitted(card, views, y, checkpoint, _Dies())
    with STATES[state]():
        resumed = _answers(_fitted(card, views, y, checkpoint), views)
    for one, other in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_plugin_of_ours_is_tried_here():
    if len({e.distribution for e in registry.entries()} & set(PLUGINS)) < len(PLUGINS):
        pytest.skip("not all plugins are installed")
    assert {e.distribution for e in registry.entries("crossfit.methods")} >= set(PLUGINS)


def test_a_loaded_method_is_built_as_it_was(towers, planted):
    views, _ = planted(40)
    method = towers(max_epochs=1, random_state=0).fit(views)
    state = method.__crossfit_state__()
    for name in ("float64", "device", "inference_mode", "autocast"):
        with STATES[name]():
            loaded = towers(max_epochs=1, random_state=0)
            loaded.__crossfit_restore__(*state)
            np.testing.assert_array_equal(loaded.similarity(views), method.similarity(views))


def test_tensors_of_another_mode_can_be_learned_from(towers, planted, weights):
    views, _ = planted(40)
    plain = towers(max_epochs=2, random_state=0).fit(views)
    with torch.inference_mode():
        tensors = [torch.tensor(views[name], dtype=torch.float32) + 0 for name in views.names]
        held = towers(max_epochs=2, random_state=0).fit(*tensors)
    assert torch.equal(weights(held), weights(plain))
    grown = [part.clone().requires_grad_() for part in tensors]
    assert torch.equal(weights(towers(max_epochs=2, random_state=0).fit(*grown)), weights(plain))


# ---- threads -------------------------------------------------------------------------------------


def test_small_work_runs_on_one_thread_and_large_on_all():
    with _set(torch.set_num_threads, 3, torch.get_num_threads()):
        with few_torch_threads(1e6):
            assert torch.get_num_threads() == 1
        for operations in (1e12, float("nan")):
            with few_torch_threads(operations):
                assert torch.get_num_threads() == 3
        with pytest.raises(_KilledError), few_torch_threads(1e6):
            raise _KilledError
        assert torch.get_num_threads() == 3


def test_the_operations_of_a_network_are_those_of_its_layers():
    network = torch.nn.ModuleDict(
        {"words": torch.nn.Embedding(1000, 8), "layer": torch.nn.Linear(8, 4, bias=False)}
    )
    assert operations_of(network, rows=10, elements=5) == 2 * 10 * 5 * 8 * 4


def test_a_small_fit_and_its_answers_run_on_one_thread(towers, planted, monkeypatch):
    seen = set()

    class Watching(towers):
        def _encode_batch(self, module, items, view):
            seen.add((module.training, torch.get_num_threads()))
            return super()._encode_batch(module, items, view)

    views, _ = planted(40)
    with _set(torch.set_num_threads, 3, torch.get_num_threads()):
        method = Watching(max_epochs=1, random_state=0).fit(views)
        method.transform(views)
        assert seen == {(True, 1), (False, 1)}
        seen.clear()
        monkeypatch.setattr("crossfit._torch.SMALL", 10.0)
        method.fit(views).transform(views)
        assert seen == {(True, 3), (False, 3)}


def test_isolated_leaves_everything_as_it_was():
    with contextlib.ExitStack() as stack:
        for name in ("float64", "device", "autocast", "precision", "set_grad_enabled"):
            stack.enter_context(STATES[name]())
        with isolated():
            assert torch.ones(2).dtype == torch.float32 and torch.ones(2).device.type == "cpu"
            assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_default_device().type == "meta"
        assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
