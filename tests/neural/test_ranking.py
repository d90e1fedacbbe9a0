"""The base class of networks that rank: its loss, its schedule, its checks."""

import numpy as np
import pytest
import torch

from crossfit import Views
from crossfit.neural import Batch, Items, RankingEstimator, ranked


def _batch(images, texts, groups):
    parts = {"image": torch.tensor(images), "text": torch.tensor(texts)}
    return Batch({role: Items(part[:, None]) for role, part in parts.items()}, parts,
                 torch.tensor(groups), None)  # fmt: skip


# Rows 0 and 1 are two captions of one image, rows 2 and 3 two images of one group.
BATCH = _batch([0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 0, 1, 1, 2])


def _loops(S, mining):
    """The loss of both directions, by two loops over all triplets."""
    totals = []
    same = [[True, True, False, False, False], [True, True, False, False, False],
            *np.eye(5, dtype=bool)[2:].tolist()]  # fmt: skip
    groups = [0, 0, 1, 1, 2]
    for scores in (S, S.T):
        found = []
        for i in range(5):
            for p in range(5):
                if same[i][p]:
                    hinges = [max(0.0, 0.2 - scores[i, p].item() + scores[i, n].item())
                              for n in range(5) if groups[n] != groups[i]]  # fmt: skip
                    found.append(max(hinges) if mining == "hardest" else sum(hinges))
        totals.append(sum(found) / len(found))
    return totals


@pytest.mark.parametrize("mining", ["sum", "hardest"])
def test_the_loss_is_that_of_loops_over_triplets_without_siblings(mining):
    S = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) / 3
    terms = ranked(S, BATCH, margin=0.2, mining=mining)
    assert list(terms) == ["image2text", "text2image"]
    assert [term.item() for term in terms.values()] == pytest.approx(_loops(S, mining))
    weighted = ranked(S, BATCH, margin=0.2, mining=mining, weights=(2.0, 0.0))
    assert weighted["image2text"] == 2 * terms["image2text"] and len(weighted) == 1


def test_the_scores_of_siblings_and_of_the_group_have_no_gradient_as_negatives():
    S = torch.zeros(5, 5, requires_grad=True)
    sum(ranked(S, BATCH, margin=0.2, mining="sum").values()).backward()
    assert (S.grad[2, 3], S.grad[3, 2]) == (0, 0)  # one group, no pair
    assert S.grad[0, 1] < 0 and S.grad[1, 0] < 0  # captions of one image are positives
    assert (S.grad[~BATCH.positives & BATCH.negatives] > 0).all()


class _Linear(RankingEstimator):
    def _build_module(self, n_inputs, n_classes):
        class Branches(torch.nn.ModuleDict):
            def encode(self, items, view):
                return torch.nn.functional.normalize(self[view](items.values), dim=1)

        return Branches({role: torch.nn.Linear(n, 4) for role, n in n_inputs.items()})


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(60, 4))
    return Views(image=factors @ rng.normal(size=(4, 10)), text=factors @ rng.normal(size=(4, 7)))


def test_a_subclass_learns_to_rank_with_a_schedule(pairs):
    settings = {"lr": 0.02, "max_epochs": 30, "lr_step": 10, "lr_gamma": 0.5, "device": "cpu",
                "verbose": 0, "random_state": 0, "batch_size": 20}  # fmt: skip
    method = _Linear(**settings).fit(pairs)
    assert method.score(pairs) > 0.8
    rows = method.net_.history
    assert {"train_image2text", "train_text2image", "train_active_hinges"} <= set(rows[-1])
    assert [row["event_lr"] for row in rows][::10] == [0.02, 0.01, 0.005]


def test_the_gradient_is_clipped(pairs):
    weights = {}
    for clip in (None, 1e-3):
        settings = {"lr": 1.0, "max_epochs": 1, "optimizer": "SGD", "device": "cpu", "verbose": 0}
        method = _Linear(**settings, clip=clip, random_state=0, batch_size=60).fit(pairs)
        weights[clip] = torch.cat([w.flatten() for w in method.net_.module_.parameters()])
    first = _Linear(max_epochs=1, lr=1e-12, optimizer="SGD", device="cpu", verbose=0,
                    random_state=0, batch_size=60).fit(pairs)  # fmt: skip
    start = torch.cat([w.flatten() for w in first.net_.module_.parameters()])
    assert (weights[1e-3] - start).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert (weights[None] - start).norm() > 0.01


def test_mistakes_are_reported_before_training(pairs):
    with pytest.raises(ValueError, match="_Linear: ranks matching pairs above others, so it needs"):
        _Linear().fit(pairs.with_groups(np.zeros(60, int)))
    for settings in ({"margin": -1}, {"mining": "some"}, {"clip": 0}, {"lr_gamma": 2},
                     {"batch_size": 1}, {"k_negatives": 0}, {"lr_step": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(settings))):
            _Linear(**settings).fit(pairs)
