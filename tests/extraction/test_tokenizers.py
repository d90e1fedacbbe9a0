"""Tokenizers: words of any script, texts without spaces from fit to bundle, and messages."""

import inspect
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossfit
from crossfit import BundleError, Views, ViewTransformer, registry
from crossfit.extraction import (
    Characters,
    Doc2VecFeatures,
    LdaTopics,
    TextExtractor,
    Tokens,
    WordVectors,
)
from crossfit.extraction.tokenizers import TOKENIZERS, cut
from crossfit.methods import CCA, HGLMMCCA
from crossfit.metrics import mean_average_precision
from crossfit.persistence.files import signed

WORD = re.compile(r"\w+")


def chinese(n=240, n_topics=4, seed=0):
    """Return texts without spaces, their topics and vectors that share the topic."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(99).integers(0x4E00, 0x9FA5, (n_topics, 12, 2))
    common = "的了在是我有"
    y = np.arange(n) % n_topics
    texts = []
    for topic in y:
        clauses = []
        for _ in range(3):
            drawn = words[topic, rng.integers(0, 12, rng.integers(4, 8))]
            clauses.append("".join(common[rng.integers(6)] + "".join(map(chr, w)) for w in drawn))
        texts.append("，".join(clauses) + "。")
    vectors = np.eye(n_topics)[y] + 0.1 * rng.normal(size=(n, n_topics))
    return texts, y, vectors.astype(np.float32)


EXTRACTORS = {
    "Tokens": Tokens(),
    "WordVectors": WordVectors(output="mean", vector_size=8, epochs=5),
    "Doc2VecFeatures": Doc2VecFeatures(8, epochs=40, dm=False),
    "LdaTopics": LdaTopics(4, passes=10, no_below=3),
}
of_each = pytest.mark.parametrize("name", EXTRACTORS)


def made(name, **params):
    from sklearn.base import clone

    return clone(EXTRACTORS[name]).set_params(**params)


@pytest.mark.parametrize(
    ("text", "auto", "characters", "bigrams"),
    [
        ("a red dog_1, ok", "a red dog_1 ok", "a r e d d o g _ 1 o k", "a re ed do og g_ _1 ok"),
        ("我喜欢jazz音乐，好", "我喜 喜欢 jazz 音乐 好", "我 喜 欢 j a z z 音 乐 好",
         "我喜 喜欢 欢j ja az zz z音 音乐 好"),
        ("カメラ・の", "カメ メラ の", "カ メ ラ の", "カメ メラ の"),
        ("हिन्दी में", "हिन्दी में", "हि न् दी में", "हिन् न्दी में"),
        ("สวัสดี", "สวั วัส สดี", "ส วั ส ดี", "สวั วัส สดี"),
        ("한국어 문장", "한국어 문장", "한 국 어 문 장", "한국 국어 문장"),
        ("größe cafe\u0301", "größe café", "g r ö ß e c a f é", "gr rö öß ße ca af fé"),
        ("می\u200cخواهم", "می\u200cخواهم", "م ی\u200c خ و ا ه م", "می\u200c ی\u200cخ خو وا اه هم"),
        ("❤️ 👩‍🚀 !", "", "", ""),
        ("𠀀𠀁𠀂", "𠀀𠀁 𠀁𠀂", "𠀀 𠀁 𠀂", "𠀀𠀁 𠀁𠀂"),
    ],
)  # fmt: skip
def test_words_of_every_script(text, auto, characters, bigrams):
    assert cut(text, "auto", "x") == auto.split()
    assert cut(text, "characters", "x") == characters.split()
    assert cut(text, "bigrams", "x") == bigrams.split()
    assert cut(text, "words", "x") == WORD.findall(text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F)))
def test_latin_letters_are_cut_as_in_0_1(text):
    assert cut(text, "auto", "x") == cut(text, "words", "x") == WORD.findall(text)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_every_tokenizer_takes_every_text(text):
    for name in TOKENIZERS:
        words = cut(text, name, "x")
        assert all(words)
        assert sum(map(len, words)) <= 2 * len(text) * 3


@of_each
@pytest.mark.parametrize("tokenizer", ["auto", "characters", list])
def test_texts_without_spaces_have_a_vocabulary(name, tokenizer):
    texts, y, vectors = chinese()
    features = made(name, tokenizer=tokenizer)
    assert len(features.fit(texts).vocabulary_) > 40
    if name == "Tokens":
        return
    # One from the other is found far above chance, which is 1/4.
    views = Views(image=vectors, text=texts)
    found = ViewTransformer([("text", features)]).fit(views[:160])
    method = CCA(reg=0.1).fit(found.transform(views[:160]))
    scores = method.similarity(found.transform(views[160:]))
    assert mean_average_precision(scores, y[160:], y[160:]) > 0.6


def test_topics_of_chinese_separate_topics():
    texts, y, _ = chinese()
    winner = made("LdaTopics", n_topics=8).fit(texts).transform(texts).argmax(1)
    largest = [np.bincount(y[winner == k], minlength=4).max() for k in range(8)]
    assert sum(largest) / len(y) > 0.9


def test_a_network_of_words_reads_chinese():
    texts, y, vectors = chinese()
    words = WordVectors(tokenizer="characters", vector_size=12, epochs=5)
    method = HGLMMCCA(4, words=words, mixture_size=1).fit(vectors[:160], texts[:160])
    scores = method.similarity(vectors[160:], texts[160:])
    assert mean_average_precision(scores, y[160:], y[160:]) > 0.6
    assert method.words_.tokenizer == "characters"


@of_each
def test_a_bundle_cuts_queries_as_the_training_texts(name, tmp_path):
    texts, _, _ = chinese(80)
    fitted = made(name, tokenizer="characters").fit(texts)
    restored = crossfit.load(crossfit.save(fitted, tmp_path / "model"))
    assert restored.tokenizer == "characters"
    for ours, theirs in zip(restored.transform(texts), fitted.transform(texts)):
        np.testing.assert_array_equal(ours, theirs)


@of_each
def test_a_bundle_of_0_1_has_words_that_are_runs_of_letters(name, tmp_path):
    texts = ["我喜欢 jazz 音乐会", "他喜欢 rock 音乐会"] * 10
    fitted = made(name, tokenizer="words").set_params(
        **({"no_above": 1.0} if name == "LdaTopics" else {})
    )
    expected = list(fitted.fit(texts).transform(texts))
    manifest = crossfit.save(fitted, tmp_path / "model") / "manifest.json"
    content = json.loads(manifest.read_text())
    content.pop("sha256")
    del content["model"]["params"]["tokenizer"]  # which 0.1.0 did not have
    manifest.write_bytes(signed(content))
    restored = crossfit.load(tmp_path / "model")
    assert restored.tokenizer == "words"
    assert restored.vocabulary_ == fitted.vocabulary_
    for ours, theirs in zip(restored.transform(texts), expected):
        np.testing.assert_array_equal(ours, theirs)


@of_each
def test_functions_are_for_python_only(name, tmp_path):
    texts, _, _ = chinese(40)
    fitted = made(name, tokenizer=list).fit(texts)
    with pytest.raises(BundleError, match=r"model\.tokenizer is .*list"):
        crossfit.save(fitted, tmp_path / "model")
    for wrong in (lambda text: text, lambda text: None, lambda text: [1]):
        with pytest.raises(TypeError, match=f"{name}: tokenizer must return a list of the words"):
            made(name, tokenizer=wrong).fit(texts)
    with pytest.raises(ValueError, match=f"'tokenizer' parameter of {name} must be"):
        made(name, tokenizer="jieba").fit(texts)


def test_a_function_may_return_the_names_of_special_ids():
    fitted = Tokens(min_count=1, tokenizer=str.split).fit(["<pad> a <unk>"])
    assert fitted.transform(["<pad> a <unk> b"])[0].tolist() == [
        fitted.vocabulary_.index("<pad>", 2), fitted.vocabulary_.index("a"),
        fitted.vocabulary_.index("<unk>", 2), 1,
    ]  # fmt: skip


# -- English or not ------------------------------------------------------------------------------


ENGLISH = ["The naïve café owner is in the house of a friend from 北京 and Zürich"] * 3
GERMAN = ["Die größte Straße führt über die Brücke nach Köln und zurück zum Gebäude"] * 3
RUSSIAN = ["Большая собака бежит по улице и лает на чёрную кошку у дома"] * 3


def topic_words(texts, **params):
    return LdaTopics(2, 1, no_below=2, no_above=1.0, **params).fit(texts).vocabulary_


def test_topics_of_english_have_the_words_of_the_recipe():
    for tokenizer in ("auto", "words"):
        assert topic_words(ENGLISH, tokenizer=tokenizer) == ("friend", "house", "owner")


def test_topics_of_other_languages_have_their_letters():
    german, russian = topic_words(GERMAN), topic_words(RUSSIAN)
    assert {"größte", "straße", "brücke", "gebäude", "nach"} <= set(german)
    assert {"большая", "собака", "чёрную"} <= set(russian) and "по" not in russian
    assert topic_words(GERMAN, tokenizer="words") == ("die", "nach", "und", "zum")
    topics = LdaTopics(2, 1, no_below=2, no_above=1.0).fit(GERMAN)
    assert topics._count_known(["größte Straße 42 ab"]) == [(2, 2)]
    pairs = topic_words(["a bc1 dé"] * 2, tokenizer="bigrams")
    assert pairs == ("bc", "dé")


# -- what is reported ------------------------------------------------------------------------------


@of_each
def test_texts_that_cannot_be_cut_are_the_reason_that_is_given(name):
    texts, _, _ = chinese(80)
    with pytest.raises(ValueError, match="set tokenizer='auto'") as caught:
        made(name, tokenizer="words").fit(texts)
    assert str(caught.value).startswith(f"{name}: no word occurs ")


def test_the_reason_why_there_are_no_topics():
    with pytest.raises(ValueError, match=r"'cats', occurs in 2; reduce no_below$"):
        LdaTopics(no_below=3).fit(["cats purr", "cats race", "dogs"])
    with pytest.raises(ValueError, match=r"'cats', occurs in 3; increase no_above$"):
        LdaTopics(no_below=1, no_above=0.3).fit(["cats", "cats", "cats"])
    with pytest.raises(ValueError, match=r"there are no words of the kind .*; pass texts with"):
        LdaTopics(no_below=1).fit(["1 2", "3"])
    with pytest.raises(ValueError, match=r"'b', occurs in 1; reduce min_count$"):
        Tokens().fit(["a", "b"])


def test_unknown_texts_are_reported_with_a_remedy():
    texts, _, _ = chinese(80)
    spaced = ["，".join(text[i : i + 4] for i in range(0, 16, 4)) for text in texts]
    tokens = Tokens(tokenizer="words", min_count=1).fit(spaced[:40])
    with pytest.warns(UserWarning, match="; tokenizer='words' cuts .*; set tokenizer='auto'$"):
        tokens.transform(spaced[40:])
    with pytest.warns(UserWarning, match="; fit on more texts of the same language"):
        Tokens(min_count=1).fit(["ab cd"]).transform(["ef gh ab"])
    with pytest.warns(UserWarning, match=r"; the alphabet is that of English; .*Tokens\("):
        Characters().fit(texts).transform(texts)


def test_an_extractor_without_tokenizer_has_no_remedy():
    class Lengths(TextExtractor):
        def _count_known(self, texts):
            return [(0, 1) for _ in texts]

        def _extract(self, batch):
            return np.array([[len(text)] for text in batch])

    with pytest.warns(UserWarning, match=r"in 1 of 1 texts \(100%\)$"):
        Lengths().fit_transform(["a"])


# ---- every extractor of texts in the registry ----------------------------------------------------

#: Extractors of texts without a parameter ``tokenizer``, and the reasons.
NOT_BY_WORDS = {
    "acln-features": "its ACLN has the parameter, see below",
    "characters": "it has the alphabet of its paper, and no words",
    "minilm": "its weights belong to the tokenizer of the model",
    "openclip": "its weights belong to the tokenizer of the model",
    "sentence-transformers": "its weights belong to the tokenizer of the model",
    "transformers": "its weights belong to the tokenizer of the model",
}
SEGMENTS = {
    "Chinese": ("我喜欢音乐 我喜欢苹果 他喜欢音乐 他不喜欢苹果", "我 他 不 喜欢 音乐 苹果"),
    "Thai": ("ผมชอบกินข้าว เขาชอบกินข้าว ผมชอบดนตรี เขาไม่ชอบดนตรี", "ผม เขา ไม่ ชอบ กิน ข้าว ดนตรี"),
}


def segmenter(words):
    """Return a function that cuts a text into known words, the longest first."""
    known = re.compile("|".join(sorted(words, key=len, reverse=True)))
    return known.findall


def of_texts():
    """Return the names of all extractors that take strings."""
    cards = {
        entry.name: registry.get(entry.name, group="crossfit.extractors")
        for entry in registry.entries("crossfit.extractors")
    }
    return [name for name, card in cards.items() if "strings" in card.inputs]


def flat(features):
    """Return features as an array, also if they are sequences."""
    return np.asarray(getattr(features, "values", features), np.float64)


@pytest.mark.parametrize("language", SEGMENTS)
@pytest.mark.parametrize("name", of_texts())
def test_every_extractor_of_texts_uses_a_segmenter(name, language):
    card = registry.get(name, group="crossfit.extractors")
    cls = registry.load(name, group="crossfit.extractors")
    takes_it = "tokenizer" in inspect.signature(cls).parameters
    if name in NOT_BY_WORDS:
        assert not takes_it, "leave it out of NOT_BY_WORDS"
        pytest.skip(NOT_BY_WORDS[name])
    assert takes_it, f"{name} needs a parameter tokenizer, or a reason in NOT_BY_WORDS"
    texts, words = (part.split() for part in SEGMENTS[language])
    least = {"lda": {"no_below": 1, "no_above": 1.0}}.get(name, {"min_count": 1})
    made = {
        kind: cls(**{**card.test_params, **least, "tokenizer": kind}).fit(texts * 5)
        for kind in (segmenter(words), "characters", "bigrams", "auto")
    }
    by_segments, by_characters, by_pairs, by_default = made.values()
    assert set(words) <= set(by_segments.vocabulary_) and "喜" not in by_segments.vocabulary_
    assert set(by_segments.vocabulary_) != set(by_default.vocabulary_)
    assert set(by_characters.vocabulary_) != set(by_pairs.vocabulary_)
    features = [flat(each.transform(texts)) for each in made.values()]
    assert features[0].shape != features[3].shape or not np.allclose(features[0], features[3])
    assert features[1].shape != features[2].shape or not np.allclose(features[1], features[2])
    with pytest.raises(ValueError, match="tokenizer"):
        cls(**{**card.test_params, "tokenizer": "jieba"}).fit(texts)
    with pytest.raises(TypeError, match="tokenizer must return a list of the words"):
        cls(**{**card.test_params, "tokenizer": len}).fit(texts)


def test_reasons_are_of_extractors_of_texts():
    installed = {entry.name for entry in registry.entries("crossfit.extractors")}
    assert set(NOT_BY_WORDS) & installed <= set(of_texts())


def test_the_acln_of_its_features_uses_a_segmenter():
    pytest.importorskip("torch")
    features = pytest.importorskip("crossfit_acln.features", reason="a plugin")
    texts, words = (part.split() for part in SEGMENTS["Chinese"])
    rng = np.random.default_rng(0)
    views = Views(image=rng.random((20, 4, 6)).astype(np.float32), text=texts * 5)
    y = np.arange(20) % 2
    found = {}
    for kind in (segmenter(words), "auto"):
        params = {"width": 8, "max_epochs": 1, "device": "cpu", "min_count": 1, "tokenizer": kind}
        fitted = features.ACLNFeatures(params, random_state=0).fit(views, y)
        found[kind] = (set(fitted.acln_.vocabulary_), fitted.transform(views)["text"])
    (own, vectors), (other, more) = found.values()
    assert set(words) <= own and own != other and not np.allclose(vectors, more)
