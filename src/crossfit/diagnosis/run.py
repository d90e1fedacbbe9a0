"""`diagnose`: every question about a set of pairs, from one call."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

import crossfit
from crossfit import labels
from crossfit._arguments import integer, mapping_of, real, shown, validated
from crossfit._progress import progress_bar
from crossfit._random import draw_seed
from crossfit.diagnosis.advice import advise
from crossfit.diagnosis.align_or_predict import estimate_of, recoveries
from crossfit.diagnosis.alignment import held_out_correlations, linear_cka, mutual_knn
from crossfit.diagnosis.dimension import intrinsic_dimension
from crossfit.diagnosis.duplicates import Duplicates, joined, near_duplicates
from crossfit.diagnosis.estimate import Estimate, matrix, two_views
from crossfit.diagnosis.hub_effect import hub_effect_of
from crossfit.diagnosis.learning import learning_curve
from crossfit.diagnosis.result import Diagnosis
from crossfit.diagnosis.wrong_pairs import drawn_groups, rank_pairs
from crossfit.model_selection import PairShuffleSplit
from crossfit.views import Views, as_float, is_views

__all__ = ["diagnose"]

Codes = NDArray[np.int64]
#: Fewest groups of pairs, of which a fifth is held out.
_FEWEST = 30
#: Columns above which a view is projected, and the number that is left.
_WIDE, _PROJECTED = 4096, 2048
#: Share of the items of a view in one cluster above which the view is not used for groups.
_CHAINED = 0.05
#: Shares of the work, which the progress bar shows.
_WORK = {"duplicates": 25, "learning curve": 20, "align or predict": 25, "hubs": 5,
         "relation": 10, "wrong pairs": 15}  # fmt: skip


@validated(
    shown=[Views, None],
    splits=["array-like", None],
    train=[str],
    threshold=[real(0, 1), mapping_of(real(0, 1))],
    max_pairs=[integer(_FEWEST)],
    title=[str],
    random_state=["random_state"],
    verbose=["verbose", str],
)
def diagnose(
    views: Views,
    *,
    shown: Views | None = None,
    splits: ArrayLike | None = None,
    train: str = "train",
    threshold: float | Mapping[str, float] = 0.9,
    max_pairs: int = 5000,
    title: str = "",
    random_state: Any = 0,
    verbose: bool | int | str = "auto",
) -> Diagnosis:
    """Diagnose pairs of two views before anything is trained on them.

    Whether the views are related; whether more pairs help; whether to align both views or to
    predict one from the other; hubs, and whether their correction helps; the intrinsic dimension of
    each view; near-duplicates, also across splits, as groups; and the pairs that look wrong. Every
    figure of a fitted method is on groups of pairs that were not fitted.

    Parameters
    ----------
    views : Views
        Two views of vectors, which is what extractors return. A row is a pair, and rows of one
        group stay together.
    shown : Views, optional
        What the page shows of the same rows: pictures (paths or pixels) and texts, usually the
        views before feature extraction.
    splits : array-like of str, shape (n,), optional
        Split of each row. Near-duplicates are looked for in all rows; everything else uses only
        the rows of the split `train`, so that no test pair has a part in a decision.
    train : str, default="train"
        Name of that split.
    threshold : float or mapping of str to float, default=0.9
        Least cosine of near-duplicates, after subtracting the mean, for both views or by view.
    max_pairs : int, default=5000
        Number of pairs, drawn by whole groups, that methods are fitted and compared on. If there
        are more, a note states it. Near-duplicates are looked for in all rows, and all pairs are
        ranked by how wrong they look.
    title : str, default=""
        Title of the page.
    random_state : int, RandomState or None, default=0
        Source of all draws.
    verbose : {"auto", True, False}, default="auto"
        Whether to show a progress bar; ``"auto"`` shows one on a terminal.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError
        If `views` are not Views.
    ValueError
        If there are not two views of vectors, a view is constant, there are fewer than 30 groups of
        pairs, or the splits do not fit the rows.

    See Also
    --------
    crossfit.model_selection.PairShuffleSplit : Splits that keep groups together.

    Notes
    -----
    5,000 pairs of 1,280 and 384 columns take well under a minute on one core. Time grows with the
    square of the number of items because of the near-duplicates. A view of more than 4,096 columns
    is replaced by 2,048 random projections, which keep its distances.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views, diagnose
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(300, 6))
    >>> views = Views(image=Z @ rng.normal(size=(6, 20)), text=Z @ rng.normal(size=(6, 10)))
    >>> found = diagnose(views)
    >>> [advice.do for advice in found.advice if advice.topic == "relation"]
    ['The two views are related.']
    """
    begun = time.perf_counter()
    names = two_views(views, "diagnose")
    if not (verbose == "auto" or isinstance(verbose, (bool, int))):
        raise ValueError(f"verbose must be 'auto', True or False, got {verbose!r}")
    limits = _limits(threshold, names)
    notes: list[str] = []
    seed = int(random_state) if isinstance(random_state, int | np.integer) else draw_seed(
        random_state
    )  # fmt: skip
    if shown is not None:
        _check_shown(shown, views)
    part = _parts(splits, views, train)
    rows = np.arange(len(views)) if part is None else np.flatnonzero(part == train)
    numbers = views.map(lambda values, name: _numbers(values, name, seed, notes))
    for name in names:
        values = numbers[rows].distinct(name)[0]
        if not (values != values[0]).any():
            raise ValueError(
                f"diagnose: view {name!r} is constant: all items have the same features"
            )
    n_own = len(np.unique(views.groups[rows]))
    if n_own < _FEWEST:
        raise ValueError(
            f"diagnose: there are {n_own} groups of pairs, of which some must be held out; at "
            f"least {_FEWEST} are needed"
        )
    with progress_bar(100, "diagnose", "%", verbose) as bar:

        def advance(what: str, share: float = 1.0) -> Any:
            bar.set_postfix_str(what, refresh=False)
            return lambda done: bar.update(_WORK[what] * share * done)

        duplicates = {
            name: _duplicates_of(numbers, name, limits[name], part, advance("duplicates", 0.5))
            for name in names
        }
        groups, indistinct = _groups(numbers, duplicates)
        n_all = len(np.unique(views.groups))
        n_groups = int(groups.max()) + 1
        pairs = numbers[rows].with_groups(groups[rows])
        if len(np.unique(pairs.groups)) < _FEWEST:
            raise ValueError(
                "diagnose: with near-duplicates joined there are only "
                f"{len(np.unique(pairs.groups))} groups of pairs; raise threshold"
            )
        rng = np.random.RandomState(seed)
        sample = pairs
        if len(pairs) > max_pairs:
            sample = pairs[drawn_groups(pairs.groups, max_pairs, rng)]
            notes.append(
                f"Methods were fitted and compared on {len(sample):,} of {len(pairs):,} pairs, "
                f"drawn by whole groups with seed {seed}; near-duplicates are of all pairs, and "
                "all pairs are ranked."
            )
        (fit_rows, test_rows), = PairShuffleSplit(
            1, test_size=0.2, random_state=rng
        ).split(sample)  # fmt: skip
        fit, test = sample[fit_rows], sample[test_rows]
        curve = learning_curve(fit, test, random_state=rng, progress=advance("learning curve"))
        found = recoveries(fit, test, random_state=rng, progress=advance("align or predict"))
        done = advance("hubs")
        hubs = hub_effect_of(curve.method, fit, test)
        done(1.0)
        done = advance("relation")
        canonical = held_out_correlations(curve.method, _one_each(test), random_state=rng)
        single = _one_each(sample)
        one, other = (single[name] for name in names)
        cka, near = linear_cka(one, other), mutual_knn(one, other, min(10, len(single) - 1))
        dimensions = {name: _dimension(sample.distinct(name)[0], name, notes) for name in names}
        done(1.0)
        wrong = rank_pairs(
            pairs, max_pairs=max_pairs, random_state=rng, progress=advance("wrong pairs")
        )
    facts = _facts(views, numbers, rows, seed, limits, fit, test, time.perf_counter() - begun)
    made = Diagnosis(
        shown=views if shown is None else shown.select(*_in_order(shown, names)),
        rows=rows,
        groups=groups,
        cka=cka,
        neighbours=near,
        canonical=canonical,
        dimensions=dimensions,
        duplicates=duplicates,
        indistinct=indistinct,
        recoveries=found,
        recovered={each.name: estimate_of(each.evaluation, test) for each in found},
        curve=curve,
        hubs=hubs,
        wrong=wrong,
        n_groups=n_groups,
        n_merged=n_all - n_groups,
        notes=tuple(notes),
        facts=facts,
        train="" if part is None else train,
        title=title,
    )
    return replace(made, advice=advise(made))


def _limits(threshold: float | Mapping[str, float], names: tuple[str, str]) -> dict[str, float]:
    if not isinstance(threshold, Mapping):
        return dict.fromkeys(names, float(threshold))
    unknown = [name for name in threshold if name not in names]
    if unknown:
        raise ValueError(
            f"threshold names the view {unknown[0]!r}, but the views are {' and '.join(names)}"
        )
    return {name: float(threshold.get(name, 0.9)) for name in names}


def _check_shown(given: Views, views: Views) -> None:
    if len(given) != len(views):
        raise ValueError(
            f"shown must have the rows of the views ({len(views)}), got {len(given)} rows"
        )
    missing = [name for name in views.names if name not in given]
    if missing:
        raise ValueError(
            f"shown has no view {missing[0]!r}; its views are {', '.join(given.names)}"
        )


def _in_order(given: Views, names: tuple[str, str]) -> tuple[str, ...]:
    return tuple(name for name in names if is_views(given) and name in given)


def _parts(splits: Any, views: Views, train: str) -> NDArray[Any] | None:
    """Return the name of each row's split; raise if `train` is not one, or a group is divided."""
    if splits is None:
        return None
    codes = labels.group_codes(splits, len(views), "row")
    part = np.array([str(name) for name in splits], dtype=object)
    if train not in set(part):
        raise ValueError(
            f"train: no row is in the split {shown(train)}; the splits are "
            f"{', '.join(dict.fromkeys(part))}"
        )
    first = np.unique(views.groups, return_index=True, return_inverse=True)
    if np.any(codes[first[1]][first[2]] != codes):
        raise ValueError("splits must not divide rows that share an item or a group of the views")
    return part


