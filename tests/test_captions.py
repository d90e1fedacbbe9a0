"""Several captions per image: items are encoded, scored and ranked once, not once per row."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer
from crossfit.metrics import evaluate
from crossfit.subspace import CCA

PER_IMAGE = 5


def captioned(n_images, seed=0, d=12, noise=0.35):
    """Return data of a good model: each caption is close to the meaning of its image."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(99)
    A, B = world.normal(size=(d, 20)), world.normal(size=(d, 16))
    meaning = rng.normal(size=(n_images, d))
    index = rng.permutation(np.repeat(np.arange(n_images), PER_IMAGE))
    said = meaning[index] + noise * rng.normal(size=(len(index), d))
    images = (meaning + 0.1 * rng.normal(size=meaning.shape)) @ A
    return Views.from_captions(images, said @ B, index), index


def naive(views):
    """Return the scores of the wrong protocol, in which every row is an item."""
    return Views({name: views[name] for name in views.names})


def r_at_1(model, views):
    return [make_retrieval_scorer("r@1", side)(model, views) for side in ("i2t", "t2i")]


def r_at_1_by_loop(S, index_of_image, index_of_caption):
    """Return the hits: an image if any of its captions is first, a caption if its image is."""
    i2t = [index_of_caption[np.argmax(row)] == i for i, row in zip(index_of_image, S)]
    t2i = [index_of_image[np.argmax(column)] == i for i, column in zip(index_of_caption, S.T)]
    return [np.mean(i2t), np.mean(t2i)]


@pytest.fixture(scope="module")
def world():
    train, _ = captioned(300)
    test, index = captioned(120, seed=1)
    return CCA(12, reg=1e-3, power=0).fit(train), train, test, index


def test_figures_by_item_and_what_the_naive_reading_would_make_of_them(world):
    cca, _, test, index = world
    S = cca.similarity(test)
    assert S.shape == (120, 600)
    order = list(dict.fromkeys(index.tolist()))
    right = r_at_1(cca, test)
    np.testing.assert_allclose(right, r_at_1_by_loop(S, order, index))
    wrong = r_at_1(cca, naive(test))
    print(f"R@1 i2t {right[0]:.3f} t2i {right[1]:.3f}; rows as items {wrong[0]:.3f} {wrong[1]:.3f}")
    assert right[1] > 0.9
    assert wrong[1] < 1.05 * right[1] / PER_IMAGE  # five equal images share the first rank
    assert wrong[0] < 0.5 * right[0]  # four of five right captions are taken as wrong
    # The scores of a method and of a pipeline follow the right protocol too.
    assert cca.score(test) > 0.9 > 0.6 > cca.score(naive(test))


def test_transform_and_encode_run_on_distinct_items(world):
    cca, _, test, index = world
    Z = cca.transform(test)
    images, row_to_item = Z.distinct("image")
    assert images.shape == (120, 12) and Z["image"].shape == (600, 12)
    assert np.array_equal(row_to_item, test.distinct("image")[1])
    assert np.array_equal(Z.groups, index)
    np.testing.assert_array_equal(images, cca.encode(test.distinct("image")[0], "image"))
    np.testing.assert_allclose(Z["image"], cca.encode(test["image"], "image"), atol=1e-12)


class Counts(TransformerMixin, BaseEstimator):
    rows = 0

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        type(self).rows += len(X)
        return X


def test_a_pipeline_extracts_each_image_once(world):
    _, train, test, _ = world
    pipe = make_pipeline(
        ViewTransformer([("image", Counts()), ("text", StandardScaler())]),
        CCA(12, reg=1e-3, power=0),
        RetrievalScorer(metric="r@1"),
    )
    Counts.rows = 0
    pipe.fit(train)
    assert Counts.rows == 300
    Counts.rows = 0
    assert pipe.score(test) == pytest.approx(np.mean(r_at_1(pipe, test)))
    assert crossfit.similarity(pipe, test).shape == (120, 600)
    assert Counts.rows == 120 * 4  # score, two directions and the similarity: once each


def test_a_fit_weighs_an_image_by_its_captions(world):
    _, train, _, _ = world
    by_row = CCA(12, reg=1e-3, power=0).fit(train["image"], train["text"])
    cca = CCA(12, reg=1e-3, power=0).fit(train)
    np.testing.assert_allclose(cca.weights_["image"], by_row.weights_["image"], atol=1e-10)


