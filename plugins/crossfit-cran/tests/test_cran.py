"""CRAN: sizes, limits, invariances, losses, raw characters, attention, and learning."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views, datasets, evaluate, registry
from crossfit.experiment import Experiment
from crossfit.extraction import Characters, GridFeatures
from crossfit.neural import Batch, Checkpoint, Items
from crossfit.testing import PeakBytes, parametrize_with_checks
from crossfit_cran.cards import COCO, FLICKR8K, FLICKR8K_CHOICE, FLICKR30K
from crossfit_cran.estimator import CRAN
from crossfit_cran.network import CRANNetwork, fragments, nearest_mean, relations
from crossfit_cran.testing import make_inputs

SMALL = {**CRAN.card.test_params, "length": 51, "lr": 1e-2, "random_state": 0, "verbose": 0}
QUICK = {**SMALL, "max_epochs": 2}


@pytest.fixture(scope="module")
def views():
    return make_inputs(np.random.default_rng(0), 60)[0]


@pytest.fixture(scope="module")
def fitted(views):
    return CRAN(**SMALL).fit(views)


@parametrize_with_checks([CRAN])
def test_conforms(check):
    check()


# ---- sizes -------------------------------------------------------------------------------------


def published(**changes):
    """Return the network of the published size, without the memory it takes."""
    settings = {
        "levels": ("global", "local", "relation"), "k": 3, "n_regions": 5,
        "channels": (384, 512, 2048), "lstm_width": 2048, "lstm_layers": 1,
        "attention_width": 2048, "width": 1024, "dropout": 0.0, "normalize": True,
        "attn_mean": False, "mask_padding": False,
    }  # fmt: skip
    n_inputs = {"image": {"global": 4096, "regions": 4096}, "text": 201}
    with torch.device("meta"):
        return CRANNetwork(n_inputs, **{**settings, **changes})


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_weights_of_the_published_size():
    network = published()
    for stack in network.stacks.values():
        weights = [p.numel() for name, p in stack.cnn.named_parameters() if "weight" in name]
        biases = [p.numel() for name, p in stack.cnn.named_parameters() if "bias" in name]
        # 5,091,200 includes the biases of the convolutions.
        assert sum(weights) + sum(biases) == 5_091_200
        assert count(stack.lstm) == 33_570_816
    assert count(network.stacks) == 3 * (5_091_200 + 33_570_816)
    assert count(network.attention["local"]) == 2048 * 2048 + 2048
    sizes = {level: tuple(layer.weight.shape) for level, layer in network.image.items()}
    assert sizes == {"global": (1024, 4096), "local": (1024, 4096), "relation": (1024, 8192)}
    assert {tuple(layer.weight.shape) for layer in network.text.values()} == {(1024, 2048)}


def test_stages_of_the_published_size():
    network = published()
    shapes = []
    for layer in network.stacks["global"].cnn.convolutions:
        layer.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape[1:])))
    states = network.stacks["global"](torch.empty(1, 201, 70, device="meta"))
    assert shapes == [(384, 198), (512, 63), (2048, 18)]
    assert states.shape == (1, 18, 2048)


@pytest.mark.parametrize(("length", "layers"), [(201, 3), (84, 3), (51, 2), (48, 3), (9, 1)])
def test_fragments_are_what_the_network_sees(length, layers):
    spans = fragments(length, layers)
    torch.manual_seed(0)
    cnn = CRANNetwork(
        {"image": {"global": 2}, "text": length}, levels=("global",), k=1, n_regions=1,
        channels=(3,) * layers, lstm_width=2, lstm_layers=1, attention_width=2, width=2,
        dropout=0.0, normalize=True, attn_mean=False, mask_padding=False,
    ).stacks["global"].cnn.double()  # fmt: skip
    x = torch.rand(1, length, 70, dtype=torch.float64)
    before = cnn(x)
    assert before.shape[1] == len(spans)
    for place in range(0, length, 5):
        changed = x.clone()
        changed[0, place] += torch.rand(70) * 10
        moved = (cnn(changed) != before).any(dim=2)[0]
        for step, (start, stop) in enumerate(spans):
            assert not moved[step] or start <= place < stop
    assert fragments(47, 3) == [] and fragments(48, 3) == [(0, 48)]


def test_five_regions_have_twenty_relations():
    j, k = relations(5)
    assert sorted(zip(j.tolist(), k.tolist())) == [
        (a, b) for a in range(5) for b in range(5) if a != b
    ]
    assert len(relations(1)[0]) == 0


# ---- the parts against their plain forms -------------------------------------------------------


def network_of(fitted):
    return fitted.net_.module_


def image_items(views, rows=slice(None)):
    parts = views["image"]
    return {
        n: Items(torch.tensor(np.asarray(parts[n][rows]), dtype=torch.float32)) for n in parts.names
    }


def test_relations_are_concatenations(fitted, views):
    network = network_of(fitted)
    items = image_items(views)
    found = network.images(items)["relation"]
    regions = network.standard["regions"](items["regions"].values[:, :3])
    layer = network.image["relation"]
    expected = [
        F.normalize(layer(torch.cat([regions[:, j], regions[:, k]], dim=1)), dim=1)
        for j in range(3) for k in range(3) if j != k
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
def test_nearest_mean_is_topk(k, masked):
    generator = torch.Generator().manual_seed(k)
    dots = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(4, 5, dtype=torch.bool)
    if masked:
        mask[0, 1:] = mask[1, :2] = mask[2] = False
    found = nearest_mean(dots, k, mask if masked else None)
    for i in range(4):
        for j in range(6):
            real = dots[i, mask[i], j]
            best = real.sort(descending=True).values[:k]
            expected = best.mean().item() if len(best) else 0.0
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda d: nearest_mean(d, k, mask if masked else None), dots)


def test_scores_equal_the_loop_over_pairs(fitted, views):
    """Compute equation 11, one pair and one part at a time."""
    network = network_of(fitted)
    scores = fitted.similarity(views[:7])
    ids = torch.from_numpy(Characters(51).transform(views["text"]))
    for i in range(7):
        image = network.images(image_items(views, slice(i, i + 1)))
        for t in range(7):
            text = network.texts(ids[t : t + 1])
            expected = (image["global"][0] @ text["global"][0]).item()
            for level in ("local", "relation"):
                dots = sorted(
                    (float(part @ text[level][0]) for part in image[level][0]), reverse=True
                )
                expected += sum(dots[:2]) / 2
            assert scores[i, t] == pytest.approx(expected, abs=1e-5)


def test_with_k_of_all_local_is_the_mean_region(views):
    cran = CRAN(**{**QUICK, "levels": ("local",), "k": 3}).fit(views)
    P, Q = cran._prepare(views["image"], "image"), cran._prepare(views["text"], "text")
    expected = P.parts["local"].mean(dim=1) @ Q.parts["local"].T
    np.testing.assert_allclose(cran.similarity(views), expected.numpy(), atol=1e-6)
    more = CRAN(**{**QUICK, "levels": ("local",), "k": 99}).fit(views)
    np.testing.assert_array_equal(more.similarity(views), cran.similarity(views))


def test_without_the_other_levels_only_the_global_cosine_is_left(fitted, views):
    cran = copy.deepcopy(fitted)
    network = network_of(cran)
    with torch.no_grad():
        for level in ("local", "relation"):
            for p in (*network.text[level].parameters(), *network.image[level].parameters()):
                p.zero_()
    P, Q = cran._prepare(views["image"], "image"), cran._prepare(views["text"], "text")
    expected = F.cosine_similarity(P.parts["global"][:, None], Q.parts["global"][None], dim=2)
    np.testing.assert_allclose(cran.similarity(views), expected.numpy(), atol=1e-6)


def test_levels_do_not_touch_each_other(views):
    """The loss of one level has no gradient in another's weights."""
    cran = CRAN(**QUICK).fit(views)
    network = network_of(cran).train()
    ids = torch.from_numpy(Characters(51).transform(views["text"]))
    scores = network.scores(network.images(image_items(views)), network.texts(ids))
    for level, found in scores.items():
        network.zero_grad()
        found.sum().backward(retain_graph=True)
        touched = {name.split(".")[1] for name, p in network.named_parameters()
                   if p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
        assert touched == {level}


def test_variants_have_only_their_levels(views):
    for levels in (("global",), ("global", "local"), ("relation", "global")):
        cran = CRAN(**{**QUICK, "levels": levels}).fit(views)
        assert set(network_of(cran).text) == set(levels)
        terms = {name for name in cran.net_.history[-1] if name in
                 ("train_global", "train_local", "train_relation")}  # fmt: skip
        assert terms == {f"train_{level}" for level in levels}
    only = Views(image={"global": views["image"]["global"]}, text=views["text"])
    assert CRAN(**{**QUICK, "levels": ("global",)}).fit(only).similarity(only).shape == (60, 60)
    with pytest.raises(ValueError, match="'image' needs the channel 'regions'"):
        CRAN(**QUICK).fit(only)


# ---- losses ------------------------------------------------------------------------------------


def pairs(groups, **scores):
    """Return a batch's scores and a batch of rows of which each has its own items."""
    at = torch.arange(len(groups))
    return scores, Batch({}, {"image": at, "text": at}, torch.tensor(groups), None)


def test_losses_are_the_equations():
    generator = torch.Generator().manual_seed(0)
    S = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    scores, batch = pairs([0, 1, 2, 3], **{"global": S, "local": S})

    def hinges(S):
        return sum(max(0.0, 0.7 - float(S[n, n]) + float(S[n, m]))
                   for n in range(4) for m in range(4) if m != n) / 4  # fmt: skip

    for mining, factor in (("sum", 1), ("all", 1 / 3)):
        cran = CRAN(mining=mining, margin=0.7, bidirectional_local=False)
        found = cran._loss(scores, batch)
        # Rows are images: for a text the wrong images are its column.
        assert float(found["local"]) == pytest.approx(factor * hinges(S.T))
        assert float(found["global"]) == pytest.approx(factor * (hinges(S) + hinges(S.T)))
        both = cran.set_params(bidirectional_local=True)._loss(scores, batch)
        assert float(both["local"]) == pytest.approx(float(both["global"]))


def test_the_most_similar_wrong_items_are_counted():
    generator = torch.Generator().manual_seed(0)
    S = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    scores, batch = pairs([0, 1, 2, 3], local=S)
    cran = CRAN(mining="top-k", k_negatives=2, margin=0.7, bidirectional_local=False)
    expected = 0.0
    for text in range(4):
        wrong = sorted((float(S[image, text]) for image in range(4) if image != text), reverse=True)
        expected += sum(max(0.0, 0.7 - float(S[text, text]) + score) for score in wrong[:2]) / 8
    assert float(cran._loss(scores, batch)["local"]) == pytest.approx(expected)


def test_a_caption_of_the_same_image_is_no_mismatch():
    S = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
    scores, batch = pairs([5, 5], **{"global": S, "local": S, "relation": S})
    for mining in ("random", "sum", "all", "hardest", "top-k"):
        assert all(float(v) == 0 for v in CRAN(mining=mining)._loss(scores, batch).values())


@pytest.mark.parametrize("mask_padding", [False, True])
def test_gradients_by_finite_differences(mask_padding):
    """Gradients of the whole loss, through characters, attention, relations and nearest parts."""
    torch.manual_seed(0)
    network = CRANNetwork(
        {"image": {"global": 3, "regions": 3}, "text": 12},
        levels=("global", "local", "relation"), k=2, n_regions=3, channels=(3,), lstm_width=3,
        lstm_layers=1, attention_width=2, width=3, dropout=0.0, normalize=True, attn_mean=False,
        mask_padding=mask_padding,
    ).double()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 71, (4, 12), generator=generator)
    ids[1, 5:] = 0
    images = {
        "global": Items(torch.randn(4, 3, generator=generator, dtype=torch.float64)),
        "regions": Items(
            torch.randn(4, 3, 3, generator=generator, dtype=torch.float64),
            torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool(),
        ),
    }
    # scores() answers in float32, too coarse for differences.
    names, weights = zip(*network.named_parameters())
    cran = CRAN(mining="sum", margin=1.0)
    _, batch = pairs([0, 1, 2, 2])

    def loss(*weights):
        P = torch.func.functional_call(network, dict(zip(names, weights)), (images, ids))
        terms = cran._loss(P, batch)
        return sum(terms.values())

    def forward(images, ids):
        P, Q = network.images(images), network.texts(ids)
        found = {"global": P["global"] @ Q["global"].T}
        for level in ("local", "relation"):
            dots = torch.einsum("nrd,md->nrm", P[level], Q[level])
            found[level] = nearest_mean(dots, 2, P[f"{level}_mask"])
        return found

    network.forward = forward
    assert torch.autograd.gradcheck(loss, weights, atol=1e-6, rtol=1e-4, fast_mode=True)


