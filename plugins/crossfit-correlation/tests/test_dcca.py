"""DCCA against CCA, its equations and the figures of METHODS on real data."""

import os
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

import crossfit
from crossfit import Ragged, Views, datasets
from crossfit.model_selection import make_retrieval_scorer
from crossfit.neural import Batch, Checkpoint, Items
from crossfit.similarities import pairwise_similarity
from crossfit.subspace import CCA
from crossfit_correlation.dcca import DCCA, Branch, CubeRoot
from crossfit_correlation.testing import make_inputs

SMALL = {"hidden": 24, "width": 6, "max_epochs": 15, "lr": 5e-3, "batch_size": 100,
         "dropout": 0.0, "device": "cpu", "verbose": 0, "random_state": 0}  # fmt: skip
FULL = {"optimizer": "LBFGS", "lr": 1.0, "batch_size": 10_000}


@pytest.fixture(scope="module")
def planted():
    views, y = make_inputs(np.random.default_rng(0), 160)
    return views[:120], y[:120], views[120:], y[120:]


@pytest.fixture(scope="module")
def fitted(planted):
    return DCCA(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


def _weights(method):
    return torch.cat([w.flatten().double() for w in method.net_.module_.state_dict().values()])


def _batch(*views):
    rows = torch.arange(len(views[0]))
    named = dict(zip(("image", "text", "third"), views))
    return Batch({k: Items(v) for k, v in named.items()}, dict.fromkeys(named, rows), rows, None)


def _two_views(n=200):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, 3))
    X = Z @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6))
    return X, Z @ rng.normal(size=(3, 4)) + rng.normal(size=(n, 4))


# ---- the loss and the network ------------------------------------------------------------------


def test_the_cube_root_is_the_inverse_of_its_definition_with_its_derivative():
    x = torch.linspace(-30, 30, 13, dtype=torch.float64, requires_grad=True)
    y = CubeRoot()(x)
    torch.testing.assert_close(y**3 / 3 + y, x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, 1 / (1 + y.detach() ** 2))


def test_identity_networks_have_the_sum_of_the_canonical_correlations():
    X, Y = _two_views()
    outputs = {"outputs": [torch.from_numpy(X), torch.from_numpy(Y)], "decay": torch.zeros(())}
    found = DCCA(reg=0)._loss(outputs, _batch(X, Y))
    expected = CCA(reg=0).fit(X, Y).correlations_
    assert found["correlation"].item() == pytest.approx(-expected.sum(), rel=1e-9)
    # cca-zoo sums the squares of the same correlations.
    objectives = pytest.importorskip("cca_zoo.deep.objectives")
    squares = objectives.CCALoss(reg_covar=0.0)(outputs["outputs"])
    assert squares.item() == pytest.approx(-(expected**2).sum(), rel=1e-9)


def test_the_loss_of_three_views_has_the_gradient_of_finite_differences():
    method = DCCA(reg={"image": 0.1, "text": 0.3, "third": 1.0})
    method.views_in_ = {role: role for role in ("image", "text", "third")}
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(12, d, generator=generator, dtype=torch.float64, requires_grad=True)
        for d in (3, 2, 4)
    ]

    def loss(*parts):
        outputs = {"outputs": parts, "decay": torch.zeros(())}
        return method._loss(outputs, _batch(*parts))["correlation"]

    assert torch.autograd.gradcheck(loss, views)


def test_linear_networks_reach_cca_by_the_full_batch_fit():
    X, Y = _two_views()
    method = DCCA(hidden=[], width=4, dropout=0, reg=1e-6, weight_decay=0, max_epochs=3, cca_reg=0,
                  cca_power=0, device="cpu", random_state=0, **FULL).fit(X, Y)  # fmt: skip
    exact = CCA(reg=0, power=0).fit(X, Y)
    assert method.net_.history[-1]["train_correlation"] == pytest.approx(
        -exact.correlations_.sum(), abs=1e-3
    )
    np.testing.assert_allclose(method.cca_.correlations_, exact.correlations_, atol=1e-3)
    np.testing.assert_allclose(method.similarity(X, Y), exact.similarity(X, Y), atol=0.05)
    linear = pytest.importorskip("cca_zoo.linear")
    zoo = linear.CCA(n_components=4).fit([X, Y])
    A, B = zoo.transform([X, Y])
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(A.T, B.T)]
    np.testing.assert_allclose(method.cca_.correlations_, found, atol=1e-3)


