"""CCL against its losses, its levels and its stages."""

import warnings

import numpy as np
import pytest
import torch

import crossfit
from crossfit import Ragged, Views, evaluate
from crossfit.neural import Batch
from crossfit_correlation.ccl import CCL
from crossfit_correlation.testing import make_patches

SMALL = {**CCL.card.test_params, "random_state": 0, "max_epochs": 3}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_patches(np.random.default_rng(0), 60)


@pytest.fixture(scope="module")
def fitted(pairs):
    return CCL(**SMALL).fit(*pairs)


def _batch(y, groups=None):
    rows = torch.arange(len(groups if y is None else y))
    groups = rows if groups is None else torch.tensor(groups)
    y = None if y is None else torch.tensor(y)
    return Batch({}, {"image": rows, "text": rows}, groups, y)


# ---- the contrastive loss ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "groups"),
    [([0, 1, 0, -1, 2, -1], [0, 1, 2, 3, 4, 4]), (None, [0, 0, 1, 2, 2, 2])],
)
def test_the_contrast_is_the_loop_over_all_images_and_texts(y, groups):
    generator = torch.Generator().manual_seed(0)
    v, t = torch.rand(2, 6, 3, generator=generator, dtype=torch.float64)
    found = CCL(margin=0.9)._contrast(v, t, _batch(y, groups))
    total = 0.0
    for i in range(6):
        for j in range(6):
            d = np.linalg.norm(v[i] - t[j])
            same = groups[i] == groups[j] or (y is not None and y[i] == y[j] and y[i] >= 0)
            known = y is None or min(y[i], y[j]) >= 0
            if same:
                total += d**2
            elif known:
                total += max(0.0, 0.9 - d) ** 2
    assert found.item() == pytest.approx(total / 6, rel=1e-6)


def test_the_contrast_has_finite_gradients_at_distance_zero():
    v = torch.full((4, 3), 0.5, requires_grad=True)
    loss = CCL()._contrast(v, v.clone(), _batch([0, 1, 2, 3]))
    (gradient,) = torch.autograd.grad(loss, v)
    assert torch.isfinite(gradient).all()
    w, u = torch.rand(2, 4, 3, dtype=torch.float64).requires_grad_().unbind()
    assert torch.autograd.gradcheck(lambda a, b: CCL()._contrast(a, b, _batch([0, 1, 0, 2])), (
        w.detach().requires_grad_(), u.detach().requires_grad_()))  # fmt: skip


# ---- labels and identities -----------------------------------------------------------------------


def test_without_labels_the_class_is_the_image(pairs):
    views, _ = pairs
    index = np.arange(60) // 3
    image = {"whole": views["image"]["whole"][:20], "patches": views["image"]["patches"][:20]}
    grouped = Views.from_captions(Views(image=image)["image"], views["text"], index)
    method = CCL(**SMALL).fit(grouped)
    assert method.n_labels_ == 20
    assert method.net_.module_.heads["text"].out_features == 20
    assert not hasattr(method, "classes_")
    batch = _batch(None, index)
    np.testing.assert_array_equal(method._labels(batch), index)
    beyond = _batch(None, [0, 19, 99])
    np.testing.assert_array_equal(method._labels(beyond), [0, 19, -1])


def test_rows_without_label_are_left_out_of_the_classes(pairs):
    views, y = pairs
    hidden = np.where(np.arange(60) < 20, -1, y)
    method = CCL(**SMALL).fit(views, hidden)
    assert method.n_labels_ == 5
    with pytest.raises(ValueError, match="CCL needs labels of at least two classes, got 1"):
        CCL(**SMALL).fit(views, np.zeros(60, int))


def test_held_out_pairs_are_not_in_the_stages(pairs):
    views, y = pairs
    method = CCL(**SMALL, validation_fraction=0.25).fit(views, y)
    _, held = method._split(views, method._seed())
    other = {
        "whole": views["image"]["whole"].copy(),
        "patches": views["image"]["patches"],
    }
    other["whole"][held] += 100.0
    changed = CCL(**SMALL, validation_fraction=0.25).fit(views.replace(image=other), y)
    for name, weight in method.trunk_.state_dict().items():
        assert torch.equal(weight, changed.trunk_.state_dict()[name]), name
    np.testing.assert_array_equal(method.code_scaling_, changed.code_scaling_)


# ---- levels --------------------------------------------------------------------------------------


