"""Names of ranking measures, ``measure@k[:variant]``: parsed, checked and written back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crossfit._arguments import shown

# kind -> (cut-offs it takes, variants with a cut-off, the first being the default)
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "map": (("all", "k"), ("hits", "all", "min")),
    "r": (("k",), ("any", "fraction")),
    "p": (("k",), ()),
    "ndcg": (("all", "k"), ()),
    "mrr": ((), ()),
    "meanr": ((), ()),
    "medr": ((), ("", "vsepp")),
}
# A cut-off beyond 18 digits fits no integer of NumPy's.
_PATTERN = re.compile(r"([a-z]+)(?:@(all|[1-9][0-9]{0,17}))?(?::([a-z]+))?")
_KNOWN = (
    "map@all, map@K:hits|all|min, r@K:any|fraction, p@K, ndcg@all, ndcg@K, "
    "mrr, meanr, medr, medr:vsepp (K a positive integer)"
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One ranking measure.

    Parameters
    ----------
    kind : {"map", "r", "p", "ndcg", "mrr", "meanr", "medr"}
        What is measured.
    k : int or None
        The cut-off; None is the whole gallery.
    variant : str
        Denominator of ``map@k``, mode of ``r@k``, convention of ``medr``; else empty.
    """

    kind: str
    k: int | None = None
    variant: str = ""

    @property
    def name(self) -> str:
        """The canonical name; the denominator of ``map@k`` is always written."""
        cutoff = "@all" if self.k is None else f"@{self.k}"
        variant = "" if self.variant in ("", "any") else f":{self.variant}"
        return self.kind + (cutoff if _KINDS[self.kind][0] else "") + variant

    @property
    def needs_grades(self) -> bool:
        """True if the measure depends on how relevant an item is."""
        return self.kind == "ndcg"

    @property
    def needs_first_only(self) -> bool:
        """True if the best-ranked relevant item of a query decides its value."""
        return self.kind in ("mrr", "meanr", "medr") or (self.kind, self.variant) == ("r", "any")

    @property
    def greater_is_better(self) -> bool:
        """False for ranks, True for all other measures."""
        return self.kind not in ("meanr", "medr")

    @property
    def statistic(self) -> str:
        """The statistic over queries: ``mean``, ``median`` or ``vsepp``."""
        if self.kind != "medr":
            return "mean"
        return self.variant or "median"


def parse_metric(name: str) -> Measure:
    """Parse the name of a measure, in any case.

    Parameters
    ----------
    name : str
        ``map@all``, ``map@50:hits``, ``r@5``, ``p@10``, ``ndcg@10``, ``mrr``, ``meanr``,
        ``medr`` ...

    Returns
    -------
    Measure

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If there is no such measure; the message lists the valid names.

    Examples
    --------
    >>> parse_metric("R@5").name, parse_metric("map@50").name
    ('r@5', 'map@50:hits')
    """
    if not isinstance(name, str):
        raise TypeError(f"a metric is named by a string such as 'map@all', got {shown(name)}")
    match = _PATTERN.fullmatch(name.strip().lower())
    if match is not None and match[1] in _KINDS:
        kind, cutoff, variant = match.groups()
        cutoffs, variants = _KINDS[kind]
        form = None if cutoff is None else "all" if cutoff == "all" else "k"
        if (form in cutoffs) if cutoffs else form is None:
            if form == "all" or not variants:
                allowed: tuple[str, ...] = ("",)
            else:
                allowed = variants
            chosen = allowed[0] if variant is None else variant
            if chosen in allowed:
                return Measure(kind, int(cutoff) if form == "k" else None, chosen)
    raise ValueError(f"unknown metric {name[:60]!r}: expected one of {_KNOWN}")


def parse_metrics(names: str | Sequence[str]) -> tuple[Measure, ...]:
    """Parse one or several names; a measure named twice is kept once."""
    if isinstance(names, str):
        names = (names,)
    try:
        names = list(names)
    except Exception as error:  # whatever an object raises that cannot be gone through
        raise TypeError(
            f"metrics must be a name or a sequence of names such as 'map@all', got "
            f"{type(names).__name__}"
        ) from error
    measures = tuple(dict.fromkeys(parse_metric(name) for name in names))
    if not measures:
        raise ValueError(f"metrics is empty: expected at least one of {_KNOWN}")
    return measures
