"""SCAN: against the authors' loop over captions, and its limits."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views
from crossfit.neural import Checkpoint, listening
from crossfit.testing import PeakBytes
from crossfit_heads.scan import SCAN, Elements, stacked_attention
from crossfit_heads.testing import make_sets

SMALL = {"width": 12, "word_width": 8, "max_epochs": 4, "lr": 0.02, "batch_size": 16,
         "device": "cpu", "random_state": 0, "verbose": 0}  # fmt: skip


def _elements(lengths, seed=0, width=6):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(lengths), max(lengths), width, generator=generator)
    values = F.normalize(values, dim=-1)
    lengths = torch.tensor(lengths)
    values[torch.arange(values.shape[1]) >= lengths[:, None]] = 0
    return Elements(values, lengths, values @ values.mT)


def _pair(context, query, lambda_softmax, pooling, lambda_lse, leak):
    """The score of one pair as in the authors' code: the attended vectors are formed."""
    products = context @ query.T
    attention = torch.where(products > 0, products, leak * products)
    attention = attention / (attention.square().sum(dim=1, keepdim=True).sqrt() + 1e-8)
    weights = (lambda_softmax * attention).softmax(dim=0)
    cosines = F.cosine_similarity(query, weights.T @ context, dim=1)
    if pooling == "lse":
        return (lambda_lse * cosines).exp().sum().log() / lambda_lse
    return {"mean": cosines.mean, "sum": cosines.sum, "max": cosines.max}[pooling]()


@pytest.mark.parametrize("pooling", ["mean", "sum", "lse", "max"])
@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_scores_are_those_of_a_loop_over_pairs(pooling, leak):
    context = _elements([3, 5, 1, 4, 2, 5, 3, 6, 2, 4, 5, 1])
    query = _elements([2, 7, 1, 4, 3], seed=1)
    settings = {"lambda_softmax": 9.0, "pooling": pooling, "lambda_lse": 6.0, "leak": leak}
    found = stacked_attention(context, query, **settings)
    for i in range(12):
        for j in range(5):
            parts = (part.values[k, : part.lengths[k]] for part, k in ((context, i), (query, j)))
            assert found[i, j].item() == pytest.approx(_pair(*parts, **settings).item(), abs=2e-6)


def test_blocks_do_not_change_scores_or_gradients(monkeypatch):
    settings = {"lambda_softmax": 4.0, "pooling": "mean", "leak": 0.1}
    found, gradients = [], []
    for size in (2**17, 1, 40):
        monkeypatch.setattr("crossfit_heads.scan._AT_ONCE", size)
        values = [_elements([3, 5, 1, 4], seed=k).values.requires_grad_() for k in (0, 1)]
        lengths = torch.tensor([3, 5, 1, 4])
        scores = stacked_attention(Elements(values[0], lengths, values[0] @ values[0].mT),
                                   Elements(values[1], lengths), **settings)  # fmt: skip
        scores.square().sum().backward()
        found.append(scores.detach())
        assert all(torch.isfinite(part.grad).all() for part in values)
        real = torch.arange(5) < lengths[:, None]  # padding has no gradient in the network
        gradients.append(torch.stack([part.grad[real] for part in values]))
    for part, gradient in zip(found[1:], gradients[1:]):
        torch.testing.assert_close(part, found[0])
        torch.testing.assert_close(gradient, gradients[0])


def test_the_gradient_is_that_of_the_attended_vectors():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, n, 4, generator=generator, dtype=torch.float64)
                     for n in (5, 3))  # fmt: skip
    gradients = []
    for fast in (True, False):
        parts = [part.clone().requires_grad_() for part in (first, second)]
        units = [F.normalize(part, dim=-1) for part in parts]
        if fast:
            context = Elements(units[0], torch.tensor([5]), units[0] @ units[0].mT)
            score = stacked_attention(context, Elements(units[1], torch.tensor([3])),
                                      lambda_softmax=9.0, leak=0.1)[0, 0]  # fmt: skip
        else:
            score = _pair(units[0][0], units[1][0], 9.0, "mean", 6.0, 0.1)
        score.backward()
        gradients.append(torch.cat([part.grad[0] for part in parts]))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_limits_of_the_pooling_and_of_the_attention():
    context, query = _elements([4, 3, 6]), _elements([5, 2, 3], seed=1)
    score = lambda **settings: stacked_attention(  # noqa: E731
        context, query, **{"lambda_softmax": 9.0, **settings}
    )
    largest = score(pooling="max")
    distance = [(score(pooling="lse", lambda_lse=k) - largest).abs().max() for k in (6, 60, 600)]
    assert distance[0] > 10 * distance[2] and distance[2] < 0.003
    assert all(a > b for a, b in pairwise(distance))
    torch.testing.assert_close(score(pooling="sum"), score() * query.lengths)
    # Attention without preference: the cosine with the sum of the regions.
    flat = score(lambda_softmax=1e-6)
    for i in range(3):
        mean = context.values[i].sum(dim=0)
        for j in range(3):
            words = query.values[j, : query.lengths[j]]
            expected = F.cosine_similarity(words, mean[None], dim=1).mean()
            assert flat[i, j].item() == pytest.approx(expected.item(), abs=1e-5)
    # A region that is alone gets all of it, whatever the temperature.
    alone = context.some(torch.tensor([0]))
    alone = Elements(alone.values[:, :1], torch.tensor([1]), alone.gram[:, :1, :1])
    found = stacked_attention(alone, query, lambda_softmax=9.0)
    expected = (query.values @ alone.values[0, 0]).sum(dim=1) / query.lengths
    torch.testing.assert_close(found[0], expected)


