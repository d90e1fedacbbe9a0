"""Names of ranking measures, ``measure@k[:variant]``, and the properties of their kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crossfit._arguments import shown


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Properties of a kind of measure that do not depend on its cut-off.

    Its values are computed in `crossfit.metrics.ranking`, and everything else that depends on the
    kind is derived from this row.

    Parameters
    ----------
    words : str
        Name of the kind in the headers of tables.
    cutoffs : tuple of {"all", "k", "r"}, default=()
        Cut-offs that are accepted: the whole gallery, a number, or the number R of the relevant
        items of each query. By default there is no cut-off.
    variants : tuple of str, default=()
        Variants, of which the first is the default. If the kind has cut-offs, only measures with
        a number as cut-off have variants.
    default_is_written : bool, default=False
        Whether the canonical name includes the variant if it is the default.
    by_label : bool, default=False
        Whether all items with the label of the query are relevant if there are labels. Otherwise
        only the paired item is.
    needs_grades : bool, default=False
        Whether values depend on the grades of relevant items.
    first_only : bool or tuple of str, default=False
        Whether the value of a query depends only on its best-ranked relevant item, or the variants
        for which this is so.
    is_rank : bool, default=False
        Whether values are ranks, which begin at 1.
    of_ties : bool, default=False
        Whether the kind is about the ties themselves. Its values do not depend on how tied items
        are ranked, and a random ranking, which has no ties, has the value 0.
    median_of : str, default=""
        Kind whose values per query are summarised by their median, of which the variant is the
        convention. By default the mean over the queries is used.
    greater_is_better : bool, default=True
        Whether a larger value is better.
    bounded : bool, default=True
        Whether values are in [0, 1].
    digits : int, default=3
        Number of decimals in tables.
    protocols : mapping of str to str, optional
        Variants that are only for figures of one paper, with a sentence about ``{name}`` and its
        cut-off ``{k}``, which tables print below such figures.
    """

    words: str
    cutoffs: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    default_is_written: bool = False
    by_label: bool = False
    needs_grades: bool = False
    first_only: bool | tuple[str, ...] = False
    is_rank: bool = False
    of_ties: bool = False
    median_of: str = ""
    greater_is_better: bool = True
    bounded: bool = True
    digits: int = 3
    protocols: Mapping[str, str] = field(default_factory=dict)

    def forms(self, kind: str) -> list[str]:
        """Return the names of the measures, with K for a number and | between variants."""
        if not self.cutoffs:
            return [kind + (f":{variant}" if variant else "") for variant in self.variants or ("",)]
        variants = ":" + "|".join(self.variants) if self.variants else ""
        forms = {"all": f"{kind}@all", "k": f"{kind}@K{variants}", "r": f"{kind}@R"}
        return [forms[form] for form in self.cutoffs]

    @property
    def is_adjustable(self) -> bool:
        """True if the mean can be adjusted for chance, with 1 for a perfect ranking."""
        return not self.median_of and not self.of_ties


_TWO_WAY_NET = (
    "{name} counts ranks from 0, as in the code of 2WayNet (CVPR 2017), and is the recall at "
    "{k} + 1: do not compare it with R@{k}."
)
#: Kinds of measures by name; their values are computed in `crossfit.metrics.ranking`.
KINDS = {
    "map": Kind(
        words="mAP", cutoffs=("all", "k", "r"), variants=("hits", "all", "min"),
        default_is_written=True, by_label=True,
    ),
    "r": Kind(
        words="R", cutoffs=("k",), variants=("any", "fraction", "twowaynet"),
        first_only=("any", "twowaynet"), protocols={"twowaynet": _TWO_WAY_NET},
    ),
    "p": Kind(words="P", cutoffs=("k", "r"), by_label=True),
    "ndcg": Kind(words="nDCG", cutoffs=("all", "k"), by_label=True, needs_grades=True),
    "mrr": Kind(words="MRR", first_only=True),
    "meanr": Kind(
        words="MeanR", first_only=True, is_rank=True, greater_is_better=False, bounded=False,
        digits=1,
    ),
    "medr": Kind(
        words="MedR", variants=("", "vsepp"), first_only=True, is_rank=True, median_of="meanr",
        greater_is_better=False, bounded=False, digits=1,
    ),
    "tied": Kind(words="tied", by_label=True, of_ties=True, greater_is_better=False),
}  # fmt: skip
_ADJUSTED = ":adjusted"
# A cut-off of more than 18 digits does not fit into an integer of NumPy.
_PATTERN = re.compile(r"([a-z]+)(?:@(all|r|[1-9][0-9]{0,17}))?(?::([a-z]+))?")
_FORMS = ", ".join(form for kind, row in KINDS.items() for form in row.forms(kind))
_KNOWN = f"{_FORMS} (K a positive integer), with {_ADJUSTED} for (x - chance)/(1 - chance)"


