"""Text features: topics and token ids. For bag of words and TF-IDF use scikit-learn's own."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._random import draw_seed
from crossfit._warnings import warn
from crossfit.extraction.base import Extractor, describe, sequence_of
from crossfit.views import Ragged

__all__ = ["LdaTopics", "TextExtractor", "Tokens"]

WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[a-z]+")


class TextExtractor(Extractor):
    """Base of extractors of text; `_extract` gets a list of strings.

    Items are strings, in a list, tuple, one-dimensional array or pandas column. Halves of
    surrogate pairs, which stand for no character, become U+FFFD, the replacement character.

    An extractor with a vocabulary writes `_count_known` too. A warning is given if a text holds
    nothing that the vocabulary does, because all such texts look the same to the extractor, or if
    a larger share of the words of all texts than `tolerated_unknown` is unknown.
    """

    expects = "texts (a list or column of strings)"

    units: ClassVar[tuple[str, str]] = ("word", "words")
    """What the vocabulary holds, one and many, as warnings call it."""

    unknown_become: ClassVar[str] = ""
    """What texts become of which nothing is known, as the warning puts it."""

    tolerated_unknown: ClassVar[float] = 0.5
    """Largest share of words that may be unknown without a warning."""

    def _count_known(self, texts: list[str]) -> Sequence[tuple[int, int]] | None:
        """Return, for each text, how many of its words are known and how many it has."""
        return None

    def _as_items(self, X: Any) -> list[str]:
        owner = type(self).__name__
        if isinstance(X, str):
            raise TypeError(f"{owner} expects {self.expects}, got a single str: put it in a list")
        items = sequence_of(X, self.expects, owner)
        for item in items:
            if not isinstance(item, str):
                raise TypeError(f"{owner} expects {self.expects}, got {describe(X, item)}")
        return [_characters(item) for item in items]

    def _content(self, item: str) -> bytes:
        return b"text " + item.encode()

    def _survey(self, items: list[str]) -> None:
        distinct = list(dict.fromkeys(items))
        counts = self._count_known(distinct)
        if counts is None:
            return
        of = dict(zip(distinct, counts))
        known, total = np.array([of[text] for text in items]).T
        if (known == 0).any() or (total - known).sum() > self.tolerated_unknown * total.sum():
            warn(unknown_of(known, total, self.units, self.unknown_become))


def unknown_of(
    known: NDArray[Any],
    total: NDArray[Any],
    units: tuple[str, str],
    become: str,
    things: str = "texts",
) -> str:
    """Return the warning of what a vocabulary lacks.

    Parameters
    ----------
    known, total : int ndarray of shape (n,)
        Known words of each text, and all of them.
    units : tuple of str
        What is counted, one and many.
    become : str
        What texts become of which nothing is known.
    things : str
        What the texts are called.
    """
    n, nothing, unknown = len(total), int((known == 0).sum()), int((total - known).sum())
    parts = []
    if nothing:
        parts = [f"{nothing} of {n} {things} hold no {units[0]} ({nothing / n:.0%}): {become}"]
    if unknown:
        concerned = int((known < total).sum())
        parts.append(
            f"{unknown} of {total.sum()} {units[1]} are unknown ({unknown / total.sum():.0%}), in "
            f"{concerned} of {n} {things} ({concerned / n:.0%})"
        )
    return "; ".join(parts)


def _characters(text: str) -> str:
    """Return a text that can be encoded: pairs of surrogates joined, lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:  # of text decoded with errors="surrogateescape", for instance
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class LdaTopics(TextExtractor):
    r"""Topic proportions of texts by latent Dirichlet allocation [1]_, with gensim.

    Words are runs of ``\w``, lower-cased, without English stop words; those of more than two
    letters a-z are kept, and of these the ones that occur in at least `no_below` documents and
    in at most a share `no_above` of them. This is the recipe of TextTopicNet [2]_.

    Inference starts from a random point that depends on the seed and the document alone, so a
    document has the same topics in every call and in any company.

    Parameters
    ----------
    n_topics : int
        Number of topics.
    passes : int
        Passes over the training texts. One is too few on short texts.
    minimum_probability : float
        Topics below this are set to 0 and the rest is left as it is. With 0, rows sum to 1.
    no_below : int
        Fewest training documents a word must occur in.
    no_above : float
        Largest share of training documents a word may occur in.
    lemmatizer : callable, optional
        ``word -> lemma``, applied after the stop words are gone.
    random_state : int, RandomState or None
        Seed of training and inference.
    verbose : {"auto", True, False}
        Progress bar of `transform`: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        The words kept, in alphabetical order.
    word_counts_ : float32 ndarray of shape (n_topics, n_words)
        Expected number of times each topic gave each word in training.
    seed_ : int
        What `random_state` came to.
    n_features_out_ : int
        ``n_topics``.

    Notes
    -----
    `transform` returns float32 of shape (n, n_topics). A document with no known word gets the
    prior, which is uniform, with a warning.

    References
    ----------
    .. [1] M. Hoffman, D. Blei, F. Bach: Online learning for latent Dirichlet allocation,
       NIPS 2010.
    .. [2] L. Gomez, Y. Patel, M. Rusinol, D. Karatzas, C. Jawahar: Self-supervised learning of
       visual features through embedding images into text topic spaces, CVPR 2017.

    Examples
    --------
    >>> texts = ["cats purr and cats sleep", "engines roar and cars race"] * 10
    >>> LdaTopics(2, no_below=1).fit_transform(texts).shape
    (20, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_topics": [Interval(Integral, 2, 100_000, closed="both")],
        "passes": [Interval(Integral, 1, 1_000_000, closed="both")],
        "minimum_probability": [Interval(Real, 0, 1, closed="left")],
        "no_below": [Interval(Integral, 1, None, closed="left")],
        "no_above": [Interval(Real, 0, 1, closed="right")],
        "lemmatizer": [callable, None],
        "random_state": ["random_state"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        n_topics: int = 40,
        passes: int = 10,
        minimum_probability: float = 0.0,
        no_below: int = 20,
        no_above: float = 0.5,
        lemmatizer: Callable[[str], str] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        *,
        verbose: bool | str = "auto",
    ) -> None:
        self.n_topics = n_topics
        self.passes = passes
        self.minimum_probability = minimum_probability
        self.no_below = no_below
        self.no_above = no_above
        self.lemmatizer = lemmatizer
        self.random_state = random_state
        self.verbose = verbose

    def _n_outputs(self) -> int:
        return self.n_topics

    def _words(self, text: str) -> list[str]:
        words: Any = (w for w in WORD.findall(text.lower()) if w not in ENGLISH_STOP_WORDS)
        if self.lemmatizer is not None:
            words = map(self.lemmatizer, words)
        return [w for w in words if len(w) > 2 and _LETTERS.fullmatch(w)]

    units = ("word of the vocabulary", "words that are not stop words")
    unknown_become = "their topics are the uniform prior"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted(map(self._words, texts), self.vocabulary_)

    def _fit(self, items: list[str], y: Any) -> None:
        documents = [self._words(text) for text in items]
        frequency = Counter(word for words in documents for word in set(words))
        most = self.no_above * len(items)
        vocabulary = tuple(sorted(w for w, k in frequency.items() if self.no_below <= k <= most))
        if not vocabulary:
            raise ValueError(
                f"no word occurs in at least no_below={self.no_below} and at most "
                f"no_above={self.no_above:.0%} of the {len(items)} training texts"
            )
        self.vocabulary_ = vocabulary
        self.seed_ = draw_seed(self.random_state)
        ids = {word: i for i, word in enumerate(vocabulary)}
        corpus = [_bag(words, ids) for words in documents]
        model = self._model()
        model.update([bag for bag in corpus if bag], passes=self.passes)
        self.word_counts_ = model.state.sstats

    def _model(self) -> Any:
        from gensim.models import LdaModel

        return LdaModel(
            num_topics=self.n_topics,
            id2word=dict(enumerate(self.vocabulary_)),
            random_state=self.seed_,
            eval_every=None,  # perplexity of every tenth chunk would only be logged
        )

    def _extract(self, batch: list[str]) -> np.ndarray:
        # Built again from plain arrays, so that threads share no model and nothing opaque is saved.
        model = self._model()
        model.state.sstats = self.word_counts_
        model.sync_state()
        ids = {word: i for i, word in enumerate(self.vocabulary_)}
        rows = np.zeros((len(batch), self.n_topics))
        for row, text in zip(rows, batch):
            bag = _bag(self._words(text), ids)
            if bag:
                digest = hashlib.sha256(repr((self.seed_, bag)).encode()).digest()
                model.random_state = np.random.RandomState(int.from_bytes(digest[:4], "little"))
                row[:] = model.inference([bag])[0][0]
        return rows

    def _collect(self, rows: list[np.ndarray]) -> np.ndarray:
        weights = np.stack(rows)
        weights[~weights.any(1)] = 1
        topics = weights / weights.sum(1, keepdims=True)
        topics[topics < self.minimum_probability] = 0
        return topics.astype(np.float32)


def counted(texts: Iterable[Iterable[str]], vocabulary: Iterable[str]) -> list[tuple[int, int]]:
    """Return how many words of each text are in a vocabulary, and how many it has."""
    known = vocabulary if isinstance(vocabulary, Mapping) else frozenset(vocabulary)
    found = []
    for text in texts:
        words = list(text)
        found.append((sum(word in known for word in words), len(words)))
    return found


def _bag(words: list[str], ids: dict[str, int]) -> list[tuple[int, int]]:
    """Count known words, in the form that gensim takes."""
    return sorted(Counter(ids[word] for word in words if word in ids).items())


class Tokens(TextExtractor):
    r"""Texts as sequences of word ids; the vocabulary is that of the training texts.

    Words are runs of ``\w``. Id 0 is padding and id 1 stands for unknown words; the others are
    numbered by falling frequency, equal ones by the alphabet. A text without words becomes one
    unknown word, because attention over nothing is undefined.

    Parameters
    ----------
    max_length : int, optional
        Longer texts lose what comes after. Default: with ``output="padded"`` the longest training
        text, else no limit.
    min_count : int
        Number of times that a word must occur in the training texts to have an id.
    lowercase : bool
        Whether to lower-case.
    output : {"ragged", "padded"}
        A `Ragged` or a rectangular array.
    verbose : {"auto", True, False}
        Progress bar of `transform`: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        Word of each id, with ``"<pad>"`` and ``"<unk>"`` first.
    max_length_ : int
        Words in the longest training text, at most `max_length`.

    Notes
    -----
    `transform` returns int64: a `Ragged` of n rows with ``info["vocabulary"]``, or an array of
    shape (n, ``max_length_``) padded with 0 on the right.

    Examples
    --------
    >>> tokens = Tokens(min_count=1).fit(["a cat", "a dog"])
    >>> tokens.vocabulary_
    ('<pad>', '<unk>', 'a', 'cat', 'dog')
    >>> tokens.set_params(output="padded").transform(["a dog", "mouse"]).tolist()
    [[2, 4], [1, 0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "lowercase": ["boolean"],
        "output": [StrOptions({"ragged", "padded"})],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        max_length: int | None = None,
        min_count: int = 2,
        lowercase: bool = True,
        output: str = "ragged",
        *,
        verbose: bool | str = "auto",
    ) -> None:
        self.max_length = max_length
        self.min_count = min_count
        self.lowercase = lowercase
        self.output = output
        self.verbose = verbose

    units = ("word of the vocabulary", "words")
    unknown_become = "they are unknown words throughout"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted(map(self._words, texts), self.vocabulary_)

    def _words(self, text: str) -> list[str]:
        return WORD.findall(text.lower() if self.lowercase else text)[: self.max_length]

    def _fit(self, items: list[str], y: Any) -> None:
        documents = [self._words(text) for text in items]
        counts = Counter(word for words in documents for word in words)
        kept = sorted((-k, word) for word, k in counts.items() if k >= self.min_count)
        if not kept:
            raise ValueError(
                f"no word occurs min_count={self.min_count} times in the {len(items)} training "
                "texts"
            )
        self.vocabulary_ = ("<pad>", "<unk>", *(word for _, word in kept))
        self.max_length_ = max(map(len, documents))

    def _extract(self, batch: list[str]) -> list[np.ndarray]:
        ids = {word: i for i, word in enumerate(self.vocabulary_)}
        # "<pad>" and "<unk>" are not runs of \w, so no text can hold them.
        return [
            np.array([ids.get(word, 1) for word in self._words(text)] or [1], np.int64)
            for text in batch
        ]

    def _collect(self, rows: list[np.ndarray]) -> Ragged | np.ndarray:
        ragged = Ragged.from_list(rows, info={"vocabulary": self.vocabulary_})
        if self.output == "ragged":
            return ragged
        return ragged.padded(self.max_length_)[0]