def test_scores_of_rows_in_any_order(world):
    cca, _, test, _ = world
    shuffled = test[np.random.default_rng(0).permutation(len(test))]
    for metric in ("r@1", "r@5", "mrr", "map@all", "ndcg@10"):
        score = make_retrieval_scorer(metric)
        assert score(cca, shuffled) == pytest.approx(score(cca, test))
    S, T = cca.similarity(test), cca.similarity(shuffled)
    assert T.shape == S.shape and np.allclose(np.sort(T.ravel()), np.sort(S.ravel()))


def test_a_part_of_the_rows_keeps_the_items_of_those_rows(world):
    cca, _, test, index = world
    part = test[:70]
    S = cca.similarity(part)
    assert S.shape == (len(set(index[:70].tolist())), 70)
    order = list(dict.fromkeys(index[:70].tolist()))
    np.testing.assert_allclose(r_at_1(cca, part), r_at_1_by_loop(S, order, index[:70]))


def test_labels_are_reduced_to_items(world):
    cca, _, test, index = world
    classes = index % 4
    order = np.array(list(dict.fromkeys(index.tolist())))
    S = cca.similarity(test)
    expected = evaluate(S, (order % 4, classes), ["map@all"], ci=None).mean(None, "map@all")
    assert cca.score(test, classes) == expected
    indicator = np.eye(4)[classes]
    assert cca.score(test, indicator) == pytest.approx(expected)
    with pytest.raises(ValueError, match="view 'image' has conflicting labels"):
        cca.score(test, np.arange(600))


def test_cross_validation_with_groups_and_the_leak_without(world):
    _, train, _, _ = world
    folds = GroupKFold(3)
    score = make_retrieval_scorer("r@1", "t2i")
    for a, b in folds.split(train, groups=train.groups):
        assert not set(train.groups[a]) & set(train.groups[b])
        assert len(train[b].distinct("image")[0]) == 100
    right = cross_val_score(
        CCA(12, reg=1e-3, power=0), train, groups=train.groups, cv=folds, scoring=score
    )
    wrong = cross_val_score(
        CCA(12, reg=1e-3, power=0), naive(train), groups=train.groups, cv=folds, scoring=score
    )
    assert right.min() > 0.85 and wrong.max() < 0.25
    by_hand = [
        score(CCA(12, reg=1e-3, power=0).fit(train[a]), train[b])
        for a, b in folds.split(np.zeros(1500), groups=train.groups)
    ]
    np.testing.assert_allclose(right, by_hand)


def test_search_counts_items_not_rows(world):
    cca, _, test, index = world
    images, _ = test.distinct("image")
    order = np.array(list(dict.fromkeys(index.tolist())))
    found = crossfit.search(cca, test["text"], view="text", gallery=images, k=1)
    assert np.mean(order[found.indices[:, 0]] == index) == pytest.approx(r_at_1(cca, test)[1])


def test_relevance_between_items(world):
    _, _, test, index = world
    assert test.relevance("image", "text").sum(axis=1).tolist() == [PER_IMAGE] * 120
    assert test.relevance("text", "image").sum(axis=1).tolist() == [1] * 600
    assert test.relevance("image", "image").nnz == 120
    assert test.relevance("text", "text").nnz == 600  # only its own caption is right for a caption
    assert test.relevance("text", "text", index).nnz == 120 * PER_IMAGE**2


def test_flickr8k(data_root):
    path = data_root / "flickr8k" / "features_train_dev.npz"
    if not path.exists():
        pytest.skip(f"no flickr8k/features_train_dev.npz in {data_root}")
    with np.load(path) as stored:
        images = stored["image_efficientnet_lite0"].astype(np.float32)
        texts = stored["caption_minilm_l6"].astype(np.float32)
        index = stored["caption_image_index"]

    def part(chosen):
        first = index[chosen].min()
        return Views.from_captions(
            images[first : index[chosen].max() + 1], texts[chosen], index[chosen] - first
        )

    train, dev = part(index < 6000), part(index >= 6000)
    assert len(dev) == 5000 and len(dev.distinct("image")[0]) == 1000
    cca = CCA(128, reg=0.1, power=1.0).fit(train)
    right, wrong = r_at_1(cca, dev), r_at_1(cca, naive(dev))
    print(f"R@1 i2t {right[0]:.3f} t2i {right[1]:.3f}; rows as items {wrong[0]:.3f} {wrong[1]:.3f}")
    np.testing.assert_allclose(
        right,
        r_at_1_by_loop(cca.similarity(dev), np.arange(1000), dev.groups),
        atol=0.003,  # the loop uses the first of equal scores
    )
    assert min(right) > 0.15
    assert wrong[1] == pytest.approx(right[1] / PER_IMAGE, rel=0.05)
    assert wrong[0] < 0.5 * right[0]