# ---- the estimator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets():
    return make_sets(np.random.default_rng(0), 120)[0]


@pytest.mark.parametrize("attention", ["t2i", "i2t"])
def test_the_similarity_is_that_of_the_definition(sets, attention):
    scan = SCAN(**SMALL, attention=attention, pooling="lse").fit(sets[:60])
    test = sets[60:66]
    found = scan.similarity(test)
    network = scan.net_.module_
    with torch.no_grad():
        regions = torch.tensor(np.asarray(test["image"]), dtype=torch.float32)
        scaled = (regions - network.image.scaling.mean) / network.image.scaling.scale
        images = F.normalize(network.image.linear(scaled), dim=-1)
        for j in range(6):
            words = torch.tensor(np.asarray(test["text"][j]), dtype=torch.float32)
            words = network.text.words.scaling(words)
            states, _ = network.text.gru.rnn(words[None])
            states = F.normalize(states[0].unflatten(1, (2, -1)).mean(dim=1), dim=-1)
            for i in range(6):
                parts = (images[i], states) if attention == "t2i" else (states, images[i])
                scales = (9.0, "lse", 6.0) if attention == "t2i" else (4.0, "lse", 5.0)
                expected = _pair(*parts, *scales, leak=0.1).item()
                assert found[i, j] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("attention", ["t2i", "i2t"])
def test_the_order_of_regions_never_matters_and_that_of_words_only_to_the_gru(sets, attention):
    turned = Ragged.from_list([row[::-1] for row in sets["text"]])
    flipped = sets.replace(image=np.asarray(sets["image"])[:, ::-1])
    for gru in (True, False):
        scan = SCAN(**SMALL, attention=attention, gru=gru).fit(sets[:60])
        found = scan.similarity(sets[60:])
        np.testing.assert_allclose(scan.similarity(flipped[60:]), found, atol=1e-5)
        changed = scan.similarity(sets.replace(text=turned)[60:])
        assert (np.abs(changed - found).max() < 1e-5) is not gru


def test_blocks_keep_to_the_memory_and_score_every_pair_once(sets, monkeypatch):
    scan = SCAN(**SMALL).fit(sets[:60])
    whole = scan.similarity(sets)
    scored = []
    plain = SCAN._score_pairs

    def counted(self, module, P, Q):
        scored.append(len(P.lengths) * len(Q.lengths))
        return plain(self, module, P, Q)

    monkeypatch.setattr(SCAN, "_score_pairs", counted)
    P, Q = (scan._prepare(sets[role], role) for role in sets.names)
    memory = 64 * scan._pair_bytes(P.parts, Q.parts)
    scan.set_params(score_memory=memory)
    scores = np.empty_like(whole)
    with PeakBytes(P.parts, Q.parts) as counter:
        scan._fill(P, Q, scores, None)
    assert sum(scored) == 120 * 120 and max(scored) <= 64
    assert memory / 20 < counter.peak <= memory
    np.testing.assert_allclose(scores, whole, atol=1e-5)


def test_captions_of_an_image_are_never_negatives(sets):
    """With two images and their captions alone, only the other image's items are."""
    index = np.repeat([0, 1], 8)
    views = Views.from_captions(np.asarray(sets["image"])[:2], sets["text"][:16], index)
    seen = []

    class Watched(SCAN):
        def _loss(self, outputs, batch):
            seen.append((batch.positives.clone(), batch.negatives.clone()))
            return super()._loss(outputs, batch)

    Watched(**SMALL).fit(views)
    for positives, negatives in seen:
        assert not (positives & negatives).any()
        assert torch.equal(positives, ~negatives)  # all captions of an image are its positives