@dataclass(frozen=True, slots=True)
class Measure:
    """One ranking measure.

    Parameters
    ----------
    kind : str
        Kind of the measure, a key of `KINDS`: ``map``, ``r``, ``ndcg`` ...
    k : int or None
        The cut-off; None for the whole gallery, and if `at_r` is set.
    variant : str
        Denominator of ``map@k``, mode of ``r@k`` or convention of ``medr``; empty for others.
    at_r : bool, default=False
        Whether the cut-off is the number of relevant items of each query, as in ``map@R``.
    adjusted : bool, default=False
        Whether values are adjusted for chance: (x - chance)/(1 - chance).

    See Also
    --------
    parse_metric : Make one from its name.

    Examples
    --------
    >>> measure = Measure("r", k=5, variant="any")
    >>> measure.name, measure.statistic, measure.greater_is_better
    ('r@5', 'mean', True)
    """

    kind: str
    k: int | None = None
    variant: str = ""
    at_r: bool = False
    adjusted: bool = False

    @property
    def row(self) -> Kind:
        """The properties of the kind."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """The canonical name, which always includes the denominator of ``map@k``."""
        return self.kind + self._suffix + (_ADJUSTED if self.adjusted else "")

    @property
    def words(self) -> str:
        """The name in the headers of tables: ``mAP``, ``R@5``, ``mAP@R``, ``adjusted mAP``."""
        suffix = self._suffix.removesuffix("@all").replace("@r", "@R")
        return ("adjusted " if self.adjusted else "") + self.row.words + suffix

    @property
    def _suffix(self) -> str:
        row = self.row
        cutoff = "@r" if self.at_r else "@all" if self.k is None else f"@{self.k}"
        cutoff = cutoff if row.cutoffs else ""
        implied = not row.default_is_written and self.variant in row.variants[:1]
        return cutoff + (f":{self.variant}" if self.variant and not implied else "")

    @property
    def needs_first_only(self) -> bool:
        """True if the value of a query depends only on its best-ranked relevant item."""
        first_only = self.row.first_only
        return first_only if isinstance(first_only, bool) else self.variant in first_only

    @property
    def greater_is_better(self) -> bool:
        """False for ranks and for the share of tied queries, True for all other measures."""
        return self.adjusted or self.row.greater_is_better

    @property
    def is_rank(self) -> bool:
        """True if values are ranks, which begin at 1."""
        return self.row.is_rank and not self.adjusted

    @property
    def bounded(self) -> bool:
        """True if values are in [0, 1]; adjusted ones are negative below chance."""
        return self.row.bounded and not self.adjusted

    @property
    def digits(self) -> int:
        """Number of decimals in tables."""
        return 3 if self.adjusted else self.row.digits

    @property
    def protocol(self) -> str:
        """A sentence for tables if only figures of one paper are computed in this way, or ''."""
        sentence = self.row.protocols.get(self.variant, "")
        return sentence.format(name=self.words, k=self.k)

    @property
    def statistic(self) -> str:
        """The statistic over queries: ``mean``, ``median`` or ``vsepp``."""
        return self.variant or "median" if self.row.median_of else "mean"


def parse_metric(name: str) -> Measure:
    """Parse the name of a measure, in upper or lower case.

    Parameters
    ----------
    name : str
        ``map@all``, ``map@50:hits``, ``map@R``, ``r@5``, ``p@10``, ``p@R``, ``ndcg@10``,
        ``mrr``, ``meanr``, ``medr``, ``tied``, ``map@all:adjusted`` ...

    Returns
    -------
    Measure

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If there is no such measure; the message lists the valid names.

    See Also
    --------
    evaluate : Compute measures by their names.

    Examples
    --------
    >>> parse_metric("R@5").name, parse_metric("map@50").name
    ('r@5', 'map@50:hits')
    """
    if not isinstance(name, str):
        raise TypeError(f"metric must be a string such as 'map@all', got {shown(name)}")
    given = name.strip().lower()
    adjusted = given.endswith(_ADJUSTED)
    match = _PATTERN.fullmatch(given.removesuffix(_ADJUSTED))
    if match is not None and match[1] in KINDS:
        kind, cutoff, variant = match.groups()
        row = KINDS[kind]
        cutoffs, variants = row.cutoffs, row.variants
        form = cutoff if cutoff in (None, "all", "r") else "k"
        if (form in cutoffs) if cutoffs else form is None:
            if form in ("all", "r") or not variants:
                allowed: tuple[str, ...] = ("",)
            else:
                allowed = variants
            chosen = allowed[0] if variant is None else variant
            if adjusted and (not row.is_adjustable or chosen in row.protocols):
                raise ValueError(
                    f"metric {name[:60]!r}: {kind}{f':{variant}' if variant else ''} cannot be "
                    "adjusted for chance; adjust a measure whose mean is 1 for a perfect ranking"
                )
            if chosen in allowed:
                k = int(cutoff) if form == "k" else None
                return Measure(kind, k, chosen, at_r=form == "r", adjusted=adjusted)
    raise ValueError(f"unknown metric {name[:60]!r}: expected one of {_KNOWN}")


def parse_metrics(names: str | Sequence[str]) -> tuple[Measure, ...]:
    """Parse one or several names; a measure that is named twice is returned once."""
    if isinstance(names, str):
        names = (names,)
    try:
        names = list(names)
    except Exception as error:  # objects that are not iterable may raise anything
        raise TypeError(
            f"metrics must be a name or a sequence of names such as 'map@all', got "
            f"{type(names).__name__}"
        ) from error
    measures = tuple(dict.fromkeys(parse_metric(name) for name in names))
    if not measures:
        raise ValueError(f"metrics is empty: expected at least one of {_KNOWN}")
    return measures
