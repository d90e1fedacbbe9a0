"""Tokenizers: how texts are cut into words, in scripts with spaces between words and without."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sklearn.utils._param_validation import StrOptions

from crossfit._text import shown

__all__ = ["TOKENIZER", "TOKENIZERS", "Tokenizer", "cut", "lacks_spaces"]

Tokenizer = str | Callable[[str], Sequence[str]]

WORD = re.compile(r"\w+")

# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, and Chinese characters with
# hiragana and katakana. Punctuation inside these ranges is never part of a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u2e80-\u2fdf"
    "\u3005-\u3007\u3021-\u3029\u3031-\u303c\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_PARTS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")


def _auto(text: str) -> list[str]:
    if text.isascii():  # the other patterns are slower, and find the same words
        return WORD.findall(text)
    found: list[str] = []
    for run in _runs(text):
        for part in _PARTS.findall(run):
            found += _pairs(_letters(part)) if _UNSPACED_LETTER.match(part) else [part]
    return found


def _characters(text: str) -> list[str]:
    return [letter for run in _runs(text) for letter in _letters(run)]


def _bigrams(text: str) -> list[str]:
    return [pair for run in _runs(text) for pair in _pairs(_letters(run))]


#: The tokenizers that have a name. Those but ``"words"`` compose letters with their accents first,
#: and keep marks, such as the vowels of Hindi and Thai, with their letters.
TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "auto": _auto,
    "words": WORD.findall,
    "characters": _characters,
    "bigrams": _bigrams,
}

#: Constraints of a parameter ``tokenizer``.
TOKENIZER: list[Any] = [StrOptions(set(TOKENIZERS)), callable]


def cut(text: str, tokenizer: Tokenizer, owner: str) -> list[str]:
    """Return the words of a text, in their order.

    Parameters
    ----------
    text : str
        The text, in lower case if case shall not matter.
    tokenizer : str or callable
        A name in `TOKENIZERS`, or a function from a text to its words.
    owner : str
        Name of the class, for the error message.

    Raises
    ------
    TypeError
        If the function does not return strings.
    """
    if not callable(tokenizer):
        return TOKENIZERS[tokenizer](text)
    found = tokenizer(text)
    words = None if isinstance(found, str) or not hasattr(found, "__iter__") else list(found)
    if words is None or not all(isinstance(word, str) for word in words):
        raise TypeError(
            f"{owner}: tokenizer must return a list of the words of a text, got {shown(found)}"
        )
    return words


def lacks_spaces(texts: Iterable[str]) -> bool:
    """Return True if most letters of texts are of scripts without spaces between words."""
    unspaced = total = 0
    for text in texts:
        if not text.isascii():
            unspaced += len(_UNSPACED_LETTER.findall(text))
        total += sum(map(len, WORD.findall(text)))
    return 2 * unspaced > total


def _pairs(letters: list[str]) -> list[str]:
    return [a + b for a, b in itertools.pairwise(letters)] or letters


def _runs(text: str) -> list[str]:
    return _patterns()[0].findall(unicodedata.normalize("NFC", text))


def _letters(run: str) -> list[str]:
    return _patterns()[1].findall(run)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""Return the patterns of runs of letters, and of single letters, with their marks.

    ``\w`` does not match marks. Joiners are part of words in Persian and in scripts of India.
    Variation selectors, which follow emoji, are left out.
    """
    marks = "\u200c\u200d" + "".join(
        letter
        for letter in map(chr, range(0x300, 0x1E950))
        if unicodedata.category(letter) in ("Mn", "Mc") and not "\ufe00" <= letter <= "\ufe0f"
    )
    return re.compile(rf"\w[\w{marks}]*"), re.compile(rf"\w[{marks}]*")
