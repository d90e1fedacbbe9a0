"""VSE∞: its pooling against loops and limits, its branches, and whether it learns."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views
from crossfit.neural import Checkpoint, listening
from crossfit_heads.testing import make_sets
from crossfit_heads.vse_infinity import GPO, VSEInfinity, pooled, thinned

SMALL = {"width": 12, "word_width": 8, "max_epochs": 4, "lr": 0.03, "batch_size": 16,
         "device": "cpu", "random_state": 0, "verbose": 0}  # fmt: skip


def _sets(lengths, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(lengths), max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    values[~mask] = 99.0  # must not be read
    return values, mask


def test_pooled_values_are_those_of_a_loop():
    values, mask = _sets([3, 1, 5])
    weights = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    found = pooled(values, mask, weights)
    for i, n in enumerate([3, 1, 5]):
        for f in range(4):
            ordered = sorted(values[i, :n, f].tolist(), reverse=True)
            expected = sum(w * v for w, v in zip(weights[i].tolist(), ordered, strict=False))
            assert found[i, f].item() == pytest.approx(expected, abs=1e-5)


def test_equal_weights_are_the_mean_and_the_first_alone_is_the_maximum():
    lengths = [3, 1, 5, 2]
    values, mask = _sets(lengths)
    equal = mask / mask.sum(dim=1, keepdim=True)
    mean = torch.stack([row[:n].mean(dim=0) for row, n in zip(values, lengths)])
    torch.testing.assert_close(pooled(values, mask, equal), mean)
    first = F.one_hot(torch.zeros(4, dtype=torch.int64), 5).float()
    largest = torch.stack([row[:n].amax(dim=0) for row, n in zip(values, lengths)])
    torch.testing.assert_close(pooled(values, mask, first), largest)


def test_the_weights_of_gpo_reach_both_limits():
    values, mask = _sets([3, 6, 1])
    gpo = GPO(8, 4)
    nn.init.zeros_(gpo.linear.weight)
    mean = torch.stack([row[:n].mean(dim=0) for row, n in zip(values, [3, 6, 1])])
    torch.testing.assert_close(gpo(values, mask), mean)
    # Logits that fall steeply with the position: only the largest value is left.
    gpo.gru.forward = lambda codes, mask: (
        torch.arange(codes.shape[1]).float()[None, :, None].expand(len(codes), -1, 4), None
    )  # fmt: skip
    nn.init.constant_(gpo.linear.weight, -25.0)
    largest = torch.stack([row[:n].amax(dim=0) for row, n in zip(values, [3, 6, 1])])
    torch.testing.assert_close(gpo(values, mask), largest)


def test_the_weights_are_those_of_each_length_alone():
    torch.manual_seed(0)
    gpo = GPO(8, 4, temperature=0.5)
    lengths = torch.tensor([4, 2, 7, 4, 1])
    found = gpo.weights(lengths)
    assert found.shape == (5, 7)
    for row, n in zip(found, lengths.tolist()):
        states, _ = gpo.gru.rnn(gpo.encodings(n)[None])
        states = states[0].unflatten(1, (2, -1)).mean(dim=1)
        expected = (states @ gpo.linear.weight[0] / 0.5).softmax(dim=0)
        torch.testing.assert_close(row[:n], expected)
        assert not row[n:].any()
    codes = gpo.encodings(50)
    assert codes[0].tolist() == [0, 1] * 4
    for k in range(4):
        angle = 3 / 10000 ** (2 * k / 8)
        expected = torch.tensor([np.sin(angle), np.cos(angle)]).float()
        torch.testing.assert_close(codes[3, 2 * k : 2 * k + 2], expected)


def test_dropped_elements_leave_the_others_in_order():
    torch.manual_seed(0)
    mask = torch.arange(10) < torch.tensor([10, 4] * 500)[:, None]
    values = torch.arange(10.0).repeat(1000, 1)[..., None]
    found, kept = thinned(values, mask, 0.3)
    share = kept.sum() / mask.sum()
    assert share.item() == pytest.approx(0.7, abs=0.02)
    for row, real, n in zip(found[..., 0], kept, mask.sum(dim=1)):
        own = row[real]
        assert real[: len(own)].all() and (own.diff() > 0).all() and own.max() < n
    # What would be empty is left as it is.
    alone = torch.ones(200, 1, dtype=torch.bool)
    assert thinned(values[:200, :1], alone, 0.9)[1].all()


# ---- the estimator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets():
    return make_sets(np.random.default_rng(0), 120)[0]


@pytest.mark.parametrize("pooling", ["gpo", "mean", "max"])
def test_vectors_are_those_of_the_definition(sets, pooling):
    vse = VSEInfinity(**SMALL, pooling=pooling).fit(sets[:60])
    found = vse.encode(sets["image"], "image")[:5]
    network = vse.net_.module_
    with torch.no_grad():
        regions = torch.tensor(np.asarray(sets["image"])[:5], dtype=torch.float32)
        scaled = (regions - network.image.scaling.mean) / network.image.scaling.scale
        mapped = network.image.linear(scaled)
        if pooling == "gpo":
            weights = network.pooling["image"].weights(torch.tensor([6]))[0]
            expected = (mapped.sort(dim=1, descending=True)[0] * weights[:, None]).sum(dim=1)
        else:
            expected = mapped.mean(dim=1) if pooling == "mean" else mapped.amax(dim=1)
    np.testing.assert_allclose(found, F.normalize(expected, dim=1), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    # The vectors of a set do not depend on its batch.
    texts = sets["text"]
    whole = vse.encode(texts, "text")
    alone = np.concatenate([vse.encode(texts[i : i + 1], "text") for i in range(10)])
    np.testing.assert_allclose(alone, whole[:10], atol=1e-6)


def test_the_perceptron_is_added_and_normalised_over_real_regions(sets):
    lengths = 2 + np.arange(120) % 5
    images = Ragged.from_list([row[:n] for row, n in zip(np.asarray(sets["image"]), lengths)])
    vse = VSEInfinity(**{**SMALL, "dropout": 0.0}, residual=True, drop=0.0).fit(
        sets.replace(image=images)[:60]
    )
    branch = vse.net_.module_.image
    statistics = []
    branch.train()
    normalisation = next(part for part in branch.modules() if isinstance(part, nn.BatchNorm1d))
    normalisation.register_forward_hook(lambda module, x, y: statistics.append(x[0]))
    from crossfit.neural.batching import store

    items = store(images).take(torch.arange(8))
    values, mask = branch(items)
    assert len(statistics[0]) == lengths[:8].sum() == mask.sum()
    assert not values[~mask].any()
    assert normalisation.num_features == 6  # half the width
    flat = (items.values[mask] - branch.scaling.mean) / branch.scaling.scale
    torch.testing.assert_close(values[mask], branch.linear(flat) + branch.mlp(flat))


def test_the_order_of_regions_never_matters_and_that_of_words_only_to_the_gru(sets):
    turned = Ragged.from_list([row[::-1] for row in sets["text"]])
    other = sets.replace(image=np.asarray(sets["image"])[:, ::-1], text=turned)
    for gru in (True, False):
        vse = VSEInfinity(**SMALL, gru=gru).fit(sets[:60])
        found, changed = vse.transform(sets[60:]), vse.transform(other[60:])
        np.testing.assert_allclose(changed["image"], found["image"], atol=1e-6)
        assert (np.abs(changed["text"] - found["text"]).max() < 1e-6) is not gru


def test_pooling_and_drop_may_differ_between_the_views(sets):
    vse = VSEInfinity(
        **SMALL, pooling={"image": "max", "text": "gpo"}, drop={"image": 0.5, "text": 0.0}
    ).fit(sets[:60])
    assert type(vse.net_.module_.pooling["text"]) is GPO
    assert vse.net_.module_.drop == {"image": 0.5, "text": 0.0}
    with pytest.raises(ValueError, match="pooling has no entry for 'text', got image"):
        VSEInfinity(**SMALL, pooling={"image": "max"}).fit(sets)


def test_strings_are_read_with_learned_vectors():
    rng = np.random.default_rng(0)
    shown = np.array([rng.choice(12, 3, replace=False) for _ in range(120)])
    regions = np.eye(12)[np.repeat(shown, 2, axis=1)] + 0.05 * rng.normal(size=(120, 6, 12))
    texts = np.array([" ".join(f"w{k}" for k in row) for row in shown], dtype=object)
    views = Views(image=regions, text=texts)
    vse = VSEInfinity(**{**SMALL, "max_epochs": 12}).fit(views[:80])
    assert vse.score(views[80:]) > 0.5  # chance is .1


def test_bundles_and_resumed_fits_are_the_same(sets, tmp_path):
    plain = VSEInfinity(**SMALL, residual=True).fit(sets[:60])
    crossfit.save(plain, tmp_path / "bundle")
    read = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(read.similarity(sets), plain.similarity(sets))

    class Killed(Exception):
        pass

    def kill(estimator, epoch, record):
        if epoch == 2:
            raise Killed

    resumed = VSEInfinity(**SMALL, residual=True, callbacks=[Checkpoint(tmp_path / "vse.pt")])
    with pytest.raises(Killed), listening(kill):
        resumed.fit(sets[:60])
    resumed.fit(sets[:60])
    np.testing.assert_array_equal(resumed.similarity(sets), plain.similarity(sets))


def test_mistakes_are_reported(sets):
    for settings in ({"pooling": "median"}, {"pooling": {"image": "mode", "text": "max"}},
                     {"positions": 5}, {"drop": 1.0}, {"drop": {"image": 2, "text": 0}},
                     {"temperature": 0.0}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(settings))):
            VSEInfinity(**{**SMALL, **settings}).fit(sets)
