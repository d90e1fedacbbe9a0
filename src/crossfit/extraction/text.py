"""Text features: topics and token ids. For bags of words and TF-IDF, use scikit-learn."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._random import draw_seed
from crossfit._text import shown
from crossfit._warnings import warn
from crossfit.extraction.base import Extractor, describe, sequence_of
from crossfit.extraction.tokenizers import TOKENIZER, Tokenizer, cut, lacks_spaces
from crossfit.views import Ragged

__all__ = ["LdaTopics", "TextExtractor", "Tokens"]

_LETTERS = re.compile(r"[a-z]{3,}")

# A text is taken for English if at most this share of its words has letters other than a-z, or if
# at least the second share are English stop words: about 0.4 in sentences, under 0.1 in others.
_FOREIGN, _STOP = 0.02, 0.2


class TextExtractor(Extractor):
    """Base class of text extractors; `_extract` receives a list of strings.

    Items are strings in a list, tuple, one-dimensional array or pandas column. Lone surrogates,
    which do not represent a character, are replaced by U+FFFD, the replacement character.

    An extractor with a vocabulary also implements `_count_known`. A warning is then issued if a
    text does not contain any word of the vocabulary, because the features of all such texts are
    the same, or if the share of unknown words in all texts is above `tolerated_unknown`.

    An extractor that cuts texts into words has a parameter ``tokenizer``, with the constraints of
    that of `Tokens`, and calls `_cut`.
    """

    expects = "texts (a list or column of strings)"

    units: ClassVar[tuple[str, str]] = ("word", "words")
    """Name of an entry of the vocabulary in warnings, singular and plural."""

    unknown_become: ClassVar[str] = ""
    """Part of the warning that describes the features of texts without known words."""

    tolerated_unknown: ClassVar[float] = 0.5
    """Largest share of unknown words without a warning."""

    def _count_known(self, texts: list[str]) -> Sequence[tuple[int, int]] | None:
        """Return the numbers of known words and of all words of each text."""
        return None

    def _remedy(self, texts: list[str]) -> str:
        """Return what to do if most words are unknown, for the warning."""
        tokenizer = getattr(self, "tokenizer", None)
        if tokenizer is None:
            return ""
        if tokenizer == "words" and lacks_spaces(texts):
            return (
                "tokenizer='words' cuts texts at spaces and punctuation, which are rare in this "
                "script; set tokenizer='auto'"
            )
        finer = "" if tokenizer == "characters" else ", or set tokenizer='characters'"
        return f"fit on more texts of the same language and subject, accept rarer words{finer}"

    def _cut(self, text: str, lowercase: bool = True) -> list[str]:
        """Return the words of a text, by the parameter ``tokenizer``."""
        tokenizer: Tokenizer = self.tokenizer  # type: ignore[attr-defined]
        return cut(text.lower() if lowercase else text, tokenizer, type(self).__name__)

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

    def _length(self, item: str) -> int:
        return len(item)

    def _survey(self, items: list[str]) -> None:
        distinct = list(dict.fromkeys(items))
        counts = self._count_known(distinct)
        if counts is None:
            return
        of = dict(zip(distinct, counts))
        known, total = np.array([of[text] for text in items]).T
        unknown = (total - known).sum() / max(total.sum(), 1)
        if (known == 0).any() or unknown > self.tolerated_unknown:
            message = unknown_of(known, total, self.units, self.unknown_become)
            remedy = self._remedy(distinct) if unknown > 0.5 else ""
            warn(f"{message}; {remedy}" if remedy else message)


def unknown_of(
    known: NDArray[Any],
    total: NDArray[Any],
    units: tuple[str, str],
    become: str,
    things: str = "texts",
) -> str:
    """Return the text of a warning of unknown words.

    Parameters
    ----------
    known, total : int ndarray of shape (n,)
        Number of known words, and of all words, of each text.
    units : tuple of str
        Name of the counted units, singular and plural.
    become : str
        Description of the features of texts without known words.
    things : str, default="texts"
        Name of the texts, plural.
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
    """Return a text that can be encoded, with surrogate pairs joined and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:  # for instance of text decoded with errors="surrogateescape"
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class LdaTopics(TextExtractor):
    r"""Topic proportions of texts by latent Dirichlet allocation [1]_, with gensim.

    Words are cut by `tokenizer` in lower case, without English stop words. Of these, the vocabulary
    has the words of at least three letters a-z that occur in at least `no_below` training documents
    and in at most a share `no_above` of them. These are the steps of TextTopicNet [2]_ but for one:
    its authors replace each word by its lemma in WordNet. No dependency of crossfit has WordNet,
    whose data must be downloaded separately, so words are not lemmatised unless `lemmatizer` is
    given.

    Words with other letters than a-z are in the vocabulary too if the training texts are not in
    English: if more than 2% of their words have such letters, and less than 20% of them are English
    stop words. A word is then at least three letters, or a single one of a script without capitals.
    With ``tokenizer="words"``, texts are always English; with other values than ``"auto"``, never,
    and words may have one letter.

    Inference starts from a random point that depends only on the seed and the document, so that a
    document has the same topics in every call, whatever the other documents.

    Parameters
    ----------
    n_topics : int, default=40
        Number of topics.
    passes : int, default=10
        Number of passes over the training texts. One pass is too few for short texts.
    minimum_probability : float, default=0.0
        Topics below this value are set to 0, without scaling the others. With 0, rows sum to 1.
    no_below : int, default=20
        Smallest number of training documents in which a word must occur.
    no_above : float, default=0.5
        Largest share of training documents in which a word may occur.
    lemmatizer : callable, optional
        Function ``word -> lemma``, which is applied after stop words are removed, such as the
        authors' ``nltk.stem.WordNetLemmatizer().lemmatize``, which requires NLTK and its WordNet.
        By default, words are not lemmatised.
    random_state : int, RandomState or None, default=0
        Seed of training and inference.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words; see `Tokens`.
    verbose : {"auto", True, False}, default="auto"
        Progress bar of `transform`: for long runs on a terminal, always, or never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        The words of the vocabulary, in alphabetical order.
    word_counts_ : float32 ndarray of shape (n_topics, n_words)
        Expected number of occurrences of each word in the training texts that belong to each topic.
    seed_ : int
        The seed, drawn from `random_state`.
    n_features_out_ : int
        ``n_topics``.

    Notes
    -----
    `transform` returns float32 of shape (n, n_topics). The topics of a document without known words
    are the prior, which is uniform, and a warning is issued.

    To come as close as possible to the authors' topics, give `lemmatizer`, ``passes=1`` and
    ``minimum_probability=0.01``. What remains different: they remove wiki markup first, keep at
    most 100,000 words, and train with gensim's LdaMulticore.

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
        "tokenizer": TOKENIZER,
        "verbose": [StrOptions({"auto"}), "boolean"],
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

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
        tokenizer: Tokenizer = "auto",
        verbose: bool | str = "auto",
    ) -> None:
        self.n_topics = n_topics
        self.passes = passes
        self.minimum_probability = minimum_probability
        self.no_below = no_below
        self.no_above = no_above
        self.lemmatizer = lemmatizer
        self.random_state = random_state
        self.tokenizer = tokenizer
        self.verbose = verbose

    def _n_outputs(self) -> int:
        return self.n_topics

    def _of_kind(self, text: str, english: bool) -> list[str]:
        words: Any = (w for w in self._cut(text) if w not in ENGLISH_STOP_WORDS)
        if self.lemmatizer is not None:
            words = map(self.lemmatizer, words)
        if english:
            return list(filter(_LETTERS.fullmatch, words))
        shortest = 3 if self.tokenizer == "auto" else 1
        return [w for w in words if _is_word(w, shortest)]

    def _are_english(self, texts: list[str]) -> bool:
        """Return True if only words of letters a-z belong to the vocabulary."""
        if self.tokenizer != "auto":
            return self.tokenizer == "words"
        foreign = stop = total = 0
        for text in texts:
            words = self._cut(text)
            total += len(words)
            stop += sum(word in ENGLISH_STOP_WORDS for word in words)
            foreign += sum(_is_word(word, 3) for word in words if not word.isascii())
        return foreign <= _FOREIGN * total or stop >= _STOP * total

    units = ("word of the vocabulary", "words that are not stop words")
    unknown_become = "their topics are the uniform prior"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted(map(self._words, texts), self.vocabulary_)

    def _words(self, text: str) -> list[str]:
        """Return the words of a text that could be in the vocabulary."""
        # For words of a-z, both kinds of words are the same if the tokenizer is "auto".
        english = self.tokenizer in ("auto", "words") and all(map(str.isascii, self.vocabulary_))
        return self._of_kind(text, english)

    def _fit(self, items: list[str], y: Any) -> None:
        english = self._are_english(items)
        documents = [self._of_kind(text, english) for text in items]
        frequency = Counter(word for words in documents for word in set(words))
        most = self.no_above * len(items)
        vocabulary = tuple(sorted(w for w, k in frequency.items() if self.no_below <= k <= most))
        if not vocabulary:
            rare = max(frequency.values(), default=0) < self.no_below
            raise nothing_frequent(
                self,
                items,
                f"in at least no_below={self.no_below} and at most no_above={self.no_above:.0%} of "
                f"the {len(items)} training texts",
                frequency,
                "reduce no_below" if rare else "increase no_above",
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
            eval_every=None,  # by default, perplexity is computed for the log only
        )

    def _extract(self, batch: list[str]) -> np.ndarray:
        # Built again from arrays, so that threads do not share a model and only arrays are saved.
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