def test_a_branch_is_built_as_the_port_has_it():
    branch = Branch(5, [7, 8], 3, "image")
    kinds = [type(layer).__name__ for layer in branch.layers]
    assert kinds == ["Linear", "Sigmoid", "BatchNorm1d"] * 2 + ["Linear"]
    assert not branch.layers[2].affine and branch.layers[-1].bias is None
    dropped = Branch(5, [7], 3, "image", dropout=0.5)
    kinds = [type(layer).__name__ for layer in dropped.layers]
    assert kinds == ["Dropout", "Linear", "Sigmoid", "BatchNorm1d", "Dropout", "Linear"]
    plain = Branch(5, [7], 3, "image", batch_norm=False, activation="cube-root", standardize=False)
    assert [type(layer).__name__ for layer in plain.layers] == ["Linear", "CubeRoot", "Linear"]
    assert isinstance(plain.scaling, torch.nn.Identity)


def test_the_convolutional_branch_maps_the_published_coefficients():
    branch = Branch(20 * 161, [200], 100, "audio", shape=(20, 161))
    stages = []
    for layer in branch.layers:
        layer.register_forward_hook(lambda m, i, o: stages.append(tuple(o.shape[1:])))
    assert branch.eval()(torch.zeros(2, 20 * 161)).shape == (2, 100)
    pooled = [
        shape
        for shape, layer in zip(stages, branch.layers)
        if isinstance(layer, torch.nn.MaxPool2d)
    ]
    assert pooled == [(16, 10, 81), (32, 5, 41), (64, 3, 21)]
    assert (64 * 3 * 21,) in stages and (200,) in stages


def test_weight_decay_is_half_the_squares_of_the_matrices(fitted):
    module = fitted.net_.module_
    expected = sum(w.square().sum() for n, w in module.named_parameters() if n.endswith("weight"))
    assert module.decay().item() == pytest.approx(expected.item() / 2, rel=1e-6)
    row = fitted.net_.history[-1]
    assert 0 < row["train_decay"] < 0.1
    assert row["train_loss"] == pytest.approx(row["train_correlation"] + row["train_decay"])


# ---- training ----------------------------------------------------------------------------------


def test_pairs_never_seen_are_found(fitted, planted):
    assert fitted.score(planted[2]) > 0.8  # the mean reciprocal rank of a random order is .11
    assert fitted.net_.history[-1]["train_correlation"] < -4.5


def test_fits_repeat_bit_for_bit(fitted, planted):
    again = clone(fitted).fit(planted[0])
    assert torch.equal(_weights(again), _weights(fitted))
    np.testing.assert_array_equal(again.similarity(planted[2]), fitted.similarity(planted[2]))


def test_the_full_batch_fit_of_the_paper(planted):
    settings = SMALL | FULL | {"max_epochs": 2, "batch_norm": False, "activation": "cube-root"}
    method = DCCA(**settings).fit(planted[0])
    group = method.net_.optimizer_.param_groups[0]
    assert group["line_search_fn"] == "strong_wolfe"
    assert method.score(planted[2]) > 0.8
    short = clone(method).set_params(optimizer__max_iter=1, max_epochs=1).fit(planted[0])
    assert method.net_.history[-1]["train_loss"] < short.net_.history[-1]["train_loss"]
    with pytest.raises(ValueError, match="L-BFGS needs all 120 training pairs in one batch, got "
                       "batch_size=100; raise it"):  # fmt: skip
        clone(method).set_params(batch_size=100).fit(planted[0])
    with pytest.raises(ValueError, match="L-BFGS needs a loss that is not random, got dropout"):
        clone(method).set_params(dropout=0.2).fit(planted[0])


def test_a_last_batch_that_is_not_full_is_left_out(planted):
    class Counts(Callback):
        def on_train_begin(self, net, **kwargs):
            self.sizes_ = []

        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            self.sizes_.append(len(batch))

    settings = SMALL | {"batch_size": 50, "max_epochs": 1, "callbacks": [("counts", Counts())]}
    for more, sizes in (({}, [50, 50]), ({"iterator_train__drop_last": False}, [50, 50, 20]),
                        ({"batch_size": 500}, [120])):  # fmt: skip
        method = DCCA(**settings | more).fit(planted[0])
        assert dict(method.net_.callbacks_)["counts"].sizes_ == sizes


