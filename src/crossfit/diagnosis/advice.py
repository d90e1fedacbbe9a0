"""Recommendations that follow from the figures of a diagnosis, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfit.diagnosis.estimate import METRICS, Estimate
from crossfit.metrics import PairedTest, compare
from crossfit.report.format import counted

if TYPE_CHECKING:
    from crossfit.diagnosis.result import Diagnosis

__all__ = ["Advice", "advise"]

#: Smallest gain per doubling of the pairs, as a share of the value, that is worth collecting pairs.
_WORTH = 0.03
#: Share of pairs that look random from which the list should be read.
_SUSPICIOUS = 0.02


@dataclass(frozen=True)
class Advice:
    """A recommendation with its reason.

    Parameters
    ----------
    topic : {"relation", "method", "pairs", "hubs", "duplicates", "wrong pairs"}
        Subject.
    level : {"stop", "do", "fine"}
        Whether something must be repaired first, should be done, or is as it should be.
    do : str
        The recommendation, one sentence.
    reason : str
        The figures that it follows from.

    Examples
    --------
    >>> Advice("hubs", "do", "Correct hubs: similarity nnn.", "MRR .30 rises to .34.").level
    'do'
    """

    topic: str
    level: str
    do: str
    reason: str


def advise(found: Diagnosis) -> tuple[Advice, ...]:
    """Return the recommendations that follow from the figures, in the order of the work.

    Parameters
    ----------
    found : Diagnosis
        All figures; its own advice is not read.
    """
    related = _relation(found)
    known = [related]
    if related.level != "stop":
        known += [_method(found), _pairs(found), _hubs(found)]
        known += [_wrong_pairs(found)]
    known += [_duplicates(found)]
    order = {"stop": 0, "do": 1, "fine": 2}
    return tuple(sorted(known, key=lambda each: order[each.level]))


def _figures(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _change(test: PairedTest) -> str:
    return f"{_signed(test.difference)} [{_signed(test.low)}, {_signed(test.high)}]"


def _relation(found: Diagnosis) -> Advice:
    total = found.canonical.total
    best = max(found.recovered.values(), key=lambda each: each.value)
    reason = (
        f"On held-out pairs the mean reciprocal rank is {_figures(best)} where chance is "
        f"{best.chance:.3f}, and the canonical correlations sum to {total.value:.2f} where "
        f"permuted pairs stay below {total.chance:.2f}."
    )
    if best.above_chance and total.value > total.chance:
        return Advice("relation", "fine", "The two views are related.", reason)
    return Advice(
        "relation",
        "stop",
        "Check pairs and features first: these views are not shown to be related.",
        f"{reason} Nothing is learnt from such pairs; the rows of one view may be in another "
        "order, or the features may not hold what the pairs have in common.",
    )


def _method(found: Diagnosis) -> Advice:
    ways = {each.name: each.evaluation for each in found.recoveries}
    tests = compare(ways, METRICS[-1], None, baseline="CCA")
    by_name = {each.name: each for each in found.recoveries}
    align = found.recovered["CCA"]
    settings = by_name["CCA"].settings
    better = [test for test in tests if test.low > 0 and test.p_adjusted < 0.05]
    if not better:
        test = max(tests, key=lambda each: each.difference)
        reg = settings.removeprefix("reg ")
        return Advice(
            "method",
            "do",
            f"Align: begin with cca (a ridge of {reg} was best here), then tune it per view.",
            f"CCA, which maps both views, has a mean reciprocal rank of {_figures(align)}; the "
            f"best of the others, {test.first}, differs by {_change(test)}.",
        )
    best = max(better, key=lambda each: each.difference)
    chosen = by_name[best.first]
    reason = (
        f"{chosen.name} ({chosen.settings}) has a mean reciprocal rank of "
        f"{_figures(found.recovered[chosen.name])}, CCA {_figures(align)}: a difference of "
        f"{_change(best)}."
    )
    if chosen.kind == "predict":
        do = f"Predict: begin with {chosen.method}, the {chosen.name}."
    else:
        do = f"These views are aligned already: begin with {chosen.method}, {chosen.settings}."
    return Advice("method", "do", do, reason)


def _pairs(found: Diagnosis) -> Advice:
    curve = found.curve
    last = curve.estimates[-1]
    if curve.gain is None:
        return Advice(
            "pairs",
            "do",
            "Collect more pairs, and diagnose them again.",
            f"There are only {counted(curve.sizes[-1], 'pair')} to fit on, too few for a learning "
            "curve.",
        )
    gain = curve.gain
    reason = (
        f"From {curve.sizes[-2]:,} to {curve.sizes[-1]:,} pairs the mean reciprocal rank changes "
        f"by {_change(gain)}, that is {_signed(curve.per_doubling)} per doubling, to "
        f"{_figures(last)}."
    )
    if gain.low > 0 and curve.per_doubling >= _WORTH * last.value:
        return Advice("pairs", "do", "More pairs help.", reason)
    return Advice("pairs", "fine", "More pairs of this kind help little.", reason)


def _hubs(found: Diagnosis) -> Advice:
    hubs = found.hubs
    skewness = max(each["skewness"] for each in hubs.plain.values())
    never = max(each["never"] for each in hubs.plain.values())
    reason = (
        f"The correction changes the mean reciprocal rank by "
        f"{_change(hubs.test)}. With the plain cosine the skewness of the "
        f"counts is up to {skewness:.1f}, and up to {never:.0%} of the items are among the first "
        "ten of no query."
    )
    if hubs.helps:
        return Advice("hubs", "do", "Correct hubs: rank with the similarity nnn.", reason)
    return Advice("hubs", "fine", "Keep the cosine: a hub correction does not help here.", reason)


def _wrong_pairs(found: Diagnosis) -> Advice:
    share, n = found.wrong.share, len(found.wrong.scores)
    reason = (
        f"About {share:.1%} of the pairs score as pairs drawn at random do (less, if some right "
        "pairs are hard to recognise)."
    )
    k = round(share * n)
    if not k:
        return Advice("wrong pairs", "fine", "The pairs look right.", reason)
    if share < _SUSPICIOUS:
        do = f"Few pairs look wrong, about {k:,} of {n:,}: read the top of the list."
        return Advice("wrong pairs", "fine", do, reason)
    do = f"Read the first {k:,} of the list: about as many of {n:,} pairs may be wrong."
    return Advice("wrong pairs", "do", do, reason)


def _duplicates(found: Diagnosis) -> Advice:
    parts = [
        f"{each.n_affected:,} of {len(each.clusters):,} {name} items have a near-duplicate "
        f"(cosine of at least {each.threshold:g}) outside their group"
        for name, each in found.duplicates.items()
    ]
    reason = f"{'; '.join(parts)}."
    leaks = [
        f"{counted(n, f'{name} item')} of {one} in {other}"
        for name, each in found.duplicates.items()
        for (one, other), n in each.across.items()
        if n and other == found.train
    ]
    if found.indistinct:
        reason += (
            f" Most items of {' and '.join(found.indistinct)} are linked by chains, so that they "
            "are not used for groups: raise the threshold."
        )
    if leaks:
        return Advice(
            "duplicates",
            "stop",
            "Split again by groups: there are near-duplicates across splits.",
            f"Near-duplicates of {', '.join(leaks)}. {reason}",
        )
    if found.n_merged:
        return Advice(
            "duplicates",
            "do",
            "Split by groups: keep near-duplicates on one side.",
            f"{reason} Joining them leaves {found.n_groups:,} groups of "
            f"{found.n_groups + found.n_merged:,}.",
        )
    return Advice("duplicates", "fine", "No further groups are needed.", reason)