def _is_word(text: str, shortest: int) -> bool:
    """Return True for at least `shortest` letters without digits, or one without capital form."""
    letters = sum(map(str.isalpha, text))
    if not letters or "_" in text or any(map(str.isdigit, text)):
        return False
    return letters >= shortest or any(unicodedata.category(letter) == "Lo" for letter in text)


def nothing_frequent(
    extractor: TextExtractor,
    texts: list[str],
    where: str,
    counts: Mapping[str, int],
    remedy: str,
) -> ValueError:
    """Return the error if no word of the training texts is frequent enough for a vocabulary.

    Parameters
    ----------
    extractor : TextExtractor
        With a parameter ``tokenizer``.
    texts : list of str
        The training texts.
    where : str
        How often, and where, a word must occur.
    counts : mapping of str to int
        Number of texts, or of times, in which each word occurs.
    remedy : str
        What to do if there are words.
    """
    owner, tokenizer = type(extractor).__name__, getattr(extractor, "tokenizer", None)
    found = "there are no words of the kind that it counts"
    if counts:
        word = max(counts, key=lambda word: (counts[word], word))
        found = f"the most frequent, {shown(word)}, occurs in {counts[word]}"
    if tokenizer == "words" and lacks_spaces(texts):
        remedy = "texts in this script have hardly any spaces to cut at: set tokenizer='auto'"
    elif not counts:
        remedy = f"pass texts with words, or set another tokenizer than {tokenizer!r}"
    return ValueError(f"{owner}: no word occurs {where}: {found}; {remedy}")


