"""Words of texts: forms, embedding, recurrent states."""

import numpy as np
import pytest
import torch

from crossfit import Ragged, Views
from crossfit.neural import Items, Recurrent, SentenceEstimator, WordEmbedding
from crossfit.neural.batching import store
from crossfit.neural.sentences import text_form
from crossfit.views import without_padding

CELLS = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}


def _batch(lengths, width=5, seed=0):
    rng = np.random.default_rng(seed)
    rows = Ragged.from_list([rng.normal(size=(n, width)).astype(np.float32) for n in lengths])
    return rows, store(rows).take(torch.arange(len(lengths)))


@pytest.mark.parametrize(("values", "form"), [
    (np.array(["a b", "c"], dtype=object), "strings"),
    (Ragged.from_list([np.array([2, 3]), np.array([4])]), "ids"),
    (np.array([[2, 3], [4, 0]]), "ids"),
    (Ragged.from_list([np.zeros((2, 3)), np.zeros((1, 3))]), "words"),
    (np.zeros((2, 4, 3)), "words"),
    (np.zeros((2, 4)), "vectors"),
    (torch.zeros(2, 4), "vectors"),
])  # fmt: skip
def test_the_form_of_texts(values, form):
    assert text_form(values) == form


# ---- embedding ---------------------------------------------------------------------------------


def test_ids_are_embedded_with_zeros_in_the_padding():
    torch.manual_seed(0)
    embedding = WordEmbedding(10, 4)
    weight = embedding.embedding.weight
    assert weight.abs().max() <= 0.1 and weight.abs().max() > 0.09
    items = store(np.array([[3, 4, 5], [6, 0, 0]])).take(torch.arange(2))
    words, mask = embedding(items)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    torch.testing.assert_close(words[0], weight[[3, 4, 5]])
    torch.testing.assert_close(words[1, 0], weight[6])
    assert not words[1, 1:].any()
    words.sum().backward()
    assert not weight.grad[0].any()


def test_given_vectors_are_the_first_ones_and_may_be_fixed():
    vectors = np.arange(12.0).reshape(4, 3)
    fixed = WordEmbedding(4, vectors=vectors, trainable=False)
    assert fixed.width == 3 and not fixed.embedding.weight.requires_grad
    words, _ = fixed(Items(torch.tensor([[2, 1]])))
    assert words[0].tolist() == [[6, 7, 8], [3, 4, 5]]
    assert WordEmbedding(4, vectors=vectors).embedding.weight.requires_grad
    for wrong in (vectors[:2], vectors * np.nan):
        with pytest.raises(ValueError, match=r"vectors must be finite numbers of shape \(4, 3\)"):
            WordEmbedding(4, 3, vectors=wrong)


def test_word_vectors_are_standardised_before_the_padding_is_cleared():
    rows, items = _batch([3, 1, 0])
    embedding = WordEmbedding(5, standardize=True)
    assert embedding.scaling.view == "text"
    embedding.scaling.fit([items])
    words, mask = embedding(Items(torch.where(items.mask[..., None], items.values, 99.0),
                                  items.mask))  # fmt: skip
    expected = (rows.values - rows.values.mean(axis=0)) / rows.values.std(axis=0)
    np.testing.assert_allclose(words[mask], expected, atol=1e-5)
    assert not words[~mask].any()


def test_word_dropout_replaces_words_in_training_only():
    torch.manual_seed(0)
    ids = WordEmbedding(5, 3, word_dropout=0.4)
    items = Items(torch.full((200, 10), 3), torch.arange(10).repeat(200, 1) < 7)
    ids.eval()
    torch.testing.assert_close(ids(items)[0][:, :7], ids.embedding.weight[3].expand(200, 7, 3))
    ids.train()
    words, mask = ids(items)
    torch.testing.assert_close(mask, items.mask)
    unknown = (words == ids.embedding.weight[1]).all(dim=-1)
    known = (words == ids.embedding.weight[3]).all(dim=-1)
    assert torch.equal(unknown | known, mask)
    assert unknown[mask].float().mean().item() == pytest.approx(0.4, abs=0.05)
    vectors = WordEmbedding(2, word_dropout=0.4).train()
    found, _ = vectors(Items(torch.ones(200, 10, 2), items.mask))
    assert (found[mask] == 0).all(dim=-1).float().mean().item() == pytest.approx(0.4, abs=0.05)


# ---- states ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", ["forward", "mean", "sum", "concat"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_states_are_those_of_each_text_alone(cell, directions, n_layers):
    torch.manual_seed(0)
    recurrent = Recurrent(5, 4, cell=cell, directions=directions, n_layers=n_layers)
    lengths = [4, 1, 6, 2]
    rows, items = _batch(lengths)
    values = torch.where(items.mask[..., None], items.values, torch.nan)  # never read
    states, last = recurrent(values, items.mask)
    torch.testing.assert_close(recurrent.last(values, items.mask), last)
    assert states.shape == (4, 6, recurrent.width) and last.shape == (4, recurrent.width)
    for i, n in enumerate(lengths):
        out, _ = recurrent.rnn(torch.as_tensor(np.array(rows[i]))[None])
        if directions == "forward":
            own, end = out[0], out[0, -1]
        else:
            forward, backward = out[0].chunk(2, dim=1)
            parts = [(forward, backward), (forward[-1], backward[0])]
            own, end = ({"mean": (a + b) / 2, "sum": a + b, "concat": torch.cat([a, b], dim=-1)}
                        [directions] for a, b in parts)  # fmt: skip
        torch.testing.assert_close(states[i, :n], own)
        torch.testing.assert_close(last[i], end)
        assert not states[i, n:].any()