# ---- first weights and inputs ------------------------------------------------------------------


def cosines(vectors):
    """Return the mean cosine of different rows."""
    vectors = F.normalize(vectors, dim=1)
    n = len(vectors)
    return float((vectors @ vectors.T).sum() - n) / (n * (n - 1))


def test_texts_differ_before_training(views):
    """With torch's first weights all texts have one vector, which training cannot pull apart."""
    ids = torch.from_numpy(Characters(84).transform(views["text"]))
    n_inputs = {"image": {"global": 12, "regions": 12}, "text": 84}
    found = {}
    for init in ("torch", "scaled"):
        torch.manual_seed(0)
        network = CRAN(init=init)._build_module(n_inputs, None).eval()
        with torch.no_grad():
            found[init] = {u: cosines(vector) for u, vector in network.texts(ids).items()}
    assert min(found["torch"].values()) > 0.995
    assert max(found["scaled"].values()) < 0.95


def test_standardized_images_have_no_scale(views):
    """Another unit or origin of every feature changes nothing."""
    image = views["image"]
    scale, shift = 1 + np.arange(12), np.linspace(-50, 50, 12)
    moved = views.replace(image={name: image[name] * scale + shift for name in image.names})
    settings = {**QUICK, "standardize": True}
    scores = CRAN(**settings).fit(views).similarity(views)
    np.testing.assert_allclose(CRAN(**settings).fit(moved).similarity(moved), scores, atol=1e-3)
    plain = {**QUICK, "standardize": False}
    assert np.abs(CRAN(**plain).fit(moved).similarity(moved) - scores).max() > 0.05


