"""RRF-Net against a loop over its hinges, and against plain layers."""

import numpy as np
import pytest
import torch
from torch import nn

from crossfit import Views, evaluate
from crossfit.experiment import Experiment, run
from crossfit.neural import Batch, Items
from crossfit_ranking.rrf_net import RRFBranch, RRFNet, bi_rank_loss
from crossfit_ranking.testing import make_inputs


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 120)[0]


GROUPS = [0, 1, 0, 2, 1, 3, 4]


def _rows(n, d, dtype=torch.float32):
    generator = torch.Generator().manual_seed(d)
    return nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=dtype), dim=1)


# ---- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 50])
@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_the_loss_is_the_printed_one(k, margin):
    x, z = _rows(7, 3), nn.functional.normalize(_rows(7, 3) + 0.7 * torch.randn(7, 3), dim=1)
    groups = torch.tensor(GROUPS)
    rows = torch.arange(7)
    batch = Batch({"image": Items(x), "text": Items(z)}, {"image": rows, "text": rows}, groups,
                  None)  # fmt: skip
    method = RRFNet(margin=margin, k_negatives=k, weights=(1.0, 0.5, 2.0, 0.25))
    terms = method._loss({"image": x, "text": z}, batch)
    xs, zs = x.numpy(), z.numpy()
    expected = dict.fromkeys(terms, 0.0)
    for r in range(7):
        p = xs[r] @ zs[r]
        wrong = [j for j in range(7) if GROUPS[j] != GROUPS[r]]
        chosen = sorted(wrong, key=lambda j: -(xs[r] @ zs[j]))
        chosen = [j for j in chosen if margin - p + xs[r] @ zs[j] > 0][:k]
        for j in chosen:
            expected["image2text"] += margin - p + xs[r] @ zs[j]
            expected["text2text"] += 0.5 * max(margin - p + zs[r] @ zs[j], 0)
        chosen = sorted(wrong, key=lambda j: -(xs[j] @ zs[r]))
        chosen = [j for j in chosen if margin - p + xs[j] @ zs[r] > 0][:k]
        for j in chosen:
            expected["text2image"] += 2.0 * (margin - p + xs[j] @ zs[r])
            expected["image2image"] += 0.25 * max(margin - p + xs[r] @ xs[j], 0)
    assert min(expected.values()) > 0
    expected = {name: value / (7 * k) for name, value in expected.items()}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    groups = torch.tensor(GROUPS)
    negatives = groups[:, None] != groups
    x, z = (_rows(7, d, torch.float64)[:, :3].clone().requires_grad_() for d in (3, 4))

    def loss(x, z):
        return torch.stack(bi_rank_loss(x, z, negatives, 0.6, 3)).sum()

    assert torch.autograd.gradcheck(loss, (x, z))
    assert torch.autograd.grad(loss(x, z), x)[0].abs().sum() > 0


def test_rows_without_wrong_ones_add_nothing():
    x = _rows(4, 3).requires_grad_()
    terms = bi_rank_loss(x, _rows(4, 4)[:, :3], torch.zeros(4, 4, dtype=torch.bool), 0.5, 3)
    assert sum(terms).item() == 0
    sum(terms).backward()
    assert torch.isfinite(x.grad).all()


# ---- the network -------------------------------------------------------------------------------


def test_without_steps_and_with_an_identity_as_fusion_it_is_a_perceptron():
    torch.manual_seed(0)
    branch = RRFBranch(9, 12, 5, steps=0).eval()
    for norm in (part for part in branch.modules() if isinstance(part, nn.BatchNorm1d)):
        if norm is not branch.fusion[1]:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    nn.init.ones_(branch.fusion[0].weight)
    nn.init.zeros_(branch.fusion[0].bias)
    branch.fusion[1].eps = 0.0
    x = torch.randn(6, 9)
    plain = nn.Sequential(*branch.first, *branch.last)
    torch.testing.assert_close(branch(x), nn.functional.normalize(plain(x), dim=1))


def test_the_steps_share_one_matrix_and_have_their_own_normalisations():
    torch.manual_seed(0)
    branch = RRFBranch(9, 12, 5, steps=3)
    shapes = [tuple(w.shape) for w in branch.parameters() if w.ndim == 2]
    assert shapes == [(12, 9), (5, 12), (5, 5), (5, 5)]  # two layers, the steps, the last layer
    assert branch.fusion[0].weight.shape == (1, 4, 1)
    assert len({id(norm) for norm in branch.norms}) == 3
    x = torch.randn(8, 9)
    branch.train()
    torch.manual_seed(1)
    states = branch.states(x)
    torch.manual_seed(1)
    state = branch.first(x)
    for t, norm in enumerate(branch.norms, 1):
        raw = state @ branch.step.weight.T + branch.step.bias
        raw = (raw - raw.mean(dim=0)) / (raw.var(dim=0, correction=0) + norm.eps).sqrt()
        state = state + (norm.weight * raw + norm.bias).clamp(min=0)
        torch.testing.assert_close(states[:, t], state)
    # A change of the matrix changes every step.
    with torch.no_grad():
        branch.step.weight.mul_(-1)
    torch.manual_seed(1)
    changed = branch.states(x)
    assert torch.equal(changed[:, 0], states[:, 0])
    for t in (1, 2, 3):
        assert not torch.allclose(changed[:, t], states[:, t])


