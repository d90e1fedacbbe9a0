"""m-RNN: probabilities by enumeration, plain forms, both ranking rules, and captions."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import Ragged, Views, datasets, evaluate
from crossfit.extraction import GridFeatures
from crossfit.neural import Checkpoint, Items
from crossfit.testing import PeakBytes
from crossfit_ranking.m_rnn import MRNN, MRNNNetwork, Sentences
from crossfit_ranking.testing import make_sentences

SMALL = {**MRNN.card.test_params, "random_state": 0, "verbose": 0}
QUICK = {**SMALL, "max_epochs": 2}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def views():
    return make_sentences(np.random.default_rng(0), 120)[0]


@pytest.fixture(scope="module")
def fitted(views):
    return MRNN(**SMALL).fit(views[:80])


def network(n_words=5, **settings):
    """Return a small network in float64 with large weights, so that words differ."""
    torch.manual_seed(0)
    given = {"embedding_widths": (4, 6), "width": 7, "dropout": 0.0, "standardize": False}
    found = MRNNNetwork({"image": 3, "text": n_words}, **{**given, **settings}).double().eval()
    with torch.no_grad():
        for weight in found.parameters():
            weight.mul_(1.5)
            if weight.ndim == 1:
                weight.normal_()
    return found


def sentences(net, texts):
    """Return prepared sentences of lists of word ids."""
    longest = max(map(len, texts))
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in zip(ids, texts):
        row[: len(text)] = torch.tensor(text)
    states, targets, mask = net.text(Items(ids, ids != 0))
    return Sentences(states, targets, mask, states.new_zeros(len(texts)))


def weights(net):
    return {name: part.detach().numpy() for name, part in net.named_parameters()}


def by_hand(net, image, text):
    """Follow the equations, word by word: log p(s|I) with the end sign."""
    w = weights(net)
    total, r = 0.0, np.zeros(len(w["recur.weight"]))
    for word, following in zip([0, *text], [*text, 0]):
        e = w["embed.weight"] @ w["words.weight"][word] + w["embed.bias"]
        r = np.maximum(w["recur.weight"] @ r + e, 0)
        x = w["of_word.weight"] @ e + w["of_word.bias"] + w["of_state.weight"] @ r
        m = 1.7159 * np.tanh(2 / 3 * (x + w["of_image.weight"] @ image))
        total += log_softmax(w["output.weight"] @ m + w["output.bias"])[following]
    return total


TEXTS = [[2, 3, 2], [2, 3, 4, 1], [4], [2, 3, 2], [1, 1]]


@torch.no_grad()
def test_probabilities_are_the_equations():
    net = network()
    images = torch.randn(4, 3, dtype=torch.float64)
    found = net.log_likelihood(net.image(Items(images)), sentences(net, TEXTS))
    for i, image in enumerate(images.numpy()):
        for j, text in enumerate(TEXTS):
            assert found[i, j].item() == pytest.approx(by_hand(net, image, text), abs=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("longest", [1, 2, 3])
def test_probabilities_sum_to_one(longest):
    """All sentences of fewer words, and all beginnings of so many words, are all there is."""
    net = network()
    image = net.image(Items(torch.randn(2, 3, dtype=torch.float64)))
    ids = range(1, 5)
    whole = [list(text) for n in range(1, longest) for text in product(ids, repeat=n)]
    begun = [list(text) for text in product(ids, repeat=longest)]
    empty = net.log_likelihood(image, sentences(net, [[1]])._replace(
        targets=torch.tensor([[0, 0]]), mask=torch.tensor([[True, False]])))  # fmt: skip
    total = empty.exp().sum(dim=1)
    if whole:
        total += net.log_likelihood(image, sentences(net, whole)).exp().sum(dim=1)
    # Without the end sign, the probability is that of all sentences that begin so.
    open_ = sentences(net, begun)
    mask = open_.mask.clone()
    mask[:, -1] = False
    total += net.log_likelihood(image, open_._replace(mask=mask)).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


@torch.no_grad()
def test_without_v_i_all_images_are_equal():
    net = network()
    images = torch.randn(4, 3, dtype=torch.float64)
    before = net.log_likelihood(net.image(Items(images)), sentences(net, TEXTS))
    assert (before - before[:1]).abs().max() > 0.1
    net.of_image.weight.zero_()
    after = net.log_likelihood(net.image(Items(images)), sentences(net, TEXTS))
    torch.testing.assert_close(after, after[:1].expand_as(after))


@torch.no_grad()
def test_equal_beginnings_are_computed_once():
    net = network()
    image = net.image(Items(torch.randn(2, 3, dtype=torch.float64)))
    rows = []
    net.output.register_forward_hook(lambda *call: rows.append(call[1][0].shape[1]))
    net.log_likelihood(image, sentences(net, TEXTS))
    # Of 5 texts: the start sign; 2, 4, 1; 2 3, 1 1; 2 3 2, 2 3 4; 2 3 4 1.
    assert rows == [1, 3, 2, 2, 1]


def test_the_loss_is_the_likelihood(views):
    """The cross-entropy per word is minus the mean log-likelihood of pairs over all words."""
    method = MRNN(**{**SMALL, "l2": 0.0, "max_epochs": 4}).fit(views)
    batch = views[:16]
    own = np.diag(method.log_likelihood(batch)).sum()
    words = batch["text"].lengths.sum() + len(batch)  # with end signs
    assert _loss_of(method, batch) == pytest.approx(-own / words, rel=1e-4)


def _loss_of(method, views):
    from crossfit.neural.batching import PairData, store

    stores = {
        "image": store(views["image"]),
        "text": store(views["text"], method.n_inputs_["text"]),
    }
    data = PairData(stores, views, None, torch.device("cpu"))
    batch = data.batch(torch.arange(len(views)))
    with torch.no_grad():
        outputs = method._outputs(method.net_.module_, batch)
    return float(method._loss(outputs, batch)["words"])


def test_gradients_by_finite_differences():
    net = network().train()
    ids = torch.tensor([[2, 3, 2], [4, 0, 0]])
    images = torch.randn(2, 3, dtype=torch.float64)
    names, given = zip(*net.named_parameters())

    def loss(*given):
        def run(images, ids):
            states, targets, mask = net.text(Items(ids, ids != 0))
            logits = net.logits(states, net.image(Items(images))[:, None])
            return torch.nn.functional.cross_entropy(logits[mask], targets[mask])

        net.forward = run
        return torch.func.functional_call(net, dict(zip(names, given)), (images, ids))

    assert torch.autograd.gradcheck(loss, given, atol=1e-6, rtol=1e-4, fast_mode=True)


# ---- the two ranking rules -----------------------------------------------------------------------


def test_both_rules_are_one_matrix(fitted, views):
    """Sentences are ranked by log p(s|I) - log mean p(s|I'), images by log p(s|I)."""
    test = views[80:]
    scores = fitted.similarity(test)
    likelihood = fitted.log_likelihood(test)
    assert fitted.prior_images_.shape == (20, 24)
    among = fitted.log_likelihood(fitted.prior_images_, test["text"])
    prior = logsumexp(among.astype(np.float64), axis=0) - np.log(20)
    np.testing.assert_allclose(scores, likelihood - prior, atol=1e-4)
    # For a sentence the prior is the same for all images.
    back = fitted.similarity(test, query="text", gallery="image")
    np.testing.assert_array_equal(back, scores.T)
    kinds = {"likelihood": likelihood, "scores": scores}
    found = {name: evaluate(S, np.eye(40), ("mrr",), ci=None) for name, S in kinds.items()}
    for query in range(40):  # clear differences only; others are rounding
        order = np.argsort(-likelihood[:, query])
        steps = np.diff(scores[order, query])
        assert (steps <= 1e-4).all()
    forward = {name: part.mean("query2gallery", "mrr") for name, part in found.items()}
    assert abs(forward["scores"] - forward["likelihood"]) > 0.01
    backward = {name: part.mean("gallery2query", "mrr") for name, part in found.items()}
    assert backward["scores"] == pytest.approx(backward["likelihood"], abs=0.01)


def test_the_prior_is_that_of_training_images(views):
    train = np.asarray(views["image"][:80])
    known = {tuple(row) for row in train.astype(np.float32)}
    chosen = [MRNN(**{**QUICK, "random_state": seed}).fit(views[:80]).prior_images_
              for seed in (0, 1)]  # fmt: skip
    for part in chosen:
        rows = {tuple(row) for row in part}
        assert len(rows) == 20 and rows <= known
    assert {tuple(row) for row in chosen[0]} != {tuple(row) for row in chosen[1]}
    everything = MRNN(**{**QUICK, "n_prior_images": 1000}).fit(views[:80])
    np.testing.assert_array_equal(everything.prior_images_, train.astype(np.float32))
    none = MRNN(**{**QUICK, "n_prior_images": 0}).fit(views[:80])
    np.testing.assert_array_equal(none.similarity(views), none.log_likelihood(views))


def test_scores_do_not_depend_on_blocks(fitted, views):
    test = views[80:]
    whole = fitted.similarity(test)
    network = fitted.net_.module_
    one = 4 * (2 * network.width + network.output.out_features + 40)
    memory = fitted.score_memory
    try:
        for pairs in (1, 7, 100):
            fitted.set_params(score_memory=pairs * one)
            np.testing.assert_allclose(fitted.similarity(test), whole, atol=1e-4)
        P, Q = (fitted._prepare(test[role], role) for role in ("image", "text"))
        scores = np.empty((40, 40), np.float32)
        with PeakBytes(P.parts, Q.parts) as counter:
            fitted._fill(P, Q, scores, None)
        assert 20 * one < counter.peak <= 100 * one
        fitted.set_params(score_memory=one - 1)
        with pytest.raises(ValueError, match=r"score_memory is .* but one pair takes"):
            fitted.similarity(test)
    finally:
        fitted.set_params(score_memory=memory)
    np.testing.assert_allclose(fitted.similarity(test, chunk_size=3), whole, atol=1e-4)


# ---- captions ------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("max_words", [1, 2, 3])
def test_a_beam_of_all_beginnings_finds_the_best_caption(max_words):
    net = network()
    image = net.image(Items(torch.randn(6, 3, dtype=torch.float64)))
    known = range(2, 5)
    texts = [list(t) for n in range(1, max_words + 1) for t in product(known, repeat=n)]
    scores = net.log_likelihood(image, sentences(net, texts))
    found = net.search(image, max_words, beam=100)
    for row, (words, value) in zip(scores, found):
        assert words.tolist() == texts[row.argmax()]
        assert value == pytest.approx(row.max().item(), abs=1e-9)
    greedy = net.search(image, max_words, beam=1)
    assert all(g[1] <= f[1] + 1e-9 for g, f in zip(greedy, found))


def test_captions_of_test_images(fitted, views):
    test = views[80:]
    made = fitted.generate(test["image"], max_words=6)
    assert len(made.ids) == 40 and made.texts is None
    assert made.ids.lengths.min() >= 1 and made.ids.lengths.max() <= 6
    assert made.ids.values.min() > 1
    own = np.diag(fitted.log_likelihood(test["image"], made.ids))
    np.testing.assert_allclose(made.log_likelihood, own, atol=1e-4)
    # They name what the image shows: three of eight concepts.
    named = [len(set(a.tolist()) & set(b[b < 10].tolist()))
             for a, b in zip(made.ids, test["text"])]  # fmt: skip
    assert np.mean(named) > 2
    wider = fitted.generate(test["image"], max_words=6, beam=20)
    assert wider.log_likelihood.mean() >= made.log_likelihood.mean() - 1e-6


def test_captions_have_words_if_there_is_a_vocabulary(views):
    words = ("<pad>", "<unk>", *"abcdefghij")
    texts = [" ".join(words[i] for i in row) for row in views["text"]]
    settings = {**QUICK, "min_count": 1}
    on_strings = MRNN(**settings).fit(views.replace(text=np.array(texts, object)))
    made = on_strings.generate(views["image"][:3])
    spelled = [[on_strings.vocabulary_[i] for i in row] for row in made.ids]
    assert [text.split() for text in made.texts] == spelled
    named = Ragged(views["text"].values, views["text"].offsets, {"vocabulary": words})
    on_ids = MRNN(**settings).fit(views.replace(text=named))
    assert on_ids.vocabulary_ == words
    assert set(" ".join(on_ids.generate(views["image"][:3]).texts).split()) <= set(words)


def test_bad_arguments_of_generate(fitted, views):
    with pytest.raises(ValueError, match=r"MRNN.generate.*beam"):
        fitted.generate(views["image"], beam=0)
    with pytest.raises(ValueError, match="has 3 features, but MRNN is expecting 24"):
        fitted.generate(np.ones((2, 3)))
    unknown = Views(image=views["image"], text=Ragged.from_list([np.ones(2, int)] * 120))
    method = MRNN(**QUICK).fit(unknown)
    with pytest.raises(ValueError, match="no known words"):
        method.generate(views["image"])


# ---- fits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(4,), (4, 0), (4, 2.5), (4, True)])
def test_bad_widths(views, widths):
    with pytest.raises(ValueError, match="embedding_widths must be the widths of two layers"):
        MRNN(**{**QUICK, "embedding_widths": widths}).fit(views)


def test_a_bundle_keeps_the_sampled_images(fitted, views, tmp_path):
    crossfit.save(fitted, tmp_path / "m-rnn")
    read = crossfit.load(tmp_path / "m-rnn")
    np.testing.assert_array_equal(read.similarity(views), fitted.similarity(views))
    made, again = (each.generate(views["image"][:4]) for each in (fitted, read))
    assert [row.tolist() for row in made.ids] == [row.tolist() for row in again.ids]


def test_a_resumed_fit_is_the_whole_fit(views, tmp_path):
    settings = {**SMALL, "dropout": 0.3}
    whole = MRNN(**{**settings, "max_epochs": 4}).fit(views)
    begun = MRNN(**{**settings, "max_epochs": 2}, callbacks=[Checkpoint(tmp_path / "c.pt")])
    resumed = begun.fit(views).set_params(max_epochs=4).fit(views)
    np.testing.assert_array_equal(resumed.prior_images_, whole.prior_images_)
    for name, weight in whole.net_.module_.state_dict().items():
        assert torch.equal(weight, resumed.net_.module_.state_dict()[name])


def test_dropout_and_l2(views):
    plain, dropped, decayed = (
        MRNN(**{**SMALL, "max_epochs": 8, **given}).fit(views).net_
        for given in ({"l2": 0.0}, {"dropout": 0.7}, {"l2": 1e-2})
    )
    assert "train_l2" not in plain.history[-1]
    assert dropped.history[-1]["train_words"] > plain.history[-1]["train_words"] + 0.1
    assert decayed.module_.squared_norm() < 0.8 * plain.module_.squared_norm()


def test_the_defaults_learn_the_keywords_of_emoji():
    """The fit, and the probabilities of 150 pictures and their keywords, take 12 s of a core."""
    data = datasets.load("emoji")
    pictures = make_pipeline(GridFeatures(), PCA(100, random_state=0))
    pictures.fit(data["train"].views["image"])
    train, test = (
        data[part].views.replace(image=pictures.transform(data[part].views["image"]))
        for part in ("train", "test")
    )
    test = test[:150]
    method = MRNN(random_state=0, verbose=0, device="cpu")
    with pytest.warns(UserWarning, match="unknown"):  # keywords that occur once
        method.fit(train)
        scores = method.similarity(test)
    found = evaluate(scores, test.relevance("image", "text"), ("mrr",), ci=None)
    # In a random order, the mean reciprocal rank is .037.
    assert found.mean("query2gallery", "mrr") > 0.12
    assert found.mean("gallery2query", "mrr") > 0.12
    captions = method.generate(test["image"][:20]).texts
    assert all(set(text.split()) <= set(method.vocabulary_[2:]) for text in captions)


def test_published_sizes():
    net = MRNN(embedding_widths=(128, 256), width=512)._build_module(
        {"image": 4096, "text": 5000}, None
    )
    shapes = {name: tuple(part.shape) for name, part in net.named_parameters() if part.ndim > 1}
    assert shapes == {
        "words.weight": (5000, 128),
        "embed.weight": (256, 128),
        "recur.weight": (256, 256),
        "of_word.weight": (512, 256),
        "of_state.weight": (512, 256),
        "of_image.weight": (512, 4096),
        "output.weight": (5000, 512),
    }