def test_regions_of_an_image_lose_the_same_features():
    network = CRAN(dropout=0.5, standardize=False)._build_module(
        {"image": {"global": 6, "regions": 6}, "text": 84}, None
    )
    items = {"global": Items(torch.ones(50, 6)), "regions": Items(torch.ones(50, 5, 6))}
    local = network.train().images(items)["local"]
    assert (local == local[:, :1]).all() and (local != local[:1]).any()


# ---- word vectors in place of characters --------------------------------------------------------


def as_words(views):
    """Return the views with a vector for every word of a text, ragged."""
    table = np.random.default_rng(0).normal(size=(26, 9)).astype(np.float32)
    words = [text.split() for text in views["text"]]
    rows = [np.stack([table[ord(word[0]) - 97] for word in row]) for row in words]
    values = Ragged.from_list(rows)
    info = {"words": np.array([word for row in words for word in row], dtype=object)}
    return views.replace(text=Ragged(values.values, values.offsets, info))


@pytest.fixture(scope="module")
def on_words(views):
    return CRAN(**SMALL).fit(as_words(views))


def test_word_vectors_take_the_place_of_characters(on_words, views):
    words = as_words(views)
    scores = on_words.similarity(words)
    found = evaluate(scores, np.eye(60), ("r@5",), ci=None)
    assert found.mean(None, "r@5") > 0.5  # of the training pairs; chance is 0.08
    network = network_of(on_words)
    assert count(network.stacks["global"].cnn) == 0
    assert network.stacks["global"].lstm.input_size == 9