@pytest.mark.parametrize(("name", "updates", "step", "n_pairs"), [
    ("flickr30k", 6500, 2000, 29_783 * 5), ("coco", 16_500, 5500, 82_783 * 5),
])  # fmt: skip
def test_the_experiment_has_the_settings_of_the_code(name, updates, step, n_pairs):
    described = Experiment.find(f"liu-2017-rrf-net-{name}")
    method, without = (RRFNet(**entry.params) for entry in described.methods)
    assert (method.steps, without.steps) == (3, 0)
    module = method._build_module({"image": 4096, "text": 6000}, None)
    for role, n in (("image", 4096), ("text", 6000)):
        branch = module.branches[role]
        assert [type(layer).__name__ for layer in branch.first] == [
            "BatchNorm1d", "Linear", "ReLU", "Dropout", "Linear", "BatchNorm1d", "ReLU",
        ]  # fmt: skip
        assert branch.first[1].weight.shape == (2048, n) and branch.first[3].p == 0.5
        assert branch.first[4].weight.shape == (512, 2048)
        assert [type(layer).__name__ for layer in branch.last] == ["Linear", "BatchNorm1d"]
        for layer in (branch.first[1], branch.first[4], branch.step, branch.last[0]):
            assert layer.weight.std().item() == pytest.approx(0.05, rel=0.02)
    settings = {
        "margin": 0.1, "k_negatives": 50, "optimizer": "SGD", "lr": 0.1, "batch_size": 1500,
        "optimizer__momentum": 0.9, "optimizer__weight_decay": 5e-4, "lr_step": step,
    }  # fmt: skip
    assert {key: method.get_params()[key] for key in settings} == settings
    assert list(method.weights) == [1.0, 0.5, 2.0, 1.0]
    batches = -(-n_pairs // method.batch_size)
    assert batches * method.max_epochs == pytest.approx(updates, rel=0.01)
    published = described.methods[0].published
    if name == "flickr30k":
        assert published == {"r@1": {"image2text": 0.421, "text2image": 0.312}}
    else:
        assert not published


# ---- pairs -------------------------------------------------------------------------------------


def test_the_rate_falls_by_updates(pairs):
    method = RRFNet(lr=1e-3, lr_step=5, batch_size=40, max_epochs=4, random_state=0).fit(pairs)
    # 12 updates: 5, 5 and 2.
    assert method.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_a_caption_of_the_same_image_is_never_wrong(pairs):
    index = np.arange(120) // 3
    grouped = Views.from_captions(pairs["image"][:40], pairs["text"], index)
    method = RRFNet(hidden=16, width=4, max_epochs=1, random_state=0, device="cpu").fit(grouped)
    seen = []
    loss = method._loss
    method._loss = lambda outputs, batch: seen.append(batch) or loss(outputs, batch)
    method._measured(grouped, None)
    siblings = torch.tensor(index[:, None] == index)
    assert torch.equal(seen[0].negatives, ~siblings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1, 2, 3)}, "RRFNet: weights must be four numbers of at least 0"),
        ({"weights": (1, 2, 3, -1)}, "RRFNet: weights must be four numbers of at least 0"),
        ({"steps": -1}, "'steps' parameter of RRFNet"),
        ({"batch_size": 1}, "'batch_size' parameter of RRFNet"),
    ],
)
def test_bad_settings_are_rejected_in_one_sentence(settings, message, pairs):
    with pytest.raises(ValueError, match=message):
        RRFNet(**settings).fit(pairs)


def test_pairs_of_one_group_are_rejected(pairs):
    with pytest.raises(ValueError, match="RRFNet: ranks matching pairs above others"):
        RRFNet().fit(pairs.with_groups(np.zeros(len(pairs), dtype=int)))


# ---- real pairs --------------------------------------------------------------------------------


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, y) = emoji
    method = RRFNet(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.15
        assert by_group.mean(direction, "map@all") > 0.23


def test_its_steps_are_not_those_of_a_pipeline(tmp_path):
    """The parameter `steps` of the method is a number, the attribute of a pipeline is a list."""
    small = {"hidden": 16, "width": 4, "steps": 1, "max_epochs": 1, "device": "cpu"}
    texts = [
        {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
        {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 20}},
    ]
    experiment = Experiment(
        title="RRF-Net on emoji",
        dataset="emoji",
        features={"image": {"name": "grid"}, "text": texts},
        methods=[{"method": "rrf-net", "params": small}],
    )
    cell = run(experiment, tmp_path).cells[0]
    assert cell.status == "done"