def _numbers(values: Any, name: str, seed: int, notes: list[str]) -> Any:
    """Return the features of the items of a view, projected if there are very many columns."""
    where = f"diagnose: view {name!r}"
    sparse = sp.issparse(values)
    if not (sparse and values.shape[1] > _WIDE):
        values = matrix(values, where)
    if values.shape[1] <= _WIDE:
        return values
    from sklearn.random_projection import SparseRandomProjection

    notes.append(
        f"The {values.shape[1]:,} columns of {name} were replaced by {_PROJECTED:,} random "
        "projections."
    )
    projection = SparseRandomProjection(_PROJECTED, dense_output=True, random_state=seed)
    return projection.fit_transform(as_float(values, where))


def _duplicates_of(
    views: Views, name: str, threshold: float, part: NDArray[Any] | None, progress: Any
) -> Duplicates:
    first = views.first_rows(name)
    return near_duplicates(
        views.distinct(name)[0],
        threshold,
        groups=views.groups[first],
        splits=None if part is None else part[first],
        progress=progress,
    )


def _groups(views: Views, duplicates: Mapping[str, Duplicates]) -> tuple[Codes, tuple[str, ...]]:
    """Return groups with near-duplicates joined, and the views whose items are mostly linked."""
    indistinct = tuple(
        name
        for name, each in duplicates.items()
        if each.largest > max(10, _CHAINED * len(each.clusters))
    )
    clusters = [
        each.clusters[views.distinct(name)[1]]
        for name, each in duplicates.items()
        if name not in indistinct
    ]
    return joined(views.groups, *clusters), indistinct