def test_the_fine_level_is_the_mean_over_patches(fitted, pairs):
    trunk, patches = fitted.trunk_, pairs[0]["image"]["patches"]
    levels = fitted._stage_values(pairs[0]["image"], "image")
    found = fitted._run(
        lambda items: trunk.belief(items, "image", "patches"), trunk, levels["patches"]
    )
    belief = trunk.beliefs["patches"]["image"]
    for i in range(5):
        rows = torch.tensor(patches.values[patches.offsets[i] : patches.offsets[i + 1]])
        np.testing.assert_allclose(found[i], belief(rows.float()).mean(dim=0), atol=1e-5)


def test_views_without_patches_and_items_without_any(pairs):
    views, y = pairs
    plain = views.replace(image=views["image"]["whole"])
    method = CCL(**SMALL).fit(plain, y)
    assert method.trunk_.levels == ["whole"]
    none = Ragged(np.zeros((0, 24)), np.zeros(3, int))
    fitted = CCL(**SMALL).fit(views, y)
    image = {"whole": views["image"]["whole"][:2], "patches": none}
    assert np.isfinite(fitted.encode(image, "image")).all()


def test_bad_input_is_rejected_in_one_sentence(fitted, pairs):
    views, y = pairs
    whole, patches = (views["image"][name] for name in ("whole", "patches"))
    with pytest.raises(ValueError, match=r"view 'image' must have the channel 'whole', got parts"):
        fitted.encode({"parts": whole}, "image")
    with pytest.raises(ValueError, match=r"'whole' must be of shape \(n, d\), got \(60, 24, 1\)"):
        CCL(**SMALL).fit(views.replace(image={"whole": whole[..., None]}), y)
    with pytest.raises(ValueError, match="'whole' has 23 features, but CCL is expecting 24"):
        fitted.encode({"whole": whole[:, 1:], "patches": patches}, "image")
    with pytest.raises(ValueError, match="'patches' must be vectors of patches"):
        fitted.encode({"whole": whole, "patches": whole}, "image")
    with pytest.raises(ValueError, match="CCL: stages may have dbn, corr, fusion, classifier"):
        CCL(stages={"sae": {}}).fit(views, y)
    with pytest.raises(ValueError, match="the settings of stage 'dbn' may be max_epochs, lr"):
        CCL(stages={"dbn": {"max_epochs": 0}}).fit(views, y)
    with pytest.raises(ValueError, match="CCL: dbn must have at least one layer for each view"):
        CCL(dbn=()).fit(views, y)
    with pytest.raises(
        ValueError, match="dbn must be integers of at least 1, one per layer, or such"
    ):
        CCL(dbn={"image": (4,)}).fit(views, y)
    with pytest.raises(ValueError, match="visible must be one of gaussian, bernoulli, replicated"):
        CCL(visible="poisson").fit(views, y)


# ---- codes ---------------------------------------------------------------------------------------


def test_codes_are_standardised_by_the_training_items(fitted, pairs):
    views, _ = pairs
    for role in ("image", "text"):
        codes = fitted.encode(views.distinct(role)[0], role)
        np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(codes.std(axis=0), 1, atol=1e-4)
    some = fitted.encode(views[:3]["text"], "text")
    np.testing.assert_allclose(some, fitted.encode(views["text"], "text")[:3], atol=1e-6)


def test_the_settings_of_the_paper_have_its_units(pairs):
    method = CCL(**SMALL, rescale=False).fit(*pairs)
    trunk = method.trunk_
    assert {rbm.kind for rbm in trunk.fusions.values()} == {"bernoulli"}
    network = trunk.correspondences["whole"]
    last = network.decoders["image"]["image"].layers[-1]
    assert isinstance(last, torch.nn.Sigmoid)
    assert not list(network.scaling.buffers())


def test_bundles_keep_all_stages(fitted, pairs, tmp_path):
    crossfit.save(fitted, tmp_path / "ccl")
    again = crossfit.load(tmp_path / "ccl")
    np.testing.assert_allclose(
        again.similarity(pairs[0]), fitted.similarity(pairs[0]), rtol=1e-5, atol=1e-6
    )


# ---- real pairs ----------------------------------------------------------------------------------


def test_the_defaults_find_emoji_of_the_same_group(emoji):
    (train, y), (test, y_test) = emoji
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = CCL(random_state=0, verbose=0).fit(train, y)
    scores = method.similarity(test)
    found = evaluate(scores, test.relevance("image", "text", y_test), ("map@all",), ci=None)
    for direction in found.directions:
        assert found.mean(direction, "map@all") > 0.22  # the share of the groups is .16