def test_padded_and_ragged_words_are_the_same(on_words, views):
    words = as_words(views)
    padded = words["text"].padded()[0]
    longer = np.concatenate([padded, np.zeros((60, 3, 9), padded.dtype)], axis=1)
    scores = on_words.similarity(words)
    for given in (padded, longer):
        found = on_words.similarity(words["image"], given)
        np.testing.assert_allclose(found, scores, atol=1e-5)
    alone = on_words.similarity(words["image"], words["text"][3:4])
    np.testing.assert_allclose(alone, scores[:, 3:4], atol=1e-5)
    nothing = on_words.similarity(words["image"], np.zeros((1, 4, 9), np.float32))
    assert np.isfinite(nothing).all()


def test_words_after_the_length_are_not_read(views):
    words = as_words(views)
    cran = CRAN(**{**QUICK, "length": 2, "channels": (4,), "max_epochs": 1})
    with pytest.raises(ValueError, match="1 convolutions need at least 4 characters"):
        cran.fit(views)
    cran.fit(words)
    first = Ragged.from_list([row[:2] for row in words["text"]])
    scores = cran.similarity(words)
    np.testing.assert_allclose(cran.similarity(words["image"], first), scores, atol=1e-6)
    weights = cran.explain(words)["text"]
    assert weights.lengths.tolist() == np.minimum(words["text"].lengths, 2).tolist()
    assert weights.info["words"].tolist() == [
        word for text in views["text"] for word in text.split()[:2]
    ]


def test_attention_over_words(on_words, views):
    words = as_words(views)
    for level in ("local", "relation"):
        weights = on_words.explain(words, level=level)["text"]
        assert weights.lengths.tolist() == words["text"].lengths.tolist()
        np.testing.assert_allclose(
            np.add.reduceat(weights.values, weights.offsets[:-1]), 1, atol=1e-5
        )
        assert weights.info["words"].tolist() == words["text"].info["words"].tolist()
        assert weights.info["spans"][0].tolist() == [0, 1]
    padded = words.replace(text=words["text"].padded()[0])
    np.testing.assert_allclose(
        on_words.explain(padded, level="relation")["text"].values, weights.values, atol=1e-5
    )


def test_a_bundle_of_words_answers_alike(on_words, views, tmp_path):
    words = as_words(views)
    crossfit.save(on_words, tmp_path / "cran")
    read = crossfit.load(tmp_path / "cran")
    np.testing.assert_array_equal(read.similarity(words), on_words.similarity(words))


def test_words_and_characters_are_not_mixed(fitted, on_words, views):
    words = as_words(views)
    with pytest.raises(ValueError, match="must be word vectors of width 9, as in fit, got charact"):
        on_words.similarity(views)
    with pytest.raises(ValueError, match="must be strings or character ids, as in fit, got word"):
        fitted.similarity(words)
    narrow = Ragged(words["text"].values[:, :5], words["text"].offsets)
    with pytest.raises(ValueError, match="has 5 features, but CRAN is expecting 9 features"):
        on_words.similarity(words["image"], narrow)


# ---- invariances -------------------------------------------------------------------------------


def test_regions_are_a_set_within_those_that_are_read(fitted, views):
    scores = fitted.similarity(views)
    image = views["image"]
    turned = {"global": image["global"], "regions": image["regions"][:, [2, 0, 1, 3]]}
    np.testing.assert_allclose(fitted.similarity(views.replace(image=turned)), scores, atol=1e-5)
    # With n_regions=3 the fourth region is not used, unless it comes first.
    other = {"global": image["global"], "regions": image["regions"][:, [0, 1, 2, 2]]}
    np.testing.assert_allclose(fitted.similarity(views.replace(image=other)), scores, atol=1e-6)
    first = {"global": image["global"], "regions": image["regions"][:, [3, 1, 2, 0]]}
    assert np.abs(fitted.similarity(views.replace(image=first)) - scores).max() > 1e-3


def test_missing_regions_do_not_count(fitted, views):
    regions = views["image"]["regions"]
    whole = Ragged.from_list(list(regions[:, :3]))
    dense = fitted.similarity(views)
    ragged = views.replace(image={"global": views["image"]["global"], "regions": whole})
    np.testing.assert_allclose(fitted.similarity(ragged), dense, atol=1e-5)
    # One region: K is 1, and there are no relations.
    lengths = [1, 2, 3, 0] * 15
    some = Ragged.from_list([row[:n] for row, n in zip(regions, lengths)])
    part = views.replace(image={"global": views["image"]["global"], "regions": some})
    scores = fitted.similarity(part)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[2::4], dense[2::4], atol=1e-5)
    alone = fitted.similarity(part[[0]])
    np.testing.assert_allclose(alone, scores[:1, :1], atol=1e-5)
    P, Q = (fitted._prepare(part[v], v).parts for v in ("image", "text"))
    one = P["global"][0] @ Q["global"][0] + P["local"][0, 0] @ Q["local"][0]
    assert scores[0, 0] == pytest.approx(float(one), abs=1e-5)
    none = P["global"][3] @ Q["global"][3]
    assert scores[3, 3] == pytest.approx(float(none), abs=1e-5)
    assert CRAN(**QUICK).fit(part).similarity(part).shape == (60, 60)


def test_padding_is_read_unless_it_is_masked(views):
    """With the mask, characters after the last fragment change only its context."""
    settings = {**QUICK, "mask_padding": True}
    cran = CRAN(**settings).fit(views)
    for level, (_, weights) in (
        network_of(cran)
        .pool(torch.from_numpy(Characters(51).transform(["aaaa bb", "x" * 51, ""])))
        .items()
    ):
        written = (weights > 0).sum(dim=1)
        # Fragments begin every third character.
        assert written.tolist() == [3, 13, 1], level
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    plain = CRAN(**{**QUICK, "mask_padding": False}).fit(views)
    _, weights = network_of(plain).pool(torch.from_numpy(Characters(51).transform(["aaaa bb"])))[
        "global"
    ]
    torch.testing.assert_close(weights, torch.full((1, 13), 1 / 13))