def too_rare(extractor: Any, texts: list[str], counts: Mapping[str, int]) -> ValueError:
    """Return the error if no word occurs ``min_count`` times."""
    where = f"min_count={extractor.min_count} times in the {len(texts)} training texts"
    return nothing_frequent(extractor, texts, where, counts, "reduce min_count")


def counted(texts: Iterable[Iterable[str]], vocabulary: Iterable[str]) -> list[tuple[int, int]]:
    """Return the numbers of words in a vocabulary, and of all words, of each text."""
    known = vocabulary if isinstance(vocabulary, Mapping) else frozenset(vocabulary)
    found = []
    for text in texts:
        words = list(text)
        found.append((sum(word in known for word in words), len(words)))
    return found


def _bag(words: list[str], ids: dict[str, int]) -> list[tuple[int, int]]:
    """Return the counts of known words in gensim's format."""
    return sorted(Counter(ids[word] for word in words if word in ids).items())


class Tokens(TextExtractor):
    r"""Texts as sequences of word ids, with the vocabulary of the training texts.

    Id 0 is padding and id 1 represents unknown words; the other ids are
    assigned by decreasing frequency, and alphabetically for equal frequencies. A text without words
    becomes one unknown word, because attention over an empty sequence is undefined.

    Parameters
    ----------
    max_length : int, optional
        Number of words after which texts are cut. By default, the length of the longest training
        text if ``output="padded"``, otherwise no limit.
    min_count : int, default=2
        Number of times that a word must occur in the training texts to have an id.
    lowercase : bool, default=True
        Whether to convert texts to lower case.
    output : {"ragged", "padded"}, default="ragged"
        A `Ragged` or a rectangular array.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words. ``"words"`` are runs of ``\w``: letters, digits and ``_``.
        ``"auto"`` finds the same words in English, keeps marks such as the vowels of Hindi with
        their letters, and cuts scripts without spaces between words (Chinese, Japanese, Thai, Lao,
        Khmer, Burmese) into overlapping pairs of letters. ``"characters"`` are the single letters
        and digits, ``"bigrams"`` their overlapping pairs, in any script. A function ``text ->
        words``, such as ``jieba.lcut``, receives the text in lower case if `lowercase` is True; a
        bundle cannot contain it.
    verbose : {"auto", True, False}, default="auto"
        Progress bar of `transform`: for long runs on a terminal, always, or never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        Word of each id, with ``"<pad>"`` and ``"<unk>"`` first.
    max_length_ : int
        Number of words of the longest training text, at most `max_length`.

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
        "tokenizer": TOKENIZER,
        "verbose": [StrOptions({"auto"}), "boolean"],
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

    def __init__(
        self,
        max_length: int | None = None,
        min_count: int = 2,
        lowercase: bool = True,
        output: str = "ragged",
        *,
        tokenizer: Tokenizer = "auto",
        verbose: bool | str = "auto",
    ) -> None:
        self.max_length = max_length
        self.min_count = min_count
        self.lowercase = lowercase
        self.output = output
        self.tokenizer = tokenizer
        self.verbose = verbose

    units = ("word of the vocabulary", "words")
    unknown_become = "all their words are unknown"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted(map(self._words, texts), self.vocabulary_)

    def _words(self, text: str) -> list[str]:
        return self._cut(text, self.lowercase)[: self.max_length]

    def _fit(self, items: list[str], y: Any) -> None:
        documents = [self._words(text) for text in items]
        counts = Counter(word for words in documents for word in words)
        kept = sorted((-k, word) for word, k in counts.items() if k >= self.min_count)
        if not kept:
            raise too_rare(self, items, counts)
        self.vocabulary_ = ("<pad>", "<unk>", *(word for _, word in kept))
        self.max_length_ = max(map(len, documents))

    def _extract(self, batch: list[str]) -> list[np.ndarray]:
        ids = {word: i for i, word in enumerate(self.vocabulary_) if i > 1}
        # A function may return "<pad>" or "<unk>", which stand for other things here.
        return [
            np.array([ids.get(word, 1) for word in self._words(text)] or [1], np.int64)
            for text in batch
        ]

    def _collect(self, rows: list[np.ndarray]) -> Ragged | np.ndarray:
        ragged = Ragged.from_list(rows, info={"vocabulary": self.vocabulary_})
        if self.output == "ragged":
            return ragged
        return ragged.padded(self.max_length_)[0]
