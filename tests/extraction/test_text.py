"""LdaTopics and Tokens: the recipe, repeatability and the rules of token ids."""

import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from crossfit.extraction import Characters, Doc2VecFeatures, LdaTopics, Tokens, WordVectors
from crossfit.views import Ragged

ANIMALS = ["cat", "dog", "horse", "sheep", "cow", "goat"]
MACHINES = ["engine", "wheel", "brake", "clutch", "piston", "valve"]
LETTERS = "abcdefghij"


def corpus(n=120, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice((ANIMALS, MACHINES)[i % 2], 8)) for i in range(n)]


@pytest.fixture(scope="module")
def lda():
    return LdaTopics(2, passes=5, no_below=2).fit(corpus())


def test_topics_separate_what_is_separate(lda):
    topics = lda.transform(corpus(40, seed=1))
    winner = topics.argmax(1)
    assert len(set(winner[::2])) == len(set(winner[1::2])) == 1
    assert winner[0] != winner[1]
    assert topics.max(1).min() > 0.8


def test_rows_are_distributions(lda):
    topics = lda.transform(corpus())
    assert topics.dtype == np.float32
    assert topics.shape == (120, 2) == (120, lda.n_features_out_)
    assert (topics >= 0).all()
    np.testing.assert_allclose(topics.sum(1), 1, rtol=1e-6)


def test_repeatable_in_any_order_and_company(lda):
    texts = [*corpus(50, seed=2), "cat engine", "dog wheel brake"]
    expected = lda.transform(texts)
    np.testing.assert_array_equal(lda.transform(texts), expected)
    np.testing.assert_array_equal(lda.transform(texts[::-1])[::-1], expected)
    np.testing.assert_array_equal(
        np.concatenate([lda.transform([text]) for text in texts]), expected
    )
    again = clone(lda).fit(corpus())
    np.testing.assert_array_equal(again.word_counts_, lda.word_counts_)
    np.testing.assert_array_equal(again.transform(texts), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lda)).transform(texts), expected)


def test_seeds():
    texts = corpus(30)
    make = lambda state: LdaTopics(3, 1, no_below=1, random_state=state).fit(texts)  # noqa: E731
    assert make(1).seed_ == make(1).seed_ == make(np.random.RandomState(1)).seed_
    assert make(1).seed_ != make(2).seed_
    assert make(None).seed_ != make(None).seed_


def test_it_is_gensims_lda():
    """Return gensim's result on the same bags of words with the same seed."""
    from gensim.models import LdaModel

    texts = corpus(60)
    ours = LdaTopics(3, passes=4, no_below=1).fit(texts)
    ids = {word: i for i, word in enumerate(ours.vocabulary_)}
    bags = [sorted({ids[w]: text.split().count(w) for w in text.split()}.items()) for text in texts]
    model = LdaModel(
        bags, 3, dict(enumerate(ours.vocabulary_)), passes=4, random_state=ours.seed_,
        eval_every=None,
    )  # fmt: skip
    np.testing.assert_array_equal(model.state.sstats, ours.word_counts_)
    theirs = [model.get_document_topics(bag, minimum_probability=0) for bag in bags]
    np.testing.assert_allclose(
        ours.transform(texts), [[p for _, p in row] for row in theirs], atol=0.02
    )


def test_cutting_small_topics():
    texts = corpus()
    whole = LdaTopics(8, 2, no_below=1).fit(texts).transform(texts)
    cut = LdaTopics(8, 2, 0.05, no_below=1).fit(texts).transform(texts)
    assert (whole < 0.05).any()
    np.testing.assert_array_equal(cut, np.where(whole < 0.05, 0, whole))


def test_unknown_words_give_the_prior(lda):
    with pytest.warns(UserWarning, match="2 of 3 texts hold no word of the vocabulary"):
        topics = lda.transform(["zebra", "cat dog", ""])
    assert topics[[0, 2]].tolist() == [[0.5, 0.5]] * 2
    assert topics[1, 0] != 0.5


def test_the_words_of_the_recipe():
    texts = ["The CATS are naïve: 3cats ox cats_ 42 elephants!"] * 2
    assert LdaTopics(2, 1, no_below=2, no_above=1.0).fit(texts).vocabulary_ == ("cats", "elephants")
    lemma = {"cats": "cat", "elephants": "elephant"}
    lemmatized = LdaTopics(2, 1, no_below=2, no_above=1.0, lemmatizer=lambda w: lemma.get(w, w))
    assert lemmatized.fit(texts).vocabulary_ == ("cat", "elephant")


def test_extremes_are_filtered_as_gensim_does():
    from gensim.corpora import Dictionary

    texts = [" ".join(word for k, word in enumerate(ANIMALS, 1) if i % k == 0) for i in range(30)]
    theirs = Dictionary(text.split() for text in texts)
    theirs.filter_extremes(no_below=7, no_above=0.5)
    ours = LdaTopics(2, 1, no_below=7, no_above=0.5).fit(texts)
    assert ours.vocabulary_ == tuple(sorted(theirs.token2id)) != ()


def test_lda_refuses(lda):
    with pytest.raises(ValueError, match=r"no_below=20 and at most no_above=50% of the 2 training"):
        LdaTopics().fit(["a cat", "a dog"])
    with pytest.raises(ValueError, match="'n_topics' parameter of LdaTopics must be an int"):
        LdaTopics(1).fit(corpus())


