"""Scoring of pairs in blocks, against the naive loop, within a memory limit."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import crossfit
from crossfit import Ragged, Views
from crossfit.cards import Float, MethodCard
from crossfit.neural import (
    Batch,
    NeuralPairEstimator,
    PairGroups,
    Prepared,
    group_loss,
    masked_softmax,
    triplet_loss,
)
from crossfit.neural import pairs as pairs_module
from crossfit.testing import PeakBytes, check_method

CARD = MethodCard(
    api=1,
    name="matches",
    target=f"{__name__}:Matches",
    summary="Every word looks for its region",
    inputs={"image": ("regions",), "text": ("regions",)},
    labels="none",
    kind="pair",
    search_space={"lr": Float(1e-3, 1e-2, log=True)},
    test_params={"max_epochs": 6, "lr": 1e-2},
)


class _Module(nn.Module):
    def __init__(self, n_inputs, width):
        super().__init__()
        self.maps = nn.ModuleDict({role: nn.Linear(n, width) for role, n in n_inputs.items()})


class Matches(NeuralPairEstimator):
    """The mean similarity of the words and their attended regions; padding is masked.

    Parameters
    ----------
    margin : float
        Of the loss.
    """

    card = CARD

    def __init__(self, *, margin=0.5, max_epochs=4, batch_size=16, device="cpu", **kwargs):
        super().__init__(max_epochs=max_epochs, batch_size=batch_size, device=device, **kwargs)
        self.margin = margin

    def _build_module(self, n_inputs, n_classes, width=8):
        return _Module(n_inputs, width)

    def _prepare_batch(self, module, items, view):
        z = nn.functional.normalize(module.maps[view](items.values), dim=-1)
        mask = torch.ones(z.shape[:2]).bool().to(z.device) if items.mask is None else items.mask
        return (z, mask) if view == "image" else {"words": z, "mask": mask}

    def _score_pairs(self, module, P, Q):
        (regions, seen), words, said = P, Q["words"], Q["mask"]
        with torch.autocast(regions.device.type, enabled=False):
            dots = torch.einsum("prd,qwd->pqwr", regions.float(), words.float())
            weights = masked_softmax(8 * dots, seen[:, None, None])
            best = (weights * dots).sum(dim=-1) * said
            return best.sum(dim=-1) / said.sum(dim=1).clamp(min=1)

    def _pair_bytes(self, P, Q):
        # Dots, their multiple, the filled ones, the softmax and its product with the mask; then
        # a sum over regions, which they outweigh.
        return 4 * 6 * P[0].shape[1] * Q["words"].shape[1]

    def _loss(self, outputs, batch):
        masks = batch.positives, batch.negatives
        turned = batch.positives.T, batch.negatives.T
        return triplet_loss(outputs, *masks, margin=self.margin) + triplet_loss(
            outputs.T, *turned, margin=self.margin
        )


def ragged(rng, n, width, most=6):
    parts = [rng.normal(size=(rng.integers(1, most), width)) for _ in range(n)]
    return Ragged.from_list([part.astype(np.float32) for part in parts])


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    images, texts = ragged(rng, 40, 6), ragged(rng, 40, 5, most=9)
    method = Matches(random_state=0, verbose=0, max_epochs=2).fit(images, texts)
    return method, images, texts


def naive(method, images, texts):
    """Score pair by pair, and prepare each item again."""
    scores = np.empty((len(images), len(texts)), np.float32)
    for i in range(len(images)):
        for j in range(len(texts)):
            scores[i, j] = method.similarity(images[[i]], texts[[j]])[0, 0]
    return scores


def test_blocks_equal_the_naive_loop(fitted):
    method, images, texts = fitted
    images, texts = images[:13], texts[:17]
    expected = naive(method, images, texts)
    assert np.ptp(expected) > 0.1
    for memory, chunk in ((2**28, None), (2**16, None), (2**28, 5), (2**13, 2)):
        method.set_params(score_memory=memory)
        found = method.similarity(images, texts, chunk_size=chunk)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5)
    method.set_params(score_memory=2**28)


def test_conformance():
    failed = [r for r in check_method(Matches) if r.status == "fail"]
    # The method of this test is not registered by a distribution.
    assert [r.name for r in failed] == ["check_registered"], failed


def test_items_are_prepared_once_in_batches(fitted, monkeypatch):
    method, images, texts = fitted
    calls = []
    prepare = Matches._prepare_batch

    def counting(self, module, items, view):
        calls.append((view, len(items.values)))
        return prepare(self, module, items, view)

    monkeypatch.setattr(Matches, "_prepare_batch", counting)
    monkeypatch.setattr(pairs_module, "_ITEMS", 16)
    scores = method.similarity(images, texts, chunk_size=7)
    assert [n for view, n in calls if view == "image"] == [16, 16, 8]
    assert sum(n for view, n in calls if view == "text") == len(texts)
    # Items of other lengths are padded together, and padding does not change the scores.
    monkeypatch.setattr(pairs_module, "_ITEMS", 64)
    method.set_params(batch_size=64)
    np.testing.assert_allclose(scores, method.similarity(images, texts), atol=1e-6)
    method.set_params(batch_size=16)


def test_both_directions_are_scored_once(fitted, monkeypatch):
    method, images, texts = fitted
    scored = []
    score = Matches._score_pairs

    def counting(self, module, P, Q):
        scored.append(len(P[0]) * len(Q["words"]))
        return score(self, module, P, Q)

    monkeypatch.setattr(Matches, "_score_pairs", counting)
    method.score(images, texts)
    assert sum(scored) == len(images) * len(texts)
    scored.clear()
    views = Views(image=images, text=texts)
    forward = method.similarity(views)
    backward = method.similarity(views, query="text", gallery="image")
    np.testing.assert_array_equal(backward, forward.T)
    scored.clear()
    crossfit.evaluate(forward, views.relevance("image", "text"), ("r@1", "medr"))
    assert not scored


@pytest.mark.parametrize("memory", [2**14, 2**17, 2**20])
def test_memory_keeps_to_the_bound(fitted, memory):
    method, images, texts = fitted
    P, Q = method._prepare(images, "image"), method._prepare(texts, "text")
    scores = np.empty((len(P), len(Q)), np.float32)
    method.set_params(score_memory=memory)
    counter = PeakBytes(P.parts, Q.parts)
    with counter:
        method._fill(P, Q, scores, None)
    assert 0 < counter.peak <= memory
    rows, columns = method._block(P, Q, None, torch.device("cpu"))
    # The memory is also used.
    assert rows * columns == scores.size or counter.peak > memory / 8
    method.set_params(score_memory=2**28)


def test_too_little_memory_is_said(fitted):
    method, images, texts = fitted
    method.set_params(score_memory=100)
    try:
        with pytest.raises(ValueError, match="score_memory is 100 bytes, but one pair takes"):
            method.similarity(images, texts)
    finally:
        method.set_params(score_memory=2**28)
    with pytest.raises(ValueError, match="score_memory"):
        Matches(score_memory=0).fit(images, texts)


def test_out_is_a_file_or_an_array(fitted, tmp_path):
    method, images, texts = fitted
    texts = texts[:30]
    expected = method.similarity(images, texts)
    file = tmp_path / "scores.npy"
    found = method.similarity(images, texts, out=file, chunk_size=9)
    assert isinstance(found, np.memmap) and os.listdir(tmp_path) == ["scores.npy"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(np.load(file), found)
    array = np.zeros((30, 40), np.float32)
    back = method.similarity(images, texts, query="text", gallery="image", out=array)
    assert back is array
    np.testing.assert_allclose(array, expected.T, atol=1e-6)
    turned = method.similarity(images, texts, query="text", gallery="image", out=str(file))
    np.testing.assert_array_equal(np.load(file), array)
    assert turned.shape == (30, 40)
    relevance = np.eye(40, 30)[:30]
    a, b = (crossfit.evaluate(S[:30], relevance, "mrr") for S in (found, expected))
    assert a.mean(None, "mrr") == pytest.approx(b.mean(None, "mrr"))
    # The next call does not use the same file.
    assert not isinstance(method.similarity(images, texts), np.memmap)


@pytest.mark.parametrize(
    "wrong", [np.zeros((40, 39), np.float32), np.zeros((40, 40)), "no/such/folder/scores.npy"]
)
def test_a_wrong_out_is_refused_before_any_work(fitted, monkeypatch, wrong):
    method, images, texts = fitted
    monkeypatch.setattr(Matches, "_prepare_batch", None)
    with pytest.raises(ValueError, match="out "):
        method.similarity(images, texts, out=wrong)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_run_leaves_no_file(fitted, tmp_path, monkeypatch, error):
    method, images, texts = fitted
    file = tmp_path / "scores.npy"
    method.similarity(images, texts, out=file)
    before = file.read_bytes()
    score = Matches._score_pairs
    left = iter(range(3))

    def stopped(self, module, P, Q):
        if next(left, None) is None:
            raise error
        return score(self, module, P, Q)

    monkeypatch.setattr(Matches, "_score_pairs", stopped)
    with pytest.raises(error):
        method.similarity(images, texts, out=file, chunk_size=10)
    assert os.listdir(tmp_path) == ["scores.npy"] and file.read_bytes() == before


def test_scores_of_a_wrong_shape_are_refused(fitted, monkeypatch):
    method, images, texts = fitted
    monkeypatch.setattr(Matches, "_score_pairs", lambda self, module, P, Q: torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"must return \(40, 40\) scores, got \(1, 1\)"):
        method.similarity(images, texts)


def test_search_and_pickle(fitted):
    method, images, texts = fitted
    found = crossfit.search(method, texts[:3], view="text", gallery=images, k=4)
    scores = method.similarity(images, texts[:3]).T
    np.testing.assert_array_equal(found.indices, np.argsort(-scores, axis=1)[:, :4])
    read = pickle.loads(pickle.dumps(method))
    np.testing.assert_array_equal(read.similarity(images, texts), method.similarity(images, texts))


def test_some_pairs_can_be_scored_of_what_is_prepared(fitted):
    method, images, texts = fitted
    scores = method.similarity(images, texts)
    P, Q = method._prepare(images, "image"), method._prepare(texts, "text")
    assert (P.shape, len(Q)) == ((40,), 40)
    some = np.array([7, 3, 30])
    found = method._similarity(P[5:6], Q[some])
    np.testing.assert_allclose(found, scores[5:6, some], atol=1e-6)
    with pytest.raises(ValueError, match="the same number of rows, got 2, 3"):
        Prepared((torch.zeros(3), torch.zeros(2)))


def test_a_caption_of_the_same_image_is_no_negative():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(8, 3, 6)).astype(np.float32)
    texts = rng.normal(size=(16, 4, 5)).astype(np.float32)
    views = Views.from_captions(images, texts, np.repeat(np.arange(8), 2))
    seen = []

    class Looking(Matches):
        def _loss(self, outputs, batch):
            seen.append((outputs.shape, batch.positives.clone(), batch.negatives.clone()))
            return super()._loss(outputs, batch)

    Looking(random_state=0, verbose=0, max_epochs=1).fit(views)
    ((shape, positives, negatives),) = seen
    assert shape == (16, 16)
    assert (positives.sum(dim=1) == 2).all() and (negatives.sum(dim=1) == 14).all()


def rows_of(groups, images=None):
    """Return a batch of rows with these groups, of which each has its own text."""
    at = torch.arange(len(groups))
    own = at if images is None else torch.tensor(images)
    return Batch({}, {"image": own, "text": at}, torch.tensor(groups), None)


def test_a_batch_is_divided_into_groups():
    batch = rows_of([0, 0, 1, 2, 3], images=[0, 0, 1, 2, 3])
    groups = PairGroups.divided(batch, 2)
    assert groups.first.tolist() == groups.second.tolist() == [[0, 1], [2, 3], [4, 0]]
    # The first two rows are captions of one image.
    assert groups.positives.tolist() == [[[True, True]] * 2, *[[[True, False], [False, True]]] * 2]
    assert groups.negatives.tolist() == [
        [[False, False]] * 2, *[[[False, True], [True, False]]] * 2
    ]  # fmt: skip
    assert PairGroups.divided(batch, 99).first.shape == (1, 5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_wrong_item_is_drawn_evenly(bidirectional):
    batch = rows_of([0, 0, 1, 2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [PairGroups.drawn(batch, bidirectional) for _ in range(300)]
    assert drawn[0].first.shape == (4, 1 + bidirectional) and drawn[0].second.shape == (4, 2)
    for side in ("first", "second")[not bidirectional :]:
        found = torch.stack([getattr(groups, side) for groups in drawn])
        assert (found[..., 0] == torch.arange(4)).all()
        for row, allowed in enumerate(([2, 3], [2, 3], [0, 1, 3], [0, 1, 2])):
            counts = np.bincount(found[:, row, 1].numpy(), minlength=4)
            assert set(np.flatnonzero(counts)) == set(allowed)
            assert counts[allowed].min() > 0.7 * 300 / len(allowed)
    assert drawn[0].positives.sum() == 4 and drawn[0].negatives.sum() == 4 * (1 + bidirectional)
    alone = PairGroups.drawn(rows_of([5, 5]), bidirectional)
    assert not alone.negatives.any()


@pytest.mark.parametrize("mining", ["all", "hardest", "top-k", "sum"])
def test_the_loss_of_groups_is_that_of_each(mining):
    generator = torch.Generator().manual_seed(0)
    groups = PairGroups.divided(rows_of(list(range(6))), 3)
    S = torch.randn(2, 3, 3, generator=generator)
    settings = {"margin": 0.5, "mining": mining, "k": 2}
    expected = [
        sum(triplet_loss(T, margin=0.5, mining=mining, k=2) for T in sides) / 2
        for sides in ((S[0], S[1]), (S[0].T, S[1].T))
    ]
    masks = groups.positives, groups.negatives
    both = group_loss(S, *masks, **settings)
    torch.testing.assert_close(both, expected[0] + expected[1])
    torch.testing.assert_close(group_loss(S, *masks, **settings, bidirectional=False), expected[0])
    # A positive without a negative, in a group of one image, has no part in the mean.
    S = torch.cat([S, torch.randn(1, 3, 3, generator=generator)])
    masks = [torch.cat([part, torch.full((1, 3, 3), value)]) for part, value in
             zip(masks, (True, False))]  # fmt: skip
    torch.testing.assert_close(group_loss(S, *masks, **settings), both)


def test_progress_of_scoring(fitted, capsys):
    method, images, texts = fitted
    method.similarity(images, texts)
    assert not capsys.readouterr().err
    method.set_params(verbose=1).similarity(images, texts)
    assert "pair" in capsys.readouterr().err
    method.set_params(verbose=0)


def test_a_checkpoint_goes_on_with_another_memory():
    assert "score_memory" in Matches._neutral and "device" in Matches._neutral


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", [False, "auto"])
def test_scores_on_a_gpu(fitted, amp):
    _, images, texts = fitted
    method = Matches(random_state=0, verbose=0, device="cuda", amp=amp, score_memory=2**18)
    method.fit(images, texts)
    scores = method.similarity(images, texts)
    exact = pickle.loads(pickle.dumps(method))
    exact.net_.amp = False
    np.testing.assert_allclose(
        scores, exact.similarity(images, texts), atol=1e-5 if amp is False else 2e-2
    )
