"""Words, documents and characters as vectors and numbers; gensim learns word vectors."""

from __future__ import annotations

import codecs
import functools
import hashlib
import itertools
import os
import sys
from collections import Counter
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._random import draw_seed
from crossfit._warnings import warn
from crossfit.extraction.text import TextExtractor, counted, too_rare
from crossfit.extraction.tokenizers import TOKENIZER, Tokenizer
from crossfit.extraction.weights import file_sha256, what_else
from crossfit.views import Ragged

__all__ = ["Characters", "Doc2VecFeatures", "WordVectors"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "


class Doc2VecFeatures(TextExtractor):
    r"""Paragraph vectors of texts [1]_, with gensim.

    Words are in lower case. Inference starts from a random point that depends only on the seed and
    the document, so that a document has the same vector in every call and process, whatever the
    other documents.

    Parameters
    ----------
    vector_size : int, default=300
        Size of a vector.
    epochs : int, default=40
        Number of passes over the training texts, and of passes over a document in inference.
    dm : bool, default=True
        Whether to use distributed memory, which considers the order of words, or a distributed bag
        of words.
    window : int, default=5
        Number of words on either side that predict a word, or are predicted.
    negative : int, default=5
        Number of random words that each true word is distinguished from.
    min_count : int, default=2
        Number of times that a word must occur in the training texts.
    random_state : int, RandomState or None, default=0
        Seed of training and inference.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words; see `Tokens`.
    verbose : {"auto", True, False}, default="auto"
        Progress bar of `transform`: for long runs on a terminal, always, or never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        The words of the vocabulary, in the order of their first occurrence.
    counts_ : int64 ndarray of shape (n_words,)
        Number of times that each word occurs in the training texts.
    word_vectors_, output_vectors_ : float32 ndarray of shape (n_words, vector_size)
        Vectors of words as context and as prediction, which inference uses.
    seed_ : int
        The seed, drawn from `random_state`.
    n_features_out_ : int
        ``vector_size``.

    Notes
    -----
    `transform` returns float32 of shape (n, vector_size). The vectors of texts without known words
    are zero, and a warning is issued. The vectors of training texts are inferred like those of
    other texts. Training uses a single thread, because it is not repeatable with several.

    References
    ----------
    .. [1] Q. Le, T. Mikolov: Distributed representations of sentences and documents, ICML 2014.

    Examples
    --------
    >>> texts = ["cats purr and cats sleep", "engines roar and cars race"] * 10
    >>> Doc2VecFeatures(16, epochs=5).fit_transform(texts).shape
    (20, 16)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "vector_size": [Interval(Integral, 1, 100_000, closed="both")],
        "epochs": [Interval(Integral, 1, 1_000_000, closed="both")],
        "dm": ["boolean"],
        "window": [Interval(Integral, 1, 1_000_000, closed="both")],
        "negative": [Interval(Integral, 1, 1_000_000, closed="both")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "tokenizer": TOKENIZER,
        "verbose": [StrOptions({"auto"}), "boolean"],
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

    def __init__(
        self,
        vector_size: int = 300,
        epochs: int = 40,
        dm: bool = True,
        window: int = 5,
        negative: int = 5,
        min_count: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        *,
        tokenizer: Tokenizer = "auto",
        verbose: bool | str = "auto",
    ) -> None:
        self.vector_size = vector_size
        self.epochs = epochs
        self.dm = dm
        self.window = window
        self.negative = negative
        self.min_count = min_count
        self.random_state = random_state
        self.tokenizer = tokenizer
        self.verbose = verbose

    def _n_outputs(self) -> int:
        return self.vector_size

    units = ("word of the vocabulary", "words")
    unknown_become = "their vectors are zero"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted(map(self._cut, texts), self.vocabulary_)

    def _fit(self, items: list[str], y: Any) -> None:
        from gensim.models.doc2vec import TaggedDocument

        documents = [TaggedDocument(self._cut(text), [i]) for i, text in enumerate(items)]
        self.seed_ = draw_seed(self.random_state)
        model = self._model(self.min_count)
        model.build_vocab(documents)
        if not len(model.wv):
            raise too_rare(self, items, Counter(word for t in documents for word in t.words))
        model.train(documents, total_examples=model.corpus_count, epochs=self.epochs)
        self.vocabulary_ = tuple(model.wv.index_to_key)
        self.counts_ = np.array(model.wv.expandos["count"], np.int64)
        self.word_vectors_ = model.wv.vectors
        self.output_vectors_ = model.syn1neg

    def _model(self, min_count: int) -> Any:
        from gensim.models import Doc2Vec

        return Doc2Vec(
            vector_size=self.vector_size,
            dm=int(self.dm),
            window=self.window,
            negative=self.negative,
            min_count=min_count,
            sorted_vocab=0,  # sorting would change the order of words with equal counts
            seed=self.seed_,
            workers=1,
        )

    def _extract(self, batch: list[str]) -> np.ndarray:
        from gensim.models.doc2vec import train_document_dbow, train_document_dm

        # Built again from arrays, so that threads do not share a model and only arrays are saved.
        model = self._model(1)
        model.build_vocab_from_freq(dict(zip(self.vocabulary_, self.counts_.tolist())))
        # gensim's C code reads the expected number of values without checking the sizes.
        shape = (len(model.wv), self.vector_size)
        found = {self.word_vectors_.shape, self.output_vectors_.shape}
        if found != {shape}:
            raise ValueError(
                f"{len(model.wv)} words and vector_size={self.vector_size} do not go with fitted "
                f"vectors of shape {' and '.join(map(str, sorted(found)))}: fit again"
            )
        model.wv.vectors = np.ascontiguousarray(self.word_vectors_, np.float32)
        model.syn1neg = np.ascontiguousarray(self.output_vectors_, np.float32)
        train = train_document_dm if self.dm else train_document_dbow
        # If these are not passed, gensim allocates them and frees them before their use.
        names = ("work", "neu1") if self.dm else ("work",)
        scratch = {name: np.zeros(self.vector_size, np.float32) for name in names}
        rates = np.linspace(model.alpha, model.min_alpha, self.epochs)
        rows = np.zeros((len(batch), self.vector_size), np.float32)
        for row, text in zip(rows, batch):
            words = [word for word in self._cut(text) if word in model.wv]
            if not words:
                continue
            # gensim's infer_vector starts from Python's hash of the text, which differs between
            # processes, and from a random state that earlier documents have changed.
            digest = hashlib.sha256(repr((self.seed_, words)).encode()).digest()
            model.random = np.random.RandomState(int.from_bytes(digest[:4], "little"))
            start = model.random.random_sample((1, self.vector_size)).astype(np.float32)
            vector = (start - 0.5) / self.vector_size
            for rate in rates:
                train(
                    model,
                    words,
                    [0],
                    rate,
                    learn_words=False,
                    learn_hidden=False,
                    doctag_vectors=vector,
                    doctags_lockf=np.ones(1, np.float32),
                    **scratch,
                )
            row[:] = vector[0]
        return rows


class WordVectors(TextExtractor):
    r"""Texts as sequences of word vectors [1]_, read from a file or learnt from the training texts.

    Words without a vector are dropped. A text without known words becomes one zero vector, and a
    warning is issued, because attention over an empty sequence is undefined.

    Parameters
    ----------
    path : str, path-like or None, default=None
        A file in word2vec's text or binary format, or in GloVe's format, which is the text format
        without the first line. Columns are separated by blanks or tabs, and the file may be
        compressed (``.gz``). Words that are not UTF-8 are left out with a warning; any other line
        that is not a word followed by finite numbers is an error, which names the line. If None,
        vectors are learnt from the training texts by skip-gram with negative sampling.
    output : {"ragged", "mean"}, default="ragged"
        One vector per word, or their mean.
    max_length : int, optional
        Number of known words after which texts are cut; no limit by default.
    lowercase : bool, default=True
        Whether to convert texts to lower case.
    limit : int, optional
        Number of words to read from the file, which usually lists frequent words first; all by
        default.
    binary : bool, optional
        Whether the file is binary; by default, if its name ends in ``.bin`` or ``.bin.gz``.
    vector_size : int, default=300
        Size of a learnt vector.
    window : int, default=5
        Number of words on either side that are predicted in learning.
    min_count : int, default=2
        Number of times that a word must occur in the training texts to learn its vector.
    epochs : int, default=20
        Number of passes over the training texts.
    random_state : int, RandomState or None, default=0
        Seed of learning.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words; see `Tokens`. It must be the tokenizer with which the vectors
        of a file were learnt, for instance ``jieba.lcut`` for Chinese words.
    verbose : {"auto", True, False}, default="auto"
        Progress bar of `transform`: for long runs on a terminal, always, or never.

    Attributes
    ----------
    vocabulary_ : tuple of str
        Words by decreasing frequency; only if vectors were learnt.
    vectors_ : float32 ndarray of shape (n_words, vector_size)
        Vectors of the words; only if they were learnt.
    weights_id_ : str
        SHA-256 of the file, if there is a file.
    n_features_out_ : int
        Size of a vector.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file has another format.

    Notes
    -----
    `transform` returns float32: a `Ragged` of n rows (T_i, d) with ``info["words"]``, which is
    indexed together with the rows; or an array (n, d). A saved extractor contains the path of its
    file, not the file. Learning uses a single thread, because it is not repeatable with several.

    References
    ----------
    .. [1] T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean: Distributed representations of
       words and phrases and their compositionality, NIPS 2013.

    Examples
    --------
    >>> texts = ["a cat sleeps", "a dog sleeps"] * 10
    >>> vectors = WordVectors(vector_size=8, min_count=1).fit(texts)
    >>> vectors.transform(["the cat sleeps"]).info["words"].tolist()
    ['cat', 'sleeps']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "path": [str, os.PathLike, None],
        "output": [StrOptions({"ragged", "mean"})],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "lowercase": ["boolean"],
        "limit": [Interval(Integral, 1, None, closed="left"), None],
        "binary": ["boolean", None],
        "vector_size": [Interval(Integral, 1, 100_000, closed="both")],
        "window": [Interval(Integral, 1, 1_000_000, closed="both")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "epochs": [Interval(Integral, 1, 1_000_000, closed="both")],
        "random_state": ["random_state"],
        "tokenizer": TOKENIZER,
        "verbose": [StrOptions({"auto"}), "boolean"],
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        output: str = "ragged",
        max_length: int | None = None,
        lowercase: bool = True,
        *,
        limit: int | None = None,
        binary: bool | None = None,
        vector_size: int = 300,
        window: int = 5,
        min_count: int = 2,
        epochs: int = 20,
        random_state: int | np.random.RandomState | None = 0,
        tokenizer: Tokenizer = "auto",
        verbose: bool | str = "auto",
    ) -> None:
        self.path = path
        self.output = output
        self.max_length = max_length
        self.lowercase = lowercase
        self.limit = limit
        self.binary = binary
        self.vector_size = vector_size
        self.window = window
        self.min_count = min_count
        self.epochs = epochs
        self.random_state = random_state
        self.tokenizer = tokenizer
        self.verbose = verbose

    def _n_outputs(self) -> int:
        return self._table()[1].shape[1]

    units = ("word that has a vector", "words")
    unknown_become = "they are one zero vector each"

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted((self._cut(text, self.lowercase) for text in texts), self._table()[0])

    def _weights_id(self) -> str:
        return "" if self.path is None else file_sha256(self.path)

    def _fit(self, items: list[str], y: Any) -> None:
        if self.path is not None:
            return
        from gensim.models import Word2Vec

        seed = draw_seed(self.random_state)
        model = Word2Vec(
            vector_size=self.vector_size,
            window=self.window,
            min_count=self.min_count,
            sg=1,
            seed=seed,
            workers=1,
        )
        texts = [self._cut(text, self.lowercase) for text in items]
        model.build_vocab(texts)
        if not len(model.wv):
            raise too_rare(self, items, Counter(word for text in texts for word in text))
        model.train(texts, total_examples=model.corpus_count, epochs=self.epochs)
        self.vocabulary_ = tuple(model.wv.index_to_key)
        self.vectors_ = model.wv.vectors

    def _table(self) -> tuple[dict[str, int], np.ndarray]:
        """Return the row of each word, in this order, and the vectors."""
        if self.path is None:
            return {word: i for i, word in enumerate(self.vocabulary_)}, self.vectors_
        return _read(os.fspath(self.path), self._weights_id(), self.limit, self.binary)

    def _extract(self, batch: list[str]) -> list[np.ndarray]:
        ids, _ = self._table()
        rows = []
        for text in batch:
            words = [ids[word] for word in self._cut(text, self.lowercase) if word in ids]
            rows.append(np.array(words[: self.max_length] or [-1], np.int64))
        return rows

    def _collect(self, rows: list[np.ndarray]) -> Ragged | np.ndarray:
        table, vectors = self._table()
        ids = np.concatenate(rows)
        values = np.where(ids[:, None] < 0, 0, vectors[ids]).astype(np.float32)
        lengths = np.array([len(row) for row in rows])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if self.output == "mean":
            sums = np.add.reduceat(values, offsets[:-1], axis=0, dtype=np.float64)
            return (sums / lengths[:, None]).astype(np.float32)
        vocabulary = [*table, ""]  # the last one for -1
        words = np.array([vocabulary[i] for i in ids], dtype=object)
        return Ragged(values, offsets, {"words": words})


@functools.lru_cache(maxsize=2)
def _read(
    path: str, digest: str, limit: int | None, binary: bool | None
) -> tuple[dict[str, int], np.ndarray]:
    """Read a file once per process, so that estimators need not contain the vectors."""
    file = Path(path).expanduser()
    if binary is None:
        binary = file.name.removesuffix(".gz").endswith(".bin")
    try:
        words, vectors = (_read_binary if binary else _read_text)(file, limit)
    except Exception as error:  # damaged files cause errors of many classes
        raise ValueError(
            f"cannot read {path!r} as word vectors in word2vec's "
            f"{'binary' if binary else 'text'} format: {str(error) or type(error).__name__}"
        ) from error
    if not words:
        raise ValueError(f"{path!r} holds no word vectors")
    vectors.flags.writeable = False  # the array is shared by all extractors of the file
    return words, vectors


def _read_text(file: Path, limit: int | None) -> tuple[dict[str, int], np.ndarray]:
    from gensim import utils

    with utils.open(file, "rb") as stream:
        first = list(itertools.islice(stream, 1000))
    other = what_else(b"".join(first[:10]))
    if other:
        raise ValueError(other)
    if first:
        first[0] = first[0].removeprefix(codecs.BOM_UTF8)
    head = first[0].split() if first else []
    # The first line of word2vec's format has the number of words and the length of the vectors.
    if len(head) == 2 and all(part.isdigit() for part in head):
        expected, size, start = int(head[0]), int(head[1]), 1
    else:
        expected, size, start = None, _vector_size(first), 0
    if size < 1:
        raise ValueError("line 1: expected a word and its numbers")
    stop = min(x for x in (limit, expected, sys.maxsize) if x is not None)
    words: dict[str, int] = {}
    values = bytearray()
    undecodable = []
    n_lines = 0
    with utils.open(file, "rb") as stream:
        for number, line in enumerate(itertools.islice(stream, start, None), start + 1):
            if n_lines >= stop:
                break
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            n_lines += 1
            # Split from the right, because a word may contain blanks, as ". . ." of GloVe does.
            parts = line.rsplit(None, size)
            if len(parts) == size and line[:1].isspace():
                parts.insert(0, b"")
            row = _numbers(parts[1:])
            if len(parts) != size + 1 or row is None or not np.isfinite(row).all():
                raise ValueError(
                    f"line {number}: expected a word and {size} finite numbers, got "
                    f"{line[:60].decode(errors='replace').strip()!r}"
                )
            try:
                word = parts[0].decode()
            except UnicodeDecodeError:
                undecodable.append(number)
                continue
            if word not in words:  # as in gensim, the first vector of a word is used
                words[word] = len(words)
                values += row.tobytes()
    if expected is not None and n_lines < min(expected, stop):
        raise ValueError(f"the first line states {expected} words, but there are {n_lines}")
    if undecodable:
        warn(
            f"{len(undecodable)} of {n_lines} words in {str(file)!r} are not UTF-8 and left out, "
            f"the first in line {undecodable[0]}"
        )
    return words, np.frombuffer(values, np.float32).reshape(len(words), size)


def _vector_size(lines: list[bytes]) -> int:
    """Return the most frequent number of values per line, after a word without blanks."""
    counts = Counter(len(line.split()) - 1 for line in lines if line.strip())
    return min(counts, key=lambda size: (-counts[size], size), default=0)


def _numbers(parts: list[bytes]) -> np.ndarray | None:
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
            return np.array(parts, dtype=np.bytes_).astype(np.float64).astype(np.float32)
    except ValueError:
        return None


def _read_binary(file: Path, limit: int | None) -> tuple[dict[str, int], np.ndarray]:
    from gensim import utils
    from gensim.models import KeyedVectors

    with utils.open(file, "rb") as stream:
        head = stream.readline(100).split()
    if len(head) != 2 or not all(part.isdigit() for part in head):
        raise ValueError("the first line must state the number of words and the size of a vector")
    n_words, size = map(int, head)
    # Checked before memory is allocated; compression is at most about a thousandfold.
    most = file.stat().st_size * (1100 if file.suffix == ".gz" else 1)
    if n_words * size * 4 > most:
        raise ValueError(f"it is too short for {n_words} words with vectors of size {size}")
    table = KeyedVectors.load_word2vec_format(
        str(file), binary=True, limit=limit, unicode_errors="replace"
    )
    bad = np.flatnonzero(~np.isfinite(table.vectors).all(1))
    if len(bad):
        raise ValueError(
            f"the vectors of {len(bad)} words are not finite, the first of them word {bad[0] + 1}"
        )
    return {word: i for i, word in enumerate(table.index_to_key)}, table.vectors


class Characters(TextExtractor):
    r"""Texts as sequences of characters, for character networks [1]_.

    The alphabet has 70 positions: letters, digits, ``-,;.!?:'"/\|_@#$%^&*~`+-=<>()[]{}`` and the
    blank. The hyphen occurs in it twice, as in the code of [2]_: its id is the second position, 60,
    and 37 is never used. Texts are converted to lower case and cut to `length`.

    Parameters
    ----------
    length : int, default=201
        Number of characters of a text.
    output : {"ids", "onehot"}, default="ids"
        The position of each character in the alphabet, from 1, with 0 for unknown characters and
        after the end of a text; or a matrix with a single 1 in the column of each known character.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        ``length``.

    Notes
    -----
    `transform` returns int64 of shape (n, length), or uint8 of shape (n, 70, length).

    References
    ----------
    .. [1] X. Zhang, J. Zhao, Y. LeCun: Character-level convolutional networks for text
       classification, NIPS 2015.
    .. [2] S. Reed, Z. Akata, H. Lee, B. Schiele: Learning deep representations of fine-grained
       visual descriptions, CVPR 2016.

    Examples
    --------
    >>> Characters(6).transform(["A-b ?ç"]).tolist()
    [[1, 60, 2, 70, 42, 0]]
    """

    alphabet: ClassVar[str] = _ALPHABET

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "length": [Interval(Integral, 1, 10_000_000, closed="both")],
        "output": [StrOptions({"ids", "onehot"})],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self, length: int = 201, output: str = "ids", *, verbose: bool | str = "auto"
    ) -> None:
        self.length = length
        self.output = output
        self.verbose = verbose

    units = ("character of the alphabet", "characters")
    unknown_become = "their features are zero, as those of empty texts"

    def _remedy(self, texts: list[str]) -> str:
        return (
            "the alphabet is that of English; for another script, use "
            "Tokens(tokenizer='characters'), which learns its alphabet"
        )

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        return counted((text.lower()[: self.length] for text in texts), _ALPHABET)

    def _n_outputs(self) -> int:
        return self.length

    def _extract(self, batch: list[str]) -> np.ndarray:
        place = {
            character: i for i, character in enumerate(_ALPHABET, 1)
        }  # of two positions, the later
        ids = np.zeros((len(batch), self.length), np.int64)
        for row, text in zip(ids, batch):
            known = [place.get(character, 0) for character in text.lower()[: self.length]]
            row[: len(known)] = known
        if self.output == "ids":
            return ids
        return (ids[:, None] == np.arange(1, len(_ALPHABET) + 1)[:, None]).astype(np.uint8)