def _one_each(views: Views) -> Views:
    """Return rows in which no item of either view is repeated."""
    first, second = (views.first_rows(name) for name in views.names)
    return views[np.intersect1d(first, second)]


def _dimension(values: Any, name: str, notes: list[str]) -> Estimate:
    try:
        return intrinsic_dimension(values)
    except ValueError as error:
        notes.append(f"The intrinsic dimension of {name} is not known: {error}.")
        return Estimate(float("nan"))


def _facts(
    views: Views,
    numbers: Views,
    rows: Codes,
    seed: int,
    limits: Mapping[str, float],
    fit: Views,
    test: Views,
    seconds: float,
) -> dict[str, str]:
    import sklearn

    items = ", ".join(
        f"{len(numbers.distinct(name)[0]):,} {name} items of "
        f"{views.distinct(name)[0].shape[1]:,} columns"
        for name in views.names
    )
    held_out = " and ".join(f"{len(test.distinct(name)[0]):,} {name} items" for name in test.names)
    limit = ", ".join(f"{name} {value:g}" for name, value in limits.items())
    return {
        "pairs": f"{len(views):,}, of which {len(rows):,} were measured; {items}",
        "fitted and ranked": f"{len(fit):,} pairs to fit on; {held_out} to rank",
        "near-duplicates": f"cosine of centred features of at least: {limit}",
        "method": "CCA with its defaults, unless another one is named",
        "seed": str(seed),
        "versions": f"Python {platform.python_version()}, crossfit {crossfit.__version__}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}",
        "time": f"{seconds:.1f} s",
    }
