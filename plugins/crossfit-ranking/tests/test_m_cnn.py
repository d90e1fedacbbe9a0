"""m-CNN: plain forms of the four levels, padding, blocks, losses and bad input."""

import numpy as np
import pytest
import torch

import crossfit
from crossfit import Ragged, evaluate
from crossfit.neural import Checkpoint, Items
from crossfit.testing import PeakBytes
from crossfit_ranking.m_cnn import LEVELS, MCNN
from crossfit_ranking.testing import make_sentences

SMALL = {**MCNN.card.test_params, "random_state": 0, "verbose": 0}
QUICK = {**SMALL, "max_epochs": 2}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def views():
    return make_sentences(np.random.default_rng(0), 100)[0]


@pytest.fixture(scope="module")
def fitted(views):
    return MCNN(**QUICK).fit(views[:70])


def network(words="ids", levels=tuple(LEVELS), max_words=11, **settings):
    """Return a small network in float64, with biases."""
    torch.manual_seed(0)
    given = {"maps": (5, 6, 4), "image_width": 3, "hidden": 7, "word_width": 4, "dropout": 0.0}
    method = MCNN(levels=levels, max_words=max_words, standardize=False, **{**given, **settings})
    method.text_form_ = words
    found = method._build_module({"image": 6, "text": 8 if words == "ids" else 4}, None)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.ndim == 1:
                weight.normal_(std=0.3)
        for level in found.levels.values():
            if level.words.embedding is not None:
                level.words.embedding.weight.normal_()
    return found.double().eval()


def padded(texts):
    longest = max(map(len, texts))
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in zip(ids, texts):
        row[: len(text)] = torch.tensor(text)
    return Items(ids, ids != 0)


def by_hand(level, image, text, at, max_words):
    """Score one pair as the paper does: the image next to every window, gate, ReLU, pooling."""
    relu = torch.nn.functional.relu
    vector = relu(level.image(image))
    words = level.words.embedding.weight[torch.tensor(text[:max_words])]
    x = torch.zeros(max_words, words.shape[1], dtype=torch.float64)
    x[: len(words)] = words
    real = torch.arange(max_words) < len(words)
    for i, layer in enumerate(level.layers[:-1]):
        after = []
        for place in range(len(x)):
            window = [x[p] if p < len(x) else torch.zeros_like(x[0])
                      for p in range(place, place + 3)]  # fmt: skip
            made = layer(torch.cat(window))
            if i == at:  # one weight matrix of window and image
                made = (
                    torch.cat([layer.weight, level.inject.weight], dim=1)
                    @ torch.cat([*window, vector])
                    + layer.bias
                )
            after.append(relu(made) * real[place])
        pairs = [after[p : p + 2] for p in range(0, len(after), 2)]
        x = torch.stack([torch.stack(pair).amax(dim=0) for pair in pairs])
        real = torch.stack([real[p : p + 2].any() for p in range(0, len(after), 2)])
    last = level.layers[-1]
    hidden = last(x.flatten())
    if at == 3:
        hidden = hidden + level.inject(vector)
    return level.score(relu(hidden)).item()


TEXTS = [[2, 3, 4, 5, 6], [7], [2, 2, 3], [3, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7], [1, 5] * 8]


@torch.no_grad()
@pytest.mark.parametrize("max_words", [1, 2, 5, 11, 16])
def test_the_network_is_the_loop_over_pairs(max_words):
    net = network(max_words=max_words)
    images = torch.randn(3, 6, dtype=torch.float64)
    items = padded(TEXTS)
    P, Q = net.image(Items(images)), net.text(items)
    for name, at in LEVELS.items():
        level = net.levels[name].float()
        image, text = P[name].float(), Q[name]._replace(parts=Q[name].parts.float())
        found = level(image[None], text.take(torch.arange(5)[None]))[0]
        groups = level(image[torch.tensor([[0, 2], [1, 0]])],
                       text.take(torch.tensor([[1, 2, 4], [3, 0, 1]])))  # fmt: skip
        level.double()
        for i in range(3):
            for j, words in enumerate(TEXTS):
                expected = by_hand(level, images[i], words, at, max_words)
                assert found[i, j].item() == pytest.approx(expected, abs=1e-5)
        assert groups[0, 1, 2].item() == pytest.approx(found[2, 4].item(), abs=1e-5)
        assert groups[1, 0, 0].item() == pytest.approx(found[1, 3].item(), abs=1e-5)