def test_unknown_characters_keep_their_place(fitted, views):
    texts = ["ab\u4e2dcd efg", "abcd efg"]
    ids = fitted._characters(np.array(texts, dtype=object))
    assert ids[0, 2] == 0 and ids[0, 3] == 3 and ids.dtype == np.uint8
    scores = fitted.similarity(views["image"], texts)
    assert np.abs(scores[:, 0] - scores[:, 1]).max() > 1e-4


def test_ids_and_strings_are_the_same(fitted, views):
    image, texts = views["image"], views["text"]
    scores = fitted.similarity(image, texts)
    for ids in (
        Characters(51).transform(texts),
        Characters(80).transform(texts),
        Ragged.from_list([row[row != 0] for row in Characters(51).transform(texts)]),
    ):
        np.testing.assert_array_equal(fitted.similarity(image, ids), scores)
    with pytest.raises(
        ValueError, match="'text' must have character ids from 0 to 70, got 0 to 71"
    ):
        fitted.similarity(image, np.array([[71, 0]]))


def test_attn_mean_divides_by_the_fragments(views):
    one, other = (CRAN(**{**QUICK, "attn_mean": flag}).fit(views) for flag in (False, True))
    network_of(other).load_state_dict(network_of(one).state_dict())
    ids = torch.from_numpy(Characters(51).transform(views["text"]))
    a, b = (network_of(cran).pool(ids) for cran in (one, other))
    torch.testing.assert_close(a["global"][0], b["global"][0])
    torch.testing.assert_close(a["local"][0] / 13, b["local"][0])


def test_normalize_bounds_the_scores(views):
    assert np.abs(CRAN(**QUICK).fit(views).similarity(views)).max() <= 3 + 1e-5
    loose = CRAN(**{**QUICK, "normalize": False}).fit(views)
    lengths = loose._prepare(views["text"], "text").parts["global"].norm(dim=1)
    assert lengths.std() > 1e-3


def test_dropout_is_for_training_only(views):
    a, b = (CRAN(**{**QUICK, "dropout": rate}).fit(views) for rate in (0.0, 0.5))
    assert np.abs(a.similarity(views) - b.similarity(views)).max() > 1e-3
    np.testing.assert_array_equal(b.similarity(views), b.similarity(views))


def test_the_partner_is_not_known(fitted, views):
    """Permuting the texts permutes the scores: nothing reads which rows are pairs."""
    order = np.random.default_rng(1).permutation(60)
    scores = fitted.similarity(views)
    found = fitted.similarity(views["image"], views["text"][order])
    np.testing.assert_allclose(found, scores[:, order], atol=1e-5)


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("levels", [("global",), ("global", "local", "relation")])
@pytest.mark.parametrize("memory", [2**16, 2**20])
def test_memory_keeps_to_the_bound(levels, ragged, memory):
    views = make_inputs(np.random.default_rng(3), 150)[0]
    if ragged:
        some = [row[: 1 + i % 4] for i, row in enumerate(views["image"]["regions"])]
        image = {"global": views["image"]["global"], "regions": Ragged.from_list(some)}
        views = views.replace(image=image)
    cran = CRAN(**{**QUICK, "levels": levels, "n_regions": 4, "max_epochs": 1, "k": 3})
    cran.set_params(score_memory=memory).fit(views)
    P, Q = cran._prepare(views["image"], "image"), cran._prepare(views["text"], "text")
    scores = np.empty((150, 150), np.float32)
    counter = PeakBytes(P.parts, Q.parts)
    with counter:
        cran._fill(P, Q, scores, None)
    assert 0 < counter.peak <= memory
    rows, columns = cran._block(P, Q, None, torch.device("cpu"))
    assert rows * columns == scores.size or counter.peak > memory / 16


# ---- explain -----------------------------------------------------------------------------------


def test_attention_over_fragments(fitted, views):
    for level in ("local", "relation"):
        weights = fitted.explain(views, level=level)["text"]
        assert weights.lengths.tolist() == [13] * 60
        sums = np.add.reduceat(weights.values, weights.offsets[:-1])
        np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert weights.info["spans"][0].tolist() == [0, 15]
    assert weights.info["words"][0] == views["text"][0][:15]


def test_regions_that_meet_the_text(fitted, views):
    found = fitted.explain(views)["image"]
    assert found.lengths.tolist() == [4] * 60
    weights = found.values.reshape(60, 4)
    assert set(np.unique(weights)) == {np.float32(0), np.float32(0.5)}
    assert (weights[:, 3] == 0).all() and (weights.sum(axis=1) == 1).all()
    P, Q = (fitted._prepare(views[v], v).parts for v in ("image", "text"))
    dots = torch.einsum("nrd,nd->nr", P["local"], Q["local"]).numpy()
    assert (np.argmax(dots, axis=1) == [row[:3].nonzero()[0][np.argmax(d[row[:3] > 0])]
                                        for row, d in zip(weights, dots)]).all()  # fmt: skip
    pairs = fitted.explain(views["image"], views["text"], level="relation")[0]
    assert pairs.lengths.tolist() == [6] * 60
    assert pairs.info["pairs"][:6].tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]


