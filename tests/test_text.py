"""Texts from other people are made safe before they are displayed."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from crossfit._text import printable


def test_texts_stay_as_they_are():
    for text in (
        "a cat",
        "über 猫 ",
        "👩\u200d💻",
        "🏴\U000e0067\U000e0062\U000e007f",
        "שלום",
        "نامه\u200cای",
    ):
        assert printable(text) == text


def test_what_moves_the_cursor_or_turns_the_line_is_gone():
    assert printable("\x1b[31mred\x9b0m\r\n\tb\u2028c") == "[31mred0m   b c"
    assert printable("a\u202eb\u2066c\u200b\ufeffd\xade") == "abcde"
    assert printable("a\nb\x1b", lines=True) == "a\nb"
    assert printable("\udcef") == "\ufffd"


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_left_can_be_written_and_is_left_again(text):
    once = printable(text)
    assert printable(once) == once
    assert once.encode() is not None
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in once)
