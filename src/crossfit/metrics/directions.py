"""Directions of retrieval: the view that queries come from, and the view that is searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

from crossfit._arguments import shown

__all__ = ["Direction", "spellings"]


class Direction(str):
    """A direction of retrieval, from queries of one view to a gallery of another.

    "Find the text of this image" is the direction from the view ``image`` to the view ``text``. A
    direction is a string, its key, so it can be used as it is in JSON, in tables and as the key
    of a mapping. The names of its views are attributes, because a key cannot be split reliably:
    the name of a view may contain the digit 2.

    Parameters
    ----------
    query : str
        Name of the view that queries come from.
    gallery : str
        Name of the view that is searched.

    Attributes
    ----------
    query, gallery : str
        Names of the views, as given.

    Raises
    ------
    TypeError
        If a name is not a string.
    ValueError
        If a name is empty.

    See Also
    --------
    Evaluation : Values of measures by direction.

    Examples
    --------
    >>> one = Direction("image", "text")
    >>> one.key, one.alias, one.label
    ('image2text', 'i2t', 'image → text')
    >>> Direction.parse("i2t", ["text", "image"]) == one
    True
    """

    __slots__ = ("_gallery", "_query")
    _query: str
    _gallery: str

    def __new__(cls, query: str, gallery: str) -> Direction:  # noqa: D102
        for name, given in (("query", query), ("gallery", gallery)):
            if not isinstance(given, str):
                raise TypeError(f"{name}: {shown(given)} is not a string; give the name of a view")
            if not given:
                raise ValueError(f"{name}: the name is empty; give the name of a view")
        made = super().__new__(cls, f"{query}2{gallery}")
        made._query, made._gallery = query, gallery
        return made

    @property
    def query(self) -> str:
        """The view that queries come from."""
        return self._query

    @property
    def gallery(self) -> str:
        """The view that is searched."""
        return self._gallery

    @property
    def key(self) -> str:
        """The name of the direction in stores, files and mappings: ``image2text``."""
        return str(self)

    @property
    def alias(self) -> str:
        """The key made from the initials of the views: ``i2t``."""
        return f"{self.query[0]}2{self.gallery[0]}"

    @property
    def label(self) -> str:
        """The name of the direction in tables and figures: ``image → text``."""
        return f"{self.query} → {self.gallery}"

    @property
    def reverse(self) -> Direction:
        """The opposite direction, in which the gallery view is the query view."""
        return Direction(self.gallery, self.query)

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.query, self.gallery

    def __repr__(self) -> str:
        return f"Direction({self.query!r}, {self.gallery!r})"

    @classmethod
    def between(cls, views: Sequence[str]) -> tuple[Direction, ...]:
        """Return all directions between views, which are the ordered pairs of different views.

        Parameters
        ----------
        views : sequence of str
            Names of views.

        Returns
        -------
        tuple of Direction

        Examples
        --------
        >>> [each.key for each in Direction.between(["image", "text"])]
        ['image2text', 'text2image']
        """
        return tuple(cls(query, gallery) for query, gallery in permutations(views, 2))

    @classmethod
    def parse(cls, text: str, views: Sequence[str]) -> Direction:
        """Return the direction between known views that a key or an alias denotes.

        Parameters
        ----------
        text : str
            A key (``image2text``), initials (``i2t``) or a `Direction`.
        views : sequence of str
            Names of the known views.

        Returns
        -------
        Direction

        Raises
        ------
        ValueError
            If the text does not denote a direction between the views, or denotes several; the
            message lists the valid keys.

        Examples
        --------
        >>> Direction.parse("view12view2", ["view1", "view2"]).label
        'view1 → view2'
        """
        return chosen(text, cls.between(views))

    @classmethod
    def stored(cls, key: str, views: Iterable[str] = ()) -> Direction:
        """Return the direction whose key is in a stored file.

        Parameters
        ----------
        key : str
            The `Direction.key` that was stored.
        views : iterable of str, optional
            Names of the views, if the file has them. Without them only a key with a single digit
            2 can be split.

        Returns
        -------
        Direction

        Raises
        ------
        ValueError
            If the key cannot be split into two views, or can be split in several ways.

        Examples
        --------
        >>> Direction.stored("wav2vec2text", ["wav2vec", "text"]).label
        'wav2vec → text'
        """
        known = set(views)
        candidates = [
            cls(key[:at], key[at + 1 :])
            for at, letter in enumerate(key)
            if letter == "2" and 0 < at < len(key) - 1
        ]
        found = [each for each in candidates if not known or {each.query, each.gallery} <= known]
        if len(found) != 1:
            what = "is ambiguous" if found else "is unknown"
            names = f"the views are {', '.join(sorted(known))}" if known else "give the views"
            raise ValueError(f"direction: {shown(key)} {what}; {names}")
        return found[0]


def spellings(directions: Iterable[Direction]) -> dict[str, Direction]:
    """Return the direction by every key, and by every alias, that only one direction has."""
    directions = tuple(directions)
    found: dict[str, Direction] = {}
    for texts in ([one.key for one in directions], [one.alias for one in directions]):
        counts = Counter(texts)
        for text, one in zip(texts, directions, strict=True):
            if counts[text] == 1:
                found.setdefault(text, one)
    return found


def chosen(text: Any, directions: Sequence[Direction]) -> Direction:
    """Return the direction, among those given, that a text denotes; raise if it is not one."""
    if isinstance(text, Direction):
        same = [one for one in directions if (one.query, one.gallery) == (text.query, text.gallery)]
        if same:
            return same[0]
    found = spellings(directions)
    if isinstance(text, str) and text in found:
        return found[text]
    several = [one.label for one in directions if text in (one.key, one.alias)]
    what = f"is ambiguous ({', '.join(several)})" if several else "is unknown"
    raise ValueError(
        f"direction: {shown(text)} {what}; use one of {', '.join(one.key for one in directions)}"
    )