def test_boxes_ride_along(fitted, views):
    lengths = [1, 2, 4] * 20
    regions = Ragged.from_list([row[:n] for row, n in zip(views["image"]["regions"], lengths)])
    boxes = np.arange(4 * sum(lengths)).reshape(-1, 4)
    regions = Ragged(regions.values, regions.offsets, {"boxes": boxes})
    images = Views(image={"global": views["image"]["global"], "regions": regions})["image"]
    found, _ = fitted.explain(images, views["text"])
    assert found.lengths.tolist() == lengths
    np.testing.assert_array_equal(found.info["boxes"], boxes)
    np.testing.assert_allclose(np.add.reduceat(found.values, found.offsets[:-1]), 1)
    related, _ = fitted.explain(images, views["text"], level="relation")
    assert related.lengths.tolist() == [0, 2, 6] * 20


def test_explain_says_what_is_wrong(fitted, views):
    with pytest.raises(TypeError, match="expects pairs"):
        fitted.explain(views["image"])
    with pytest.raises(TypeError, match="Views alone or"):
        fitted.explain(views, views["text"])
    with pytest.raises(ValueError, match="level must be 'local' or 'relation'"):
        fitted.explain(views, level="global")


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"levels": ()}, "levels must be one or more of global, local, relation, got"),
        ({"levels": ("globl",)}, "levels must be one or more of"),
        ({"levels": ("local", "local")}, "levels must be one or more of"),
        ({"channels": (8, 0)}, "channels must be positive integers"),
        ({"length": 47, "channels": (8, 8, 8)}, "'text': length is 47, but 3 convolutions need at"),
        ({"mining": "every"}, "mining"),
        ({"k_negatives": 0}, "k_negatives"),
        ({"init": "zeros"}, "init"),
        ({"warm_up": -1}, "warm_up"),
    ],
)
def test_wrong_parameters(views, params, message):
    with pytest.raises(ValueError, match=message):
        CRAN(**{**QUICK, **params}).fit(views)


@pytest.mark.parametrize("channel", ["global", "regions"])
def test_wrong_channels(views, fitted, channel):
    other = {"global": "regions", "regions": "global"}[channel]
    image = {**{n: views["image"][n] for n in views["image"].names}, channel: views["image"][other]}
    with pytest.raises(ValueError, match=f"'image', channel '{channel}' must be of shape"):
        CRAN(**QUICK).fit(Views(image=image, text=views["text"]))


# ---- learning ----------------------------------------------------------------------------------


