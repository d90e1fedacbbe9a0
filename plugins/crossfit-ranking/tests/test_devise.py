"""DeViSE: its loss by a loop over negatives in order, its fixed texts, real captions."""

import numpy as np
import pytest
import torch

from crossfit import evaluate
from crossfit.neural import Batch, Items
from crossfit_ranking.devise import DeViSE
from crossfit_ranking.draws import drawn
from crossfit_ranking.testing import make_inputs

SMALL = {"max_epochs": 4, "lr": 0.02, "batch_size": 30, "device": "cpu", "verbose": 0,
         "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 90)[0]


@pytest.mark.parametrize("owner", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2]])
def test_the_loss_is_that_of_a_loop_cut_after_the_first_violation(owner):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(5, 4, generator=generator)[owner]
    text = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    items = {"image": torch.tensor(owner), "text": torch.arange(5)}
    batch = Batch({role: Items(part[:, None]) for role, part in items.items()}, items,
                  torch.tensor(owner), None)  # fmt: skip
    outputs = {"image": image.requires_grad_(), "text": text}
    torch.manual_seed(0)
    loss = DeViSE(margin=0.1)._loss(outputs, batch)["image2text"]
    torch.manual_seed(0)
    orders = drawn(batch.negatives[batch.positives.nonzero(as_tuple=True)[0]], replace=False)
    total, n = torch.zeros(()), 0
    for (i, p), order in zip(batch.positives.nonzero().tolist(), orders.tolist(), strict=True):
        for j in order:
            if j < 0:
                break
            assert owner[j] != owner[i]
            term = 0.1 - text[p] @ image[i] + text[j] @ image[i]
            if term > 0:
                total = total + term
                break
        n += 1
    torch.testing.assert_close(loss, total / n)
    (expected,) = torch.autograd.grad(total / n, outputs["image"], retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, outputs["image"])
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("center", [True, False])
def test_texts_are_fixed_unit_vectors(pairs, center):
    method = DeViSE(**SMALL, center=center).fit(pairs)
    text = np.asarray(pairs["text"])
    expected = text - text.mean(axis=0) if center else text
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(method.encode(text, "text"), expected, atol=1e-5)
    names = [name for name, _ in method.net_.module_.named_parameters()]
    assert names == ["map.weight"]


def test_the_map_is_linear_and_its_cosines_rank_texts_as_its_dot_products(pairs):
    method = DeViSE(**SMALL).fit(pairs)
    image = np.asarray(pairs["image"])
    x = (image - image.mean(axis=0)) / image.std(axis=0) / np.sqrt(image.shape[1])
    mapped = x @ method.net_.module_.map.weight.detach().numpy().T
    np.testing.assert_allclose(method.encode(image, "image"), mapped, atol=1e-5)
    dots = mapped @ method.encode(pairs["text"], "text").T
    scores = method.similarity(pairs)
    np.testing.assert_allclose(scores, dots / np.linalg.norm(mapped, axis=1, keepdims=True),
                               atol=1e-5)  # fmt: skip


def test_it_learns_from_pairs(pairs):
    method = DeViSE(**SMALL | {"max_epochs": 20, "lr_step": None}).fit(pairs[:60])
    found = evaluate(method.similarity(pairs[60:]), np.eye(30), "mrr", ci=None)
    assert found.mean(None, "mrr") > 0.4  # .13 at chance
    assert "train_text2image" not in method.net_.history[-1]


def test_mistakes_are_reported_in_a_sentence(pairs):
    for settings in ({"margin": -1}, {"center": "yes"}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            DeViSE(**SMALL | settings).fit(pairs)


# ---- real data ---------------------------------------------------------------------------------


def test_the_defaults_rank_pictures_and_captions(flickr8k):
    method = DeViSE(device="cpu", verbose=0, random_state=0).fit(flickr8k(0, 500))
    test = flickr8k(5000, 5150)
    scores = method.similarity(test)
    found = evaluate(scores, test.relevance("image", "text"), "r@10", ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.55  # .07 at chance