def test_a_batch_needs_far_more_pairs_than_outputs(planted):
    train = planted[0]
    with pytest.raises(ValueError, match="a batch has at most 20 different items of view 'image' "
                       "for 20 outputs, so that every batch is correlated perfectly"):  # fmt: skip
        DCCA(**SMALL | {"width": 20, "batch_size": 20}).fit(train)
    with pytest.warns(UserWarning, match="at most 60 different items .* correlation is that of "
                      "noise; raise batch_size or lower width"):  # fmt: skip
        DCCA(**SMALL | {"width": 20, "batch_size": 60, "max_epochs": 1}).fit(train)
    # Twenty captions of one image are one image.
    shared = Views.from_captions(train["image"][:6], train["text"], np.arange(120) % 6)
    with pytest.raises(ValueError, match="at most 6 different items of view 'image' for 6 outputs"):
        DCCA(**SMALL).fit(shared)


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch:
            raise InterruptedError


@pytest.mark.parametrize("settings", [{"batch_size": 40, "max_epochs": 4, "dropout": 0.3}, FULL | {
    "max_epochs": 4, "optimizer__max_iter": 3}], ids=["adam", "lbfgs"])  # fmt: skip
def test_a_killed_fit_goes_on_to_the_same_weights(settings, planted, tmp_path):
    through = DCCA(**SMALL | settings).fit(planted[0])
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies(3)]).fit(planted[0])
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(planted[0])
    assert torch.equal(_weights(resumed), _weights(through))
    np.testing.assert_array_equal(resumed.similarity(planted[2]), through.similarity(planted[2]))


def test_the_correlation_alone_is_validated_and_cca_sees_no_held_out_pair(planted):
    train = planted[0]
    method = DCCA(**SMALL | {"max_epochs": 2, "validation_fraction": 0.3}).fit(train)
    row = method.net_.history[-1]
    assert row["valid_loss"] == pytest.approx(row["valid_correlation"])
    rows, held_out = super(DCCA, method)._split(train, method._seed())
    assert len(rows) == 84 and len(held_out) == 36
    outputs = train[rows].map(method.project)
    expected = CCA(reg=0.1).fit(outputs).correlations_
    np.testing.assert_allclose(method.cca_.correlations_, expected, rtol=1e-5)


def test_after_nan_it_answers_with_the_last_sound_weights(planted):
    class Breaks(DCCA):
        def _loss(self, outputs, batch):
            bad = float("nan") if batch.progress >= 0.5 else 1.0
            return {name: bad * term for name, term in super()._loss(outputs, batch).items()}

    method = Breaks(**SMALL | {"max_epochs": 4})
    with pytest.raises(FloatingPointError, match="weights after epoch 2"):
        method.fit(planted[0])
    assert np.isfinite(method.similarity(planted[2])).all()


# ---- views and their forms ---------------------------------------------------------------------


def test_it_ends_in_crossfits_cca_of_its_own_outputs(fitted, planted):
    train, _, test, _ = planted
    cca = CCA(reg=0.1, power=1).fit(train.map(fitted.project))
    expected = test.map(lambda values, role: cca.encode(fitted.project(values, role), role))
    found = fitted.transform(test)
    for role in ("image", "text"):
        np.testing.assert_allclose(found[role], expected[role], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        fitted.similarity(test), pairwise_similarity(expected["image"], expected["text"]), atol=1e-6
    )


def test_captions_count_once_each_and_an_image_is_one_item(planted):
    train = planted[0]
    shared = Views.from_captions(train["image"][:60], train["text"], np.arange(120) % 60)
    method = DCCA(**SMALL | {"max_epochs": 3}).fit(shared)
    rows = Views({role: method.project(shared[role], role) for role in shared.names})
    expected = CCA(reg=0.1).fit(rows).correlations_
    np.testing.assert_allclose(method.cca_.correlations_, expected, rtol=1e-5)
    assert method.similarity(shared).shape == (60, 120)


def test_equal_texts_are_tied_exactly(fitted, planted):
    text = np.asarray(planted[2]["text"], np.float32)
    repeated = np.vstack([text[:3], np.repeat(text[:1], 4, axis=0), text[3:9]])
    scores = fitted.similarity(planted[2]["image"][:5], repeated)
    assert (scores[:, 3:7] == scores[:, :1]).all()