@pytest.mark.data
def test_topics_of_real_captions():
    root = os.environ.get("CROSSFIT_DATA")
    file = Path(root or "", "flickr8k", "Flickr8k_text", "Flickr8k.token.txt")
    if not root or not file.exists():
        pytest.skip("needs flickr8k in CROSSFIT_DATA")
    texts = [line.split("\t")[1] for line in file.read_text().splitlines()[:5000]]
    lda = LdaTopics(passes=3).fit(texts)
    kept = [t for t in texts[:500] if set(lda._words(t)) & set(lda.vocabulary_)]
    topics = lda.transform(kept)
    np.testing.assert_allclose(topics.sum(1), 1, rtol=1e-5)
    # Captions of one picture (five consecutive lines) are more similar than those of others.
    first, second = topics[0:-1:5], topics[1::5]
    same = np.minimum(first, second).sum(1).mean()
    different = np.minimum(first, np.roll(second, 1, axis=0)).sum(1).mean()
    assert same > 1.5 * different


def test_tokens_count_and_order():
    tokens = Tokens(min_count=2).fit(["b a a", "b c", "A B c, d!"])
    assert tokens.vocabulary_ == ("<pad>", "<unk>", "a", "b", "c")
    got = tokens.transform(["d a", "", "<pad> c <unk>", "B"])
    assert isinstance(got, Ragged)
    assert got.dtype == np.int64
    assert [row.tolist() for row in got] == [[1, 2], [1], [1, 4, 1], [3]]
    assert got.info["vocabulary"] == tokens.vocabulary_
    assert got[[2]].info["vocabulary"] == tokens.vocabulary_


def test_tokens_case():
    tokens = Tokens(min_count=1, lowercase=False).fit(["a A"])
    assert tokens.vocabulary_ == ("<pad>", "<unk>", "A", "a")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(LETTERS), max_size=7).map(" ".join), min_size=1, max_size=8),
    st.none() | st.integers(1, 5),
)
def test_tokens_against_a_plain_loop(texts, max_length):
    train = [" ".join(LETTERS[:6])] * 2
    tokens = Tokens(max_length, min_count=2).fit(train)
    expected = []
    for text in texts:
        words = text.split()[:max_length]
        expected.append(
            [tokens.vocabulary_.index(w) if w in tokens.vocabulary_ else 1 for w in words] or [1]
        )
    ragged = tokens.transform(texts)
    assert [row.tolist() for row in ragged] == expected
    assert ragged.values.min() >= 1
    padded = clone(tokens).set_params(output="padded").fit(train).transform(texts)
    width = min(6, max_length or 6)
    assert padded.dtype == np.int64
    assert padded.tolist() == [(row + [0] * width)[:width] for row in expected]


def test_tokens_refuse():
    with pytest.raises(ValueError, match="no word occurs min_count=3 times in the 2 training"):
        Tokens(min_count=3).fit(["a b", "a"])
    with pytest.raises(ValueError, match="'output' parameter of Tokens"):
        Tokens(output="list").fit(["a a"])
    with pytest.raises(TypeError, match=r"Tokens expects texts .*, got list of 2 int"):
        Tokens().fit([1, 2])


# -- unknown words, and values that are not texts --------------------------------------------------

TRAINING = ["cats purr and cats sleep", "engines roar and cars race"] * 3


def fitted():
    return [
        LdaTopics(2, 1, no_below=1, no_above=1.0),
        Tokens(min_count=1),
        Doc2VecFeatures(4, epochs=2, min_count=1),
        WordVectors(vector_size=4, epochs=1, min_count=1),
        Characters(30),
    ]


@pytest.mark.parametrize("extractor", fitted(), ids=lambda e: type(e).__name__)
def test_texts_of_which_nothing_is_known_are_counted(extractor):
    extractor.fit(TRAINING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor.transform(["cats purr", "engines roar", "cats purr"])
    of_characters = isinstance(extractor, Characters)
    unknown = "猫" if of_characters else "zebra"
    with pytest.warns(UserWarning) as caught:
        extractor.transform([unknown, "cats purr", unknown, f"{unknown} cats cats"])
    (warning,) = caught
    assert re.match(r"2 of 4 texts hold no (word|character)", str(warning.message))
    assert "(50%): " in str(warning.message)
    of = "22 characters" if of_characters else "7 words"
    assert re.search(
        rf"; 3 of {of}.* are unknown \(\d+%\), in 3 of 4 texts \(75%\)$", str(warning.message)
    )
    texts = [f"{unknown}{unknown}a" if of_characters else "zebra okapi cats"] * 2
    with pytest.warns(UserWarning, match=r"^4 of 6 \w+.* are unknown \(67%\), in 2 of 2 texts"):
        extractor.transform(texts)


@pytest.mark.parametrize("extractor", fitted(), ids=lambda e: type(e).__name__)
def test_lone_surrogates_are_the_replacement_character(extractor):
    lone, plain = "cats \udcef purr\ud800", "cats \ufffd purr\ufffd"
    extractor.fit([*TRAINING, lone])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ours, theirs in zip(
            extractor.transform([lone, "\udcef"]), extractor.transform([plain, "\ufffd"])
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert extractor._as_items(["\ud83d\ude00", "a\udcef", "naïve 😀"]) == [
        "😀",
        "a\ufffd",
        "naïve 😀",
    ]
