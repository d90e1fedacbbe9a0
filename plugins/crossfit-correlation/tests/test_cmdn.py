"""CMDN against its losses and its stages."""

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import crossfit
from crossfit import Views, evaluate
from crossfit.neural import Batch, Items
from crossfit_correlation.cmdn import CMDN, LabelledAE, _from_three, _labelled_loss
from crossfit_correlation.testing import make_inputs

SMALL = {**CMDN.card.test_params, "random_state": 0, "max_epochs": 3}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 80)


@pytest.fixture(scope="module")
def fitted(pairs):
    return CMDN(**SMALL).fit(*pairs)


@pytest.mark.parametrize("bounded", [False, True])
def test_the_loss_is_the_mean_over_both_views_and_each_alone(bounded):
    torch.manual_seed(0)
    network = LabelledAE(["image", "text"], 5, 3, 4, bounded)
    torch.nn.init.normal_(network.bias)
    x, z = torch.rand(2, 6, 5)
    y = torch.tensor([0, 1, 2, -1, 3, 0])
    rows = torch.arange(6)
    batch = Batch({"image": Items(x), "text": Items(z)}, {"image": rows, "text": rows}, rows, y)
    terms = _labelled_loss(_from_three(network, batch.views), batch)
    zero = torch.zeros_like(x)
    errors = labels = 0.0
    for first, second in ((x, zero), (zero, z), (x, z)):
        inner = first @ network.into["image"].weight.T + second @ network.into["text"].weight.T
        code = (inner + network.bias).sigmoid()
        for target, role in ((x, "image"), (z, "text")):
            rebuilt = network.back[role](code)
            rebuilt = rebuilt.sigmoid() if bounded else rebuilt
            errors += (target - rebuilt).square().sum(dim=1).mean() / 3
        labels += F.cross_entropy(network.head(code)[y >= 0], y[y >= 0]) / 3
    torch.testing.assert_close(terms["reconstruction"], errors)
    torch.testing.assert_close(terms["labels"], labels)
    alone = network.encode(Items(x), "image")
    torch.testing.assert_close(alone, network.code({"image": x, "text": zero}))


def test_the_missing_view_is_inferred_by_mean_field(fitted, pairs):
    """At the fixed point, the units of both views and of the joint layer predict each other."""
    trunk = fitted.trunk_
    x = torch.tensor(pairs[0]["image"]).float()
    dbn = trunk.beliefs
    joint, n = dbn.joint, dbn.widths["image"]
    with torch.no_grad():
        belief = dbn.top(x, "image")
        text = joint.visible_bias[n:].sigmoid().expand(len(x), -1)
        hidden = joint.hidden(torch.cat([belief, text], dim=1))
        for _ in range(10):
            text = joint.visible(hidden)[:, n:]
            hidden = joint.hidden(torch.cat([belief, text], dim=1))
        torch.testing.assert_close(trunk.shared(x, "image"), hidden, atol=1e-5, rtol=1e-5)
        further = joint.hidden(torch.cat([belief, joint.visible(hidden)[:, n:]], dim=1))
    torch.testing.assert_close(hidden, further, atol=1e-4, rtol=0)


def test_features_of_the_autoencoders_are_scaled_by_the_training_range(fitted, pairs):
    trunk = fitted.trunk_
    for role in ("image", "text"):
        x = torch.tensor(pairs[0][role]).float()
        scaled = trunk.scaled(trunk.separate(x, role), role)
        assert scaled.min() == 0 and scaled.max() == pytest.approx(1, abs=1e-3)
        far = trunk.scaled(trunk.separate(100 * x, role), role)
        assert far.max() == 1


def test_the_autoencoders_of_a_view_rebuild_it_better_than_its_mean(pairs):
    """One layer after the other: the encoder that is kept has learnt with every depth."""
    views, y = pairs
    losses = []

    class Watched(CMDN):
        def _train_part(self, stage, module, outputs, loss, views, labels=None):
            super()._train_part(stage, module, outputs, loss, views, labels)
            if stage == "sae":
                x = torch.tensor(views["x"])
                losses.append((module(x) - x).square().sum(dim=1).mean().item())

    stages = {**SMALL["stages"], "sae": {"max_epochs": 60, "lr": 1e-2}}
    Watched(**{**SMALL, "sae": (16, 8), "stages": stages}).fit(views, y)
    assert len(losses) == 4
    # The squared norm of standardised features is their number.
    assert max(losses[:2]) < 0.5 * 24 and max(losses[2:]) < 0.5 * 14


def test_codes_are_standardised_by_the_training_items(fitted, pairs):
    for role in ("image", "text"):
        codes = fitted.encode(pairs[0][role], role)
        assert codes.shape == (80, 12)
        np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(codes.std(axis=0), 1, atol=1e-4)


def test_several_captions_per_image_are_pairs_of_the_image(pairs):
    views, y = pairs
    index = np.arange(80) // 2
    grouped = Views.from_captions(views["image"][:40], views["text"], index)
    method = CMDN(**SMALL).fit(grouped, y[:40][index])
    assert method.similarity(grouped).shape == (40, 80)


def test_the_settings_of_the_paper_have_its_units(pairs):
    method = CMDN(**SMALL, rescale=False).fit(*pairs)
    assert {rbm.kind for rbm in method.trunk_.fusions.values()} == {"bernoulli"}
    assert [layer.bounded for layer in method.trunk_.autoencoders] == [False]
    assert method.net_.module_.bounded


def test_bad_input_is_rejected_in_one_sentence(pairs):
    views, y = pairs
    with pytest.raises(ValueError, match="CMDN needs labels of at least two classes, got 1"):
        CMDN(**SMALL).fit(views, np.zeros(80, int))
    with pytest.raises(ValueError, match="CMDN: stages may have sae, dbn, fusion, classifier, bae"):
        CMDN(stages={"corr": {}}).fit(views, y)
    with pytest.raises(ValueError, match="codes must be integers of at least 1, one per layer"):
        CMDN(codes=(0,)).fit(views, y)


def test_bundles_keep_all_stages(fitted, pairs, tmp_path):
    crossfit.save(fitted, tmp_path / "cmdn")
    again = crossfit.load(tmp_path / "cmdn")
    np.testing.assert_allclose(
        again.similarity(pairs[0]), fitted.similarity(pairs[0]), rtol=1e-5, atol=1e-6
    )


def test_the_defaults_find_emoji_of_the_same_group(emoji):
    (train, y), (test, y_test) = emoji
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = CMDN(random_state=0, verbose=0).fit(train, y)
    scores = method.similarity(test)
    found = evaluate(scores, test.relevance("image", "text", y_test), ("map@all",), ci=None)
    for direction in found.directions:
        assert found.mean(direction, "map@all") > 0.22  # the share of the groups is .16