@torch.no_grad()
def test_padding_does_not_matter():
    net = network("words").float()
    torch.manual_seed(1)
    lengths = torch.tensor([4, 1, 11, 2])
    mask = torch.arange(11) < lengths[:, None]
    words = torch.randn(4, 11, 4)
    images = net.image(Items(torch.randn(2, 6)))
    longer = torch.cat([words, torch.randn(4, 3, 4)], dim=1)
    forms = {
        "zeros": Items(words * mask[..., None], mask),
        "anything": Items(words.masked_fill(~mask[..., None], 1e3), mask),
        "more": Items(longer, torch.cat([mask, torch.zeros(4, 3).bool()], dim=1)),
    }
    scores = {}
    for form, items in forms.items():
        texts = net.text(items)
        scores[form] = torch.stack(
            [
                level(images[name][None], texts[name].take(torch.arange(4)[None]))[0]
                for name, level in net.levels.items()
            ]
        )
    for found in scores.values():
        torch.testing.assert_close(found, scores["zeros"])
    alone = net.text(Items(words[:1, :4]))
    for i, (name, level) in enumerate(net.levels.items()):
        found = level(images[name][None], alone[name].take(torch.zeros(1, 1, dtype=torch.int64)))
        torch.testing.assert_close(found[0, :, 0], scores["zeros"][i, :, 0])


@torch.no_grad()
def test_a_pair_costs_only_what_both_items_need():
    """Everything linear in one item, and the layers before the image, run once per item."""
    net = network().float()
    calls = {}

    def counted(name, layer):
        return lambda _, given, __: calls.setdefault(name, []).append(given[0][..., 0].numel())

    for name, level in net.levels.items():
        for i, layer in enumerate(level.layers[:-1]):
            layer.register_forward_hook(counted((name, i), layer))
        level.image.register_forward_hook(counted((name, "image"), level.image))
    P = net.image(Items(torch.randn(3, 6)))
    Q = net.text(padded(TEXTS[:4]))
    texts = {key for key in calls if key[1] != "image"}
    before = {("word", 0), ("short-phrase", 0), ("short-phrase", 1)}
    before |= {(name, i) for name in ("long-phrase", "sentence") for i in range(3)}
    assert texts == before
    assert all(calls[name, "image"] == [3] for name in LEVELS)
    calls.clear()
    for name, level in net.levels.items():
        level(P[name][None], Q[name].take(torch.arange(4)[None]))
    # 11 words are pooled to 6 places before the pairs of the word level are formed.
    assert calls == {("word", 1): [12 * 6], ("word", 2): [12 * 3], ("short-phrase", 2): [12 * 3]}


def test_levels_do_not_touch_each_other(views):
    """The loss of one level has no gradient in another's weights."""
    method = MCNN(**QUICK).fit(views)
    net = method.net_.module_.train()
    batch = _batch(method, views)
    outputs = method._outputs(net, batch)
    for name, loss in method._loss(outputs, batch).items():
        net.zero_grad()
        loss.backward(retain_graph=True)
        touched = {key.split(".")[1] for key, p in net.named_parameters()
                   if p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
        assert touched == {name}


def _batch(method, views):
    from crossfit.neural.batching import PairData, store

    n_words = method.n_inputs_["text"]
    stores = {"image": store(views["image"]), "text": store(views["text"], n_words)}
    return PairData(stores, views, None, torch.device("cpu")).batch(torch.arange(len(views)))


def test_the_ensemble_is_the_sum_of_its_levels(fitted, views):
    """Levels of the same weights, alone, add up to the ensemble."""
    test = views[70:]
    total = 0.0
    for name in LEVELS:
        alone = MCNN(**{**QUICK, "levels": (name,), "max_epochs": 1}).fit(views[:70])
        weights = fitted.net_.module_.state_dict()
        alone.net_.module_.load_state_dict(
            {key: part for key, part in weights.items()
             if key.startswith((f"levels.{name}.", "scaling."))}
        )  # fmt: skip
        total = total + alone.similarity(test)
        assert [key for key in alone.net_.history[-1] if key.startswith("train_")].count(
            f"train_{name}"
        ) == 1
    np.testing.assert_allclose(fitted.similarity(test), total, atol=1e-5)


def test_the_loss_is_the_hinge_of_both_directions(views):
    method = MCNN(**{**QUICK, "levels": ("sentence",), "max_epochs": 1}).fit(views)
    part = views[:12]
    S = method.similarity(part).astype(float)
    batch = _batch(method, part)
    with torch.no_grad():
        method.set_params(group_size=12)
        outputs = method._outputs(method.net_.module_.eval(), batch)
    for bidirectional in (False, True):
        method.set_params(bidirectional=bidirectional)
        sides = (S, S.T) if bidirectional else (S,)
        expected = sum(
            np.mean([[max(0.0, 0.5 - s[i, i] + s[i, j]) for j in range(12) if j != i]
                     for i in range(12)])
            for s in sides
        )  # fmt: skip
        found = method._loss(outputs, batch)["sentence"].item()
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mining", ["all", "random", "hardest", "top-k"])
def test_other_captions_of_an_image_are_no_negatives(views, mining):
    """A fit on captions of one image each, but for the groups, would have hinges."""
    method = MCNN(**{**QUICK, "max_epochs": 1}).fit(views).set_params(mining=mining)
    index = np.zeros(9, np.int64)
    one = crossfit.Views.from_captions(views["image"][:1], views["text"][:9], index)
    batch = _batch(method, one)
    with torch.no_grad():
        terms = method._loss(method._outputs(method.net_.module_, batch), batch)
    assert set(terms) == set(LEVELS) and all(float(term) == 0 for term in terms.values())


def test_scores_do_not_depend_on_blocks(fitted, views):
    test = views[70:]
    whole = fitted.similarity(test)
    P, Q = (fitted._prepare(test[role], role) for role in ("image", "text"))
    one = fitted._pair_bytes(P.parts, Q.parts)
    memory = fitted.score_memory
    try:
        for pairs in (1, 4, 30, 300):
            fitted.set_params(score_memory=pairs * one)
            with PeakBytes(P.parts, Q.parts, fitted.net_.module_.state_dict()) as counter:
                found = fitted._similarity(P, Q)
            np.testing.assert_allclose(found, whole, atol=1e-5)
            assert pairs * one / 8 < counter.peak <= pairs * one
    finally:
        fitted.set_params(score_memory=memory)
    np.testing.assert_allclose(fitted.similarity(test, chunk_size=7), whole, atol=1e-5)


def test_ids_strings_and_vectors(views):
    words = ("<pad>", "<unk>", *"abcdefghij")
    test = views[70:]
    strings = np.array([" ".join(words[i] for i in row) for row in views["text"]], object)
    vectors = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    given = Ragged(vectors[views["text"].values], views["text"].offsets)
    for texts, form in ((strings, "strings"), (given, "words")):
        part = views.replace(text=texts)
        method = MCNN(**{**QUICK, "min_count": 1}).fit(part)
        assert method.text_form_ == form
        assert np.isfinite(method.similarity(part[70:])).all()
        with pytest.raises(ValueError, match=r"was fitted on .*, got word ids"):
            method.similarity(test)


def test_words_after_the_last_one_are_not_read(views):
    long = Ragged.from_list([np.concatenate([row[:2], [5] * 40]) for row in views["text"]])
    cut = Ragged.from_list([row[:3] for row in long])
    settings = {**QUICK, "max_words": 3}
    with pytest.warns(UserWarning, match="only the first 3 are used"):
        found = MCNN(**settings).fit(views.replace(text=long))
    expected = MCNN(**settings).fit(views.replace(text=cut))
    np.testing.assert_array_equal(
        found.similarity(views["image"], cut), expected.similarity(views["image"], cut)
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"levels": ()}, "levels must be some of word, short-phrase, long-phrase, sentence"),
        ({"levels": ("words",)}, "levels must be some of word"),
        ({"maps": (4, 4)}, "maps must be the numbers of three convolutions"),
        ({"maps": (4, 4, 0)}, "maps must be the numbers of three convolutions"),
        ({"max_words": None}, "max_words"),
    ],
)
def test_bad_parameters(views, changed, message):
    with pytest.raises(ValueError, match=message):
        MCNN(**{**QUICK, **changed}).fit(views)