@pytest.mark.parametrize("text", ["strings", "ids"])
def test_strings_and_ids_are_read_with_learned_vectors(sets, text):
    rng = np.random.default_rng(0)
    shown = np.array([rng.choice(12, 3, replace=False) for _ in range(120)])
    regions = np.eye(12)[np.repeat(shown, 2, axis=1)] + 0.05 * rng.normal(size=(120, 6, 12))
    names = [f"w{k}" for k in range(12)]
    texts = np.array([" ".join(names[k] for k in row) for row in shown], dtype=object)
    if text == "ids":
        texts = shown + 2
    scan = SCAN(**{**SMALL, "max_epochs": 12}).fit(Views(image=regions, text=texts)[:80])
    assert scan.score(Views(image=regions, text=texts)[80:]) > 0.5  # chance is .1
    found = scan.explain(Views(image=regions, text=texts)[80:82])["t2i"]
    assert [part.shape for part in found] == [(3, 6), (3, 6)]
    if text == "strings":
        assert found.info["words"].tolist() == " ".join(texts[80:82]).split()


def test_the_attention_is_that_of_the_scores(sets):
    images = Ragged.from_list([row[: 3 + i % 4] for i, row in enumerate(np.asarray(sets["image"]))])
    words = np.array([f"w{k}" for k in range(len(sets["text"].values))], dtype=object)
    texts = Ragged(sets["text"].values, sets["text"].offsets, {"words": words})
    views = sets.replace(image=images, text=texts)
    scan = SCAN(**SMALL, max_words=4).fit(views[:60])
    found = scan.explain(views[60:66])["t2i"]
    P, Q = (scan._prepare(views[60:66][role], role).parts for role in views.names)
    scores = scan.similarity(views[60:66])
    for i, weights in enumerate(found):
        n_words, n_regions = min(4, len(texts[60 + i])), len(images[60 + i])
        assert weights.shape[0] == n_words
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
        assert not weights[:, n_regions:].any() and (weights[:, :n_regions] > 0).all()
        attended = torch.tensor(weights[:, :n_regions]) @ P.values[i, :n_regions]
        cosine = F.cosine_similarity(attended, Q.values[i, :n_words], dim=1).mean().item()
        assert scores[i, i] == pytest.approx(cosine, abs=1e-5)
    used = [words[a : min(b, a + 4)] for a, b in zip(texts.offsets[60:66], texts.offsets[61:67])]
    assert found.info["words"].tolist() == np.concatenate(used).tolist()
    other = SCAN(**SMALL, attention="i2t").fit(views[:60]).explain(views[60:62])
    assert other.names == ("i2t",)
    assert [part.shape[0] for part in other["i2t"]] == [len(row) for row in images[60:62]]


def test_empty_sets_have_scores(sets):
    images = Ragged.from_list([np.asarray(row) for row in sets["image"]])
    images = Ragged.from_list([images[0][:0], *list(images)[1:]])
    texts = Ragged.from_list([*list(sets["text"])[:-1], sets["text"][0][:0]])
    views = Views(image=images, text=texts)
    for attention in ("t2i", "i2t"):
        scan = SCAN(**SMALL, attention=attention).fit(views)
        found = scan.similarity(views)
        assert np.isfinite(found).all()
        with torch.no_grad():
            assert found[0].std() > 0


def test_hinges_are_summed_at_first(sets, monkeypatch):
    mined = []
    from crossfit_heads import scan as module

    plain = module.ranked

    def watched(*arguments, mining, **settings):
        mined.append(mining)
        return plain(*arguments, mining=mining, **settings)

    monkeypatch.setattr(module, "ranked", watched)
    epochs = []
    with listening(lambda *_: epochs.append(len(mined))):
        SCAN(**SMALL, sum_share=0.5).fit(sets[:60])
    assert set(mined[: epochs[1]]) == {"sum"} and set(mined[epochs[1] : epochs[3]]) == {"hardest"}


def test_bundles_and_resumed_fits_are_the_same(sets, tmp_path):
    plain = SCAN(**SMALL).fit(sets[:60])
    crossfit.save(plain, tmp_path / "bundle")
    read = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(read.similarity(sets), plain.similarity(sets))

    class Killed(Exception):
        pass

    def kill(estimator, epoch, record):
        if epoch == 2:
            raise Killed

    resumed = SCAN(**SMALL, callbacks=[Checkpoint(tmp_path / "scan.pt")])
    with pytest.raises(Killed), listening(kill):
        resumed.fit(sets[:60])
    resumed.fit(sets[:60])
    np.testing.assert_array_equal(resumed.similarity(sets), plain.similarity(sets))


def test_mistakes_are_reported(sets):
    for settings in ({"attention": "both"}, {"pooling": "median"}, {"lambda_softmax": 50.0},
                     {"leak": 2.0}, {"sum_share": 1.5}, {"width": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=f"SCAN|{next(iter(settings))}"):
            SCAN(**{**SMALL, **settings}).fit(sets)
    with pytest.raises(ValueError, match="SCAN: ranks matching pairs above others"):
        SCAN(**SMALL).fit(sets.with_groups(np.zeros(120, int)))
    scan = SCAN(**SMALL).fit(sets[:40])
    with pytest.raises(ValueError, match=r"SCAN\.explain needs pairs of both views, got only"):
        scan.explain(sets.select("image"))