def test_two_hundred_pairs_are_memorised():
    """Return random pictures and strings, which can only be memorised."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    texts = ["".join(rng.choice(letters, 30)) for _ in range(200)]
    image = {"global": rng.normal(size=(200, 16)), "regions": rng.normal(size=(200, 3, 16))}
    views = Views(image=image, text=texts)
    cran = CRAN(
        channels=(48, 48), lstm_width=48, width=32, length=33, n_regions=3, k=2, mining="sum",
        margin=0.5, max_epochs=60, lr=5e-3, batch_size=100, optimizer="Adam", device="cpu",
        random_state=0, verbose=0, lr_halving=20,
    ).fit(views)  # fmt: skip
    found = evaluate(cran.similarity(views), np.eye(200), ("r@1", "r@5"), ci=None)
    assert found.mean(None, "r@1") > 0.95 and found.mean(None, "r@5") > 0.99


def test_the_defaults_learn():
    """Fewer epochs and pairs than by default; ten of 200 pictures by chance are R@10 .05."""
    data = datasets.load("emoji")
    parts = []
    for name, n in (("train", 800), ("test", 200)):
        views = data[name].views[:n]
        regions = GridFeatures(2, output="regions", cache=False).fit_transform(views["image"])
        whole = regions.reshape(n, -1)
        parts.append(views.replace(image={"global": whole, "regions": regions}))
    train, test = parts
    cran = CRAN(max_epochs=6, device="cpu", random_state=0, verbose=0).fit(train)
    found = evaluate(cran.similarity(test), np.eye(200), ("r@10",), ci=None)
    for direction in found.directions:
        # The standard error of chance is .015.
        assert found.mean(direction, "r@10") > 0.11


def test_the_learning_rate_is_halved(views):
    cran = CRAN(**{**QUICK, "max_epochs": 5, "lr": 0.01, "lr_halving": 2}).fit(views)
    assert cran.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(0.0025)
    flat = CRAN(**{**QUICK, "max_epochs": 5, "lr": 0.01, "lr_halving": None}).fit(views)
    assert flat.net_.optimizer_.param_groups[0]["lr"] == 0.01


def test_a_resumed_fit_keeps_the_schedule(views, tmp_path):
    settings = {**QUICK, "lr": 0.01, "lr_halving": 2, "callbacks": None}
    straight = CRAN(**{**settings, "max_epochs": 5}).fit(views)
    settings["callbacks"] = [Checkpoint(str(tmp_path / "cran.pt"))]
    CRAN(**{**settings, "max_epochs": 3, "score_memory": 2**20}).fit(views)
    resumed = CRAN(**{**settings, "max_epochs": 5}).fit(views)
    assert len(resumed.net_.history) == 5
    np.testing.assert_array_equal(resumed.similarity(views), straight.similarity(views))


def test_fits_repeat_bit_by_bit(views):
    settings = {**QUICK, "mining": "random", "dropout": 0.3}
    a, b = (CRAN(**settings).fit(views).similarity(views) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert (
        np.abs(CRAN(**{**settings, "random_state": 1}).fit(views).similarity(views) - a).max() > 0
    )


def test_a_bundle_answers_alike(fitted, views, tmp_path):
    crossfit.save(fitted, tmp_path / "cran")
    read = crossfit.load(tmp_path / "cran")
    np.testing.assert_array_equal(read.similarity(views), fitted.similarity(views))
    ours, theirs = (cran.explain(views)["text"] for cran in (fitted, read))
    np.testing.assert_array_equal(ours.values, theirs.values)
    found = crossfit.search(read, views["text"][:2], view="text", gallery=views["image"], k=3)
    assert found.indices.shape == (2, 3)


def test_a_network_of_0_1_has_no_standardisation(views):
    """Its bundles do not have the parameter either, whose default is another one."""
    old = CRAN(**{**QUICK, "standardize": False}).fit(views)
    state, arrays = old.__crossfit_state__()
    assert not any("standard" in name for name in arrays)
    params = {name: part for name, part in old.get_params().items() if name != "standardize"}
    read = CRAN(**params)
    assert read.standardize
    read.__crossfit_restore__(state, arrays)
    assert not read.standardize
    np.testing.assert_array_equal(read.similarity(views), old.similarity(views))


def test_captions_share_their_image(views):
    index = np.repeat(np.arange(20), 3)
    image = {name: views["image"][name][:20] for name in views["image"].names}
    captions = Views.from_captions(image, views["text"], index)
    scores = CRAN(**QUICK).fit(captions).similarity(captions)
    assert scores.shape == (20, 60)


@pytest.mark.slow
def test_the_published_size_trains_a_batch():
    """One training step of all 150 M weights on two pairs."""
    rng = np.random.default_rng(0)
    views = Views(
        image={
            "global": rng.random((2, 4096), dtype=np.float32),
            "regions": rng.random((2, 5, 4096), dtype=np.float32),
        },
        text=["a dog runs over the grass", "two children play football"],
    )
    # SGD, because RMSProp would store another number per weight.
    given = {**published_params(FLICKR30K), "max_epochs": 1, "batch_size": 2, "optimizer": "SGD"}
    cran = CRAN(**given, device="cpu", random_state=0).fit(views)
    assert sum(p.numel() for p in cran.net_.module_.parameters()) == count(published())
    (row,) = cran.net_.history
    assert np.isfinite(row["train_loss"]) and row["train_loss"] > 0
    scores = cran.similarity(views)
    assert scores.shape == (2, 2) and np.isfinite(scores).all()


# ---- experiments -------------------------------------------------------------------------------


def published_params(card):
    """Return the parameters of the full method in a published experiment."""
    spec = Experiment.from_file(Path(__file__).parents[1] / card.target.partition(":")[2])
    return dict(spec.methods[0].params)


@pytest.mark.parametrize("card", [FLICKR30K, COCO], ids=lambda card: card.name)
def test_published_experiments_have_the_settings_of_the_paper(card):
    cran = CRAN(**published_params(card), device="cpu")
    settings = cran.get_params()
    assert settings["optimizer"] == "RMSprop" and settings["lr"] == 4e-4
    assert settings["lr_halving"] == 50 and settings["max_epochs"] == 150
    assert settings["margin"] == 1 and settings["mining"] == "random"
    assert settings["batch_size"] == 40
    assert not settings["bidirectional_local"]  # equations 9 and 10
    # Every parameter of the method itself is in the file: its defaults are for less data.
    own = set(CRAN.__init__.__code__.co_varnames[1 : 1 + CRAN.__init__.__code__.co_kwonlyargcount])
    assert own - set(published_params(card)) == {"attention_width", "k_negatives"}
    n_inputs = {"image": {"global": 4096, "regions": 4096}, "text": settings["length"]}
    with torch.device("meta"):
        module = cran._build_module(n_inputs, None)
    assert not any(True for _ in module.buffers())  # nothing is standardised
    ours = {name: tuple(part.shape) for name, part in module.named_parameters()}
    theirs = {name: tuple(part.shape) for name, part in published().named_parameters()}
    assert ours == theirs and (module.k, module.n_regions, module.dropout.p) == (3, 5, 0)
    assert module.normalize and not module.attn_mean and not module.mask_padding


@pytest.mark.parametrize(
    "card", [FLICKR30K, COCO, FLICKR8K, FLICKR8K_CHOICE], ids=lambda card: card.name
)
def test_experiments_are_registered_and_fit_the_method(card):
    assert registry.get(card.name, "crossfit.experiments") == card
    file = Path(__file__).parents[1] / card.target.partition(":")[2]
    spec = Experiment.from_file(file)
    assert ("reduced" in card.name) == spec.reduced == ("reduced" in spec.title)
    assert [dataset.name for dataset in spec.datasets] == list(card.datasets)
    # A method of another plugin is written with its distribution.
    assert {entry.method for entry in spec.methods} == set(card.methods)
    ours = [entry for entry in spec.methods if entry.method == "cran"]
    for entry in ours:
        CRAN(**entry.params)._validate_params()
    more = () if card == FLICKR8K_CHOICE else (
        ("global", "local"), ("global", "relation"), ("global", "local", "relation"),
    )  # fmt: skip
    assert {tuple(entry.params["levels"]) for entry in ours} == {("global",), *more}


@pytest.mark.parametrize(
    ("card", "table"),
    [
        (
            FLICKR30K,
            """
            CRAN .381 .708 .828 .381 .711 .826
            CRAN-relation .330 .642 .771 .353 .659 .788
            CRAN-local .332 .645 .776 .331 .675 .786
            CRAN-baseline .289 .601 .722 .281 .620 .752""",
        ),
        (
            COCO,
            """
            CRAN .230 .520 .660 .211 .489 .645
            CRAN-relation .171 .435 .577 .190 .446 .600
            CRAN-local .207 .494 .632 .209 .484 .633
            CRAN-baseline .157 .410 .548 .155 .411 .562""",
        ),
    ],
    ids=["flickr30k", "coco"],
)
def test_published_figures_are_those_of_table_3(card, table):
    spec = Experiment.from_file(Path(__file__).parents[1] / card.target.partition(":")[2])
    ours = [entry for entry in spec.methods if entry.method == "cran"]
    for entry, row in zip(ours, table.split("\n")[1:], strict=True):
        label, *figures = row.split()
        found = [
            entry.published[metric][way]
            for way in ("image2text", "text2image")
            for metric in ("r@1", "r@5", "r@10")
        ]
        assert (entry.label, found) == (label, [float(figure) for figure in figures])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", [False, "auto"])
def test_on_a_gpu(views, amp):
    cran = CRAN(**{**QUICK, "device": "cuda", "amp": amp}).fit(views)
    scores = cran.similarity(views)
    assert scores.dtype == np.float32 and np.isfinite(scores).all()
    assert len(np.unique(scores)) > 3000


# ---- ragged batches, integers, overridden parameters --------------------------------------------


def test_relations_are_named_alike_in_every_batch(views):
    """A batch of images with few regions has the same relations as any other."""
    rng = np.random.default_rng(0)
    regions = [rng.normal(size=(2 if i < 70 else 4, 12)) for i in range(80)]
    rows = views[np.arange(80) % len(views)]
    image = {"global": rows["image"]["global"], "regions": Ragged.from_list(regions)}
    mixed = rows.replace(image=image)
    cran = CRAN(**{**QUICK, "levels": ("relation",), "n_regions": 4, "max_epochs": 1}).fit(mixed)
    together = cran.explain(mixed, level="relation")["image"]
    alone = cran.explain(mixed[:1], level="relation")["image"]
    pairs = together.info["pairs"][: len(together[0])]
    assert pairs.tolist() == alone.info["pairs"].tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(together[0], alone[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16])
def test_channels_of_integers_are_numbers(views, dtype):
    image = {
        name: np.abs(10 * views["image"][name]).astype(dtype) for name in views["image"].names
    }  # fmt: skip
    counts = views.replace(image=image)
    plain = views.replace(image={n: part.astype(np.float32) for n, part in image.items()})
    settings = {**QUICK, "max_epochs": 1}
    found = CRAN(**settings).fit(counts).similarity(counts)
    np.testing.assert_array_equal(found, CRAN(**settings).fit(plain).similarity(plain))


def test_a_fit_without_negatives_is_refused(views):
    with pytest.raises(ValueError, match=r"at least two groups, got 20 rows of one group"):
        CRAN(**QUICK).fit(views[:20].with_groups(np.zeros(20, int)))
    with pytest.raises(ValueError, match="batch_size"):
        CRAN(**{**QUICK, "batch_size": 1}).fit(views)


def test_explain_follows_the_network_that_was_fitted(views):
    cran = CRAN(**{**QUICK, "max_epochs": 1, "module__k": 1, "module__n_regions": 3}).fit(views)
    weights = cran.explain(views, level="local")["image"]
    assert set(np.unique(weights.values)) == {0.0, 1.0}  # one nearest region
    cran.set_params(k=2, module__k=1)
    again = cran.explain(views, level="relation")["image"]
    assert set(np.unique(again.values)) == {0.0, 1.0} and (again.lengths == 6).all()


def test_what_explain_and_length_need_is_said(fitted, views):
    with pytest.raises(ValueError, match="needs the views image and text, got text"):
        fitted.explain(views.select("text"))
    with pytest.raises(ValueError, match=r"8 convolutions need at least \d+ characters"):
        CRAN(**{**QUICK, "channels": (4,) * 8, "length": 500}).fit(views)


def test_regions_and_characters_that_are_not_read_cost_nothing(views):
    n = views["image"]["regions"].shape[1]
    rows = list(views["image"]["regions"])
    rows[3] = np.concatenate([rows[3], np.ones((3000, rows[3].shape[1]))])
    image = {"global": views["image"]["global"]}
    long = views.replace(image={**image, "regions": Ragged.from_list(rows)})
    cut = views.replace(image={**image, "regions": Ragged.from_list([row[:n] for row in rows])})
    ids = Characters(verbose=False).fit_transform(views["text"])
    lengths = np.full(len(ids), ids.shape[1])
    lengths[0] += 10**6
    flat = np.concatenate([ids[0], np.full(10**6, 3), ids[1:].ravel()])
    texts = Ragged(flat, np.concatenate([[0], np.cumsum(lengths)]))
    method = CRAN(**{**SMALL, "max_epochs": 1, "n_regions": n})
    plain = method.fit(cut).similarity(cut)
    found = CRAN(**method.get_params()).fit(long)
    np.testing.assert_array_equal(found.similarity(long), plain)
    with pytest.raises(ValueError, match="character ids from 0 to"):
        found._characters(Ragged(np.array([1, 10**6]), np.array([0, 2])))
    shown = found._characters(texts)
    assert shown.shape == (len(ids), 51)
    np.testing.assert_array_equal(shown, ids[:, :51])
