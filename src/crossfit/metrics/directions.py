"""Directions of retrieval: the view that queries come from, and the view that is searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

from crossfit._arguments import shown

__all__ = ["Direction", "spellings"]


class Direction(str):
    """A query view and a gallery view: "find the text of this image".

    A direction is a string, its key, so that it stands as it is in JSON, in tables and as the key
    of a mapping. Its views are attributes, because a key cannot be split reliably: a view may have
    the digit 2 in its name.

    Parameters
    ----------
    query : str
        Name of the view that queries come from.
    gallery : str
        Name of the view that is searched.

    Attributes
    ----------
    query, gallery : str
        As given.

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
        """The direction in stores, files and mappings: ``image2text``."""
        return str(self)

    @property
    def alias(self) -> str:
        """The key of the initials: ``i2t``."""
        return f"{self.query[0]}2{self.gallery[0]}"

    @property
    def label(self) -> str:
        """The direction as people read it: ``image → text``."""
        return f"{self.query} → {self.gallery}"

    @property
    def reverse(self) -> Direction:
        """The direction from the gallery to the query."""
        return Direction(self.gallery, self.query)

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.query, self.gallery

    def __repr__(self) -> str:
        return f"Direction({self.query!r}, {self.gallery!r})"

    @classmethod
    def between(cls, views: Sequence[str]) -> tuple[Direction, ...]:
        """Return the directions between views: every ordered pair of two different ones.

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
        """Return the direction between known views that a key or an alias stands for.

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
            If the text stands for none of the directions between the views, or for several; the
            message lists the valid ones.

        Examples
        --------
        >>> Direction.parse("view12view2", ["view1", "view2"]).label
        'view1 → view2'
        """
        return chosen(text, cls.between(views))

    @classmethod
    def stored(cls, key: str, views: Iterable[str] = ()) -> Direction:
        """Return the direction of a key in a file that was stored.

        Parameters
        ----------
        key : str
            What `Direction.key` returned.
        views : iterable of str, optional
            Names of the views, where the file has them. Without them a key can be read if it has
            the digit 2 once.

        Returns
        -------
        Direction

        Raises
        ------
        ValueError
            If the key has no reading, or several.
        """
        known = set(views)
        readings = [
            cls(key[:at], key[at + 1 :])
            for at, letter in enumerate(key)
            if letter == "2" and 0 < at < len(key) - 1
        ]
        found = [each for each in readings if not known or {each.query, each.gallery} <= known]
        if len(found) != 1:
            what = "is ambiguous" if found else "is unknown"
            raise ValueError(
                f"direction: {shown(key)} {what}; the views are {', '.join(sorted(known)) or '?'}"
            )
        return found[0]


def spellings(directions: Iterable[Direction]) -> dict[str, Direction]:
    """Return every text that stands for exactly one of some directions: keys, then initials."""
    directions = tuple(directions)
    found: dict[str, Direction] = {}
    for texts in ([one.key for one in directions], [one.alias for one in directions]):
        counts = Counter(texts)
        for text, one in zip(texts, directions, strict=True):
            if counts[text] == 1:
                found.setdefault(text, one)
    return found


def chosen(text: Any, directions: Sequence[Direction]) -> Direction:
    """Return the one of some directions that a text stands for."""
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