def test_the_order_of_words_matters_and_that_of_texts_does_not():
    torch.manual_seed(0)
    recurrent = Recurrent(5, 4, cell="gru")
    _, items = _batch([3, 5, 2])
    _, last = recurrent(items.values, items.mask)
    at = torch.tensor([2, 0, 1])
    torch.testing.assert_close(recurrent(items.values[at], items.mask[at])[1], last[at])
    turned = items.values.clone()
    turned[1] = turned[1].flip(0)
    moved = recurrent(turned, items.mask)[1]
    assert (moved[1] - last[1]).abs().max() > 1e-3
    torch.testing.assert_close(moved[[0, 2]], last[[0, 2]])


def test_a_text_without_words_is_one_word_of_zeros():
    recurrent = Recurrent(5, 4)
    _, items = _batch([0, 2])
    words, mask = WordEmbedding(5)(items)
    expected = recurrent.rnn(torch.zeros(1, 1, 5))[0][0, 0]
    torch.testing.assert_close(recurrent(words, mask)[1][0], expected)


def test_mistakes_in_parameters():
    for make in (
        lambda: Recurrent(5, 0),
        lambda: Recurrent(5, 3, cell="bert"),
        lambda: Recurrent(5, 3, directions="both"),
        lambda: WordEmbedding(5, 3, word_dropout=1.0),
        lambda: WordEmbedding(5, 0),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()


# ---- estimators --------------------------------------------------------------------------------


class _Reader(SentenceEstimator):
    def __init__(self, *, max_words=None, min_count=1, **kwargs):
        super().__init__(**kwargs)
        self.max_words = max_words
        self.min_count = min_count


def _fitted(texts, **settings):
    reader = _Reader(**settings)
    views = Views(image=np.zeros((len(texts), 2)), text=texts)
    reader.views_in_ = {"image": "image", "text": "text"}
    reader._fit_features(views, None)
    return reader


def test_strings_become_ids_of_the_training_words():
    texts = np.array(["a cat", "a dog here", "a"], dtype=object)
    reader = _fitted(texts, max_words=2)
    assert reader.text_form_ == "strings"
    assert reader.vocabulary_ == ("<pad>", "<unk>", "a", "cat", "dog")
    with pytest.warns(UserWarning, match="1 of 3 words are unknown"):
        ids = reader._features(np.array(["dog a dog", "mouse"], dtype=object), "text")
    assert [row.tolist() for row in ids] == [[4, 2], [1]]
    with pytest.raises(ValueError, match="_Reader: view 'text' was fitted on strings, got word "):
        reader._features(np.zeros((2, 3, 4)), "text")
    other = _Reader(max_words=2)
    other._restore_features(*reader._features_state())
    assert other.vocabulary_ == reader.vocabulary_ and other.text_form_ == "strings"


def test_ids_and_word_vectors_are_cut_after_max_words():
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 2 words"):
        ids = _fitted(np.array([[2, 3, 4], [5, 0, 0]]), max_words=2)._features(
            np.array([[2, 3, 4], [5, 0, 0]]), "text"
        )
    assert ids.tolist() == [[2, 3, 0], [5, 0, 0]]
    vectors = np.ones((2, 4, 3))
    vectors[0, 3] = vectors[1, 1:] = 0
    reader = _fitted(vectors, max_words=2)
    assert reader.text_form_ == "words"
    assert reader._features(vectors, "text").lengths.tolist() == [2, 1]
    assert _fitted(vectors)._features(vectors, "text").lengths.tolist() == [3, 1]


def test_zero_vectors_between_words_are_words():
    vectors = np.ones((3, 3, 2))
    vectors[0, 1] = vectors[1, 1:] = vectors[2] = 0
    rows = without_padding(vectors)
    assert rows.lengths.tolist() == [3, 1, 0]
    assert without_padding(rows) is rows


@pytest.mark.filterwarnings("ignore:.*(unknown|more than 2 words)")
def test_the_words_that_are_read_have_names():
    texts = np.array(["a cat", "a dog here", "a"], dtype=object)
    reader = _fitted(texts, max_words=2)
    said = reader._words_of(np.array(["a dog here", "mouse", ""], dtype=object))
    assert [row.tolist() for row in said] == [["a", "dog"], ["<unk>"], ["<unk>"]]
    ids = Ragged.from_list([np.array([2, 3, 2]), np.array([9])])
    reader = _fitted(ids, max_words=2)
    assert reader._words_of(ids) is None
    known = Ragged(ids.values, ids.offsets, {"vocabulary": ("<pad>", "<unk>", "x", "y")})
    assert [row.tolist() for row in reader._words_of(known)] == [["x", "y"], ["<unk>"]]
    vectors, words = np.ones((3, 4)), np.array(["p", "q", "r"])
    reader = _fitted(Ragged(vectors, np.array([0, 3, 3])), max_words=2)
    assert reader._words_of(Ragged(vectors, np.array([0, 3, 3]))) is None
    said = reader._words_of(Ragged(vectors, np.array([0, 3, 3]), {"words": words}))
    assert [row.tolist() for row in said] == [["p", "q"], []]