def test_three_views_are_correlated_in_pairs(planted):
    train, _, test, _ = planted
    mix = np.random.default_rng(5).normal(size=(24, 10))
    three, more = (
        Views(image=v["image"], text=v["text"], third=np.tanh(v["image"] @ mix / 5))
        for v in (train, test)
    )
    settings = SMALL | {"hidden": {"image": 24, "text": [16], "third": []},
                        "reg": {"image": 1e-3, "text": 1e-2, "third": 1e-3}}  # fmt: skip
    method = DCCA(**settings).fit(three)
    assert method.net_.history[-1]["train_correlation"] < -12  # of at most 3 x 6
    assert method.transform(more).names == ("image", "text", "third")
    assert method.score(more) > 0.8
    widths = [[w.shape[0] for n, w in part.named_parameters() if n.endswith("weight")]
              for part in method.net_.module_.branches]  # fmt: skip
    assert widths == [[24, 6], [16, 6], [6]]


def test_matrices_are_flattened_or_convolved(planted):
    train, _, test, _ = planted
    square, more = (Views(audio=np.asarray(v["image"]).reshape(-1, 4, 6), text=v["text"])
                    for v in (train, test))  # fmt: skip
    flat = DCCA(**SMALL).fit(square)
    assert flat.score(more) > 0.8 and flat.shapes_ == {"image": [4, 6]}
    cnn = DCCA(**SMALL | {"audio_branch": "cnn", "max_epochs": 40}).fit(square)
    kinds = [type(layer).__name__ for layer in cnn.net_.module_.branch("image").layers]
    assert kinds.count("Conv2d") == 3
    assert "Conv2d" not in str(cnn.net_.module_.branch("text"))
    assert cnn.score(more) > 0.5
    with pytest.raises(ValueError, match="audio_branch='cnn' needs a view of matrices, .* 'image' "
                       r"of shape \(120, 24\)"):  # fmt: skip
        DCCA(**SMALL | {"audio_branch": "cnn"}).fit(train)
    ragged = Ragged.from_list([np.zeros((1 + i % 3, 6)) for i in range(120)])
    with pytest.raises(ValueError, match="'audio' must have rows of one size, got a Ragged"):
        DCCA(**SMALL).fit(Views(audio=ragged, text=train["text"]))


def test_mistakes_are_reported_in_a_sentence(planted):
    for settings, message in (
        ({"hidden": [8, 0]}, r"hidden must be the widths of the hidden layers, .* got \[8, 0\]"),
        ({"hidden": {"image": 8, "text": "a"}}, "hidden must be the widths"),
        ({"hidden": {"image": 8}}, "hidden has no entry for 'text'"),
        ({"reg": {"image": 0.1, "sound": 1}}, "reg has an entry for 'sound', but the views are"),
        ({"reg": {"image": -1, "text": 1}}, "DCCA: reg must be a number of at least 0, or one"),
        ({"cca_reg": {"text": 1.0}}, "cca_reg has no entry for 'image'"),
        ({"activation": "swish"}, "activation"),
        ({"audio_branch": "rnn"}, "audio_branch"),
    ):
        with pytest.raises(ValueError, match=message):
            DCCA(**SMALL | settings).fit(planted[0])


@pytest.mark.parametrize("settings", [{}, {"hidden": {"first": 8, "text": [9]},
                                           "audio_branch": "cnn"}])  # fmt: skip
def test_bundles_and_pickles_answer_as_the_model_does(settings, planted, tmp_path):
    first = np.asarray(planted[0]["image"]).reshape(-1, 4, 6)
    views = Views(first=first, text=planted[0]["text"])
    method = DCCA(**SMALL | {"max_epochs": 2} | settings).fit(views)
    expected = method.similarity(views)
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is DCCA and loaded.get_params() == method.get_params()
    assert loaded.shapes_ == method.shapes_
    for other in (loaded, pickle.loads(pickle.dumps(method))):
        np.testing.assert_array_equal(other.similarity(views), expected)
    np.testing.assert_array_equal(loaded.fit(views).similarity(views), expected)


# ---- real data ---------------------------------------------------------------------------------


def test_on_wikipedia_the_final_cca_makes_the_difference():
    if not os.environ.get("CROSSFIT_DATA"):
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    data = datasets.load("wikipedia")
    method = DCCA(device="cpu", verbose=0, random_state=0).fit(data["train"].views)
    test = data["test"].views
    score = make_retrieval_scorer("map@all", direction="both")
    assert score(method, test, data["test"].y) > 0.225  # .118 at chance
    outputs = test.map(method.project)
    raw = crossfit.evaluate(
        pairwise_similarity(outputs["image"], outputs["text"]),
        np.equal.outer(data["test"].y, data["test"].y), "map@all", ci=None,
    )  # fmt: skip
    assert raw.mean(None, "map@all") < 0.15