def test_bundle_and_resumed_fit(views, tmp_path):
    settings = {**SMALL, "dropout": 0.3}
    whole = MCNN(**{**settings, "max_epochs": 3}).fit(views)
    crossfit.save(whole, tmp_path / "m-cnn")
    read = crossfit.load(tmp_path / "m-cnn")
    np.testing.assert_array_equal(read.similarity(views), whole.similarity(views))
    begun = MCNN(**{**settings, "max_epochs": 1}, callbacks=[Checkpoint(tmp_path / "c.pt")])
    resumed = begun.fit(views).set_params(max_epochs=3).fit(views)
    for name, weight in whole.net_.module_.state_dict().items():
        assert torch.equal(weight, resumed.net_.module_.state_dict()[name])


def test_the_defaults_match_pictures_and_captions(flickr8k):
    """A fit of 900 pictures with two captions each, in 15 s of a core."""
    train, test = flickr8k(0, 900, "strings"), flickr8k(5900, 6000, "strings")
    two = np.flatnonzero(np.arange(len(train)) % 5 < 2)
    method = MCNN(max_epochs=5, device="cpu", verbose=0, random_state=0)
    scores = method.fit(train[two]).similarity(test[::5])
    found = evaluate(scores, np.eye(100), ("mrr", "r@10"), ci=None)
    # In a random order, the mean reciprocal rank is .052, and R@10 .1.
    for direction in ("query2gallery", "gallery2query"):
        assert found.mean(direction, "mrr") > 0.08
        assert found.mean(direction, "r@10") > 0.17


def test_published_sizes():
    net = MCNN(maps=(200, 300, 300), image_width=256, hidden=400)
    net.text_form_ = "ids"
    module = net._build_module({"image": 4096, "text": 5000}, None)
    shapes = {
        name: [tuple(layer.weight.shape) for layer in (*level.layers, level.inject)]
        for name, level in module.levels.items()
    }
    layers = [(200, 150), (300, 600), (300, 900), (400, 1200)]
    assert shapes == {
        "word": [*layers, (200, 256)],
        "short-phrase": [*layers, (300, 256)],
        "long-phrase": [*layers, (300, 256)],
        "sentence": [*layers, (400, 256)],
    }
