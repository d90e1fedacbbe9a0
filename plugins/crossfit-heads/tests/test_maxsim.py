"""MaxSim: against loops, and on sets of unequal length."""

import subprocess
import sys

import numpy as np
import pytest

import crossfit
from crossfit import Ragged, Views
from crossfit.subspace import CCA
from crossfit_heads.maxsim import MaxSim, largest_sums
from crossfit_heads.testing import make_sets


def _sets(lengths, width=5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return Ragged.from_list([rng.normal(size=(n, width)).astype(dtype) for n in lengths])


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_sums_are_those_of_two_loops():
    regions, words = _sets([3, 1, 0, 6, 2]), _sets([4, 0, 1, 7], seed=1)
    found = largest_sums(regions, words)
    for i, own in enumerate(regions):
        for j, each in enumerate(words):
            expected = (own @ each.T).max(axis=0).sum() if len(own) else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-12)


def test_blocks_do_not_change_the_sums():
    rng = np.random.default_rng(0)
    regions, words = _sets(rng.integers(1, 9, 300), 3), _sets(rng.integers(0, 30, 120), 3, seed=1)
    found = largest_sums(regions, words)
    for i, j in ((0, 0), (299, 119), (127, 60), (128, 61), (200, 3)):
        expected = (regions[i] @ words[j].T).max(axis=0).sum()
        assert found[i, j] == pytest.approx(expected, abs=1e-12)
    whole = np.concatenate([(r @ words.values.T).max(axis=0)[None] for r in regions])
    sums = [whole[:, a:b].sum(axis=1) for a, b in zip(words.offsets, words.offsets[1:])]
    np.testing.assert_allclose(found, np.stack(sums, axis=1), atol=1e-12)
    # Texts that are longer than a block.
    long = _sets([700, 3, 1300, 1], 3, seed=2)
    expected = [[(r @ w.T).max(axis=0).sum() for w in long] for r in regions[:5]]
    np.testing.assert_allclose(largest_sums(regions[:5], long), expected, rtol=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
def test_scores_in_one_space_are_means_or_sums_of_cosines(normalize):
    views = Views(image=_sets([3, 1, 2]), text=_sets([2, 4, 1], seed=1))
    maxsim = MaxSim(align=None, normalize=normalize).fit(views)
    found = maxsim.similarity(views)
    for i, own in enumerate(views["image"]):
        for j, each in enumerate(views["text"]):
            cosines = (_unit(own) @ _unit(each).T).max(axis=0)
            expected = cosines.mean() if normalize else cosines.sum()
            assert found[i, j] == pytest.approx(expected, rel=1e-5)
    assert maxsim.cca_ is None
    np.testing.assert_allclose(maxsim.similarity(views, query="text", gallery="image"), found.T)


def test_scores_in_the_space_of_a_cca_of_means():
    views, _ = make_sets(np.random.default_rng(0), 60)
    maxsim = MaxSim(n_components=5, reg=0.5, power=2.0).fit(views)
    means = np.stack([row.mean(axis=0) for row in views["text"]])
    cca = CCA(5, reg=0.5, power=2.0).fit(views["image"].mean(axis=1), means)
    found = maxsim.similarity(views[:6])
    for i, own in enumerate(views["image"][:6]):
        for j in range(6):
            each = views["text"][j]
            cosines = _unit(cca.encode(own, "image")) @ _unit(cca.encode(each, "text")).T
            assert found[i, j] == pytest.approx(cosines.max(axis=0).mean(), rel=1e-4)


def test_the_order_of_regions_and_words_and_zero_padding_do_not_matter():
    views, _ = make_sets(np.random.default_rng(0), 30)
    maxsim = MaxSim().fit(views)
    found = maxsim.similarity(views)
    turned = Ragged.from_list([row[::-1] for row in views["text"]])
    other = views.replace(image=np.asarray(views["image"])[:, ::-1], text=turned)
    np.testing.assert_allclose(maxsim.similarity(other), found, rtol=1e-4, atol=1e-5)
    padded = views.replace(text=views["text"].padded()[0])
    np.testing.assert_allclose(maxsim.similarity(padded), found, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(MaxSim().fit(padded).similarity(padded), found, rtol=1e-5, atol=1e-6)


def test_empty_sets_score_0_and_zero_vectors_have_no_direction():
    images = Ragged.from_list([np.eye(3)[:2], np.zeros((0, 3)), np.zeros((1, 3))])
    texts = Ragged.from_list([np.eye(3)[[0, 2]], np.zeros((0, 3)), np.eye(3)[:1]])
    maxsim = MaxSim(align=None).fit(images, texts)
    assert maxsim.similarity(images, texts).tolist() == [[0.5, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_the_explanation_marks_the_region_of_each_word():
    images = Ragged.from_list([np.eye(3), np.eye(3)[[2]]])
    words = np.array(["cat", "on", "mat"], dtype=object)
    texts = Ragged(np.eye(3)[[2, 0, 1]] + 0.1, [0, 2, 3], {"words": words})
    maxsim = MaxSim(align=None).fit(images, texts)
    found = maxsim.explain(images, texts)["words"]
    assert found[0].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert found[1].tolist() == [[1, 0, 0]]
    assert found.info["words"].tolist() == ["cat", "on", "mat"]
    with pytest.raises(ValueError, match=r"MaxSim\.explain needs pairs of both views, got only"):
        maxsim.explain(Views(image=images))


def test_widths_must_agree_without_a_map():
    views, _ = make_sets(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="same number of features, got 'image': 10, 'text': 9; se"):
        MaxSim(align=None).fit(views)


@pytest.mark.parametrize("align", ["cca", None])
def test_a_bundle_has_the_same_scores(align, tmp_path):
    views, _ = make_sets(np.random.default_rng(0), 30)
    if align is None:
        views = views.replace(image=np.asarray(views["image"])[..., :9])
    maxsim = MaxSim(align=align).fit(views)
    crossfit.save(maxsim, tmp_path / "bundle")
    read = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(read.similarity(views), maxsim.similarity(views))


def test_torch_is_not_imported():
    code = (
        "import sys, numpy as np; from crossfit_heads.maxsim import MaxSim; "
        "from crossfit_heads.testing import make_sets; "
        "v, _ = make_sets(np.random.default_rng(0), 9); MaxSim().fit(v).similarity(v); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
