"""Late interaction without a network: sums of the largest similarities of sets (MaxSim)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from crossfit import CrossModalEstimator, Ragged, Views
from crossfit.subspace import CCA
from crossfit.views import as_numpy, without_padding
from crossfit_heads import cards
from crossfit_heads.explained import pairs_of

__all__ = ["MaxSim", "largest_sums"]

# Words, and images, whose similarities are held at once: so few that they stay in the cache of a
# core.
_WORDS, _IMAGES = 512, 128


def largest_sums(regions: Ragged, words: Ragged) -> NDArray[Any]:
    """Return the sum over the words of the largest similarity to a region, for all pairs.

    Parameters
    ----------
    regions : Ragged of n rows of shape (R_i, d)
        Regions of n images.
    words : Ragged of m rows of shape (T_i, d)
        Words of m texts.

    Returns
    -------
    array of shape (n, m)
        0 for an image without regions, and for a text without words.
    """
    scores = np.zeros((len(regions), len(words)), regions.dtype)
    # Images with many regions first: those with a k-th region are then the first ones of a block.
    order = np.argsort(-regions.lengths, kind="stable")
    order = order[: np.count_nonzero(regions.lengths)]
    filled = np.flatnonzero(words.lengths)
    stops = words.offsets[1:][filled]
    cuts = np.searchsorted(stops, np.arange(_WORDS, stops[-1] if len(stops) else 0, _WORDS))
    texts = [part for part in np.split(filled, np.unique(cuts)) if len(part)]
    for start in range(0, len(order), _IMAGES):
        rows = order[start : start + _IMAGES]
        first, lengths = regions.offsets[rows], regions.lengths[rows]
        counts = [int(np.searchsorted(-lengths, -k)) for k in range(int(lengths[0]))]
        places = [regions.values[first[:count] + k] for k, count in enumerate(counts)]
        for part in texts:
            begun = words.offsets[part]
            some = words.values[begun[0] : words.offsets[part[-1] + 1]].T
            best = places[0] @ some
            held = np.empty_like(best)
            for vectors in places[1:]:
                n = len(vectors)
                np.matmul(vectors, some, out=held[:n])
                np.maximum(best[:n], held[:n], out=best[:n])
            scores[rows[:, None], part] = np.add.reduceat(best, begun - begun[0], axis=1)
    return scores


class MaxSim(CrossModalEstimator):
    r"""Late interaction without a network (MaxSim): every word takes the region nearest to it.

    The score of an image with regions r and a text with words w is

    .. math:: \frac{1}{T} \sum_{t=1}^{T} \max_i \cos(w_t, r_i).

    For regions and words of a common space, such as those of two encoders that were trained
    together, there is nothing to fit: ``align=None``. Otherwise, both are mapped to the space of a
    CCA, which is fitted to the means of the sets.

    Images are regions, (n, R, d) or ragged. Texts are word vectors, (n, T, d) padded with zeros, or
    ragged.

    Parameters
    ----------
    align : {"cca", None}, default="cca"
        Map of regions and words to a common space: the CCA of their means, or none, for which
        regions and words must have the same number of features.
    n_components : int, optional
        Number of canonical components, by default all. Without effect for ``align=None``, as are
        `reg` and `power`.
    reg : float or mapping of str to float, default=1.0
        Ridge of the CCA, relative to the mean variance, for all views or for each by role or name.
    power : float, default=0.5
        Power of the canonical correlations that scales the components, see `crossfit.subspace.CCA`.
        Single regions and words need less of it, and a smaller ridge, than means do.
    normalize : bool, default=True
        Divide the sum by the number of words, so that texts of different lengths can be compared.
        The order of images for a text does not depend on it.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    cca_ : crossfit.subspace.CCA or None
        The fitted map.

    See Also
    --------
    SCAN : Words attend to several regions, in a space that is trained for it.
    crossfit.subspace.CCA : The cosine of the means.

    Notes
    -----
    Scores are computed in float32, image by image in small blocks, from unit vectors that are
    computed once per item. An image without regions, or a text without words, has the score 0.

    References
    ----------
    Regions and words: A. Karpathy, L. Fei-Fei, Deep visual-semantic alignments for generating image
    descriptions, CVPR 2015. The name: O. Khattab, M. Zaharia, ColBERT: efficient and effective
    passage search via contextualized late interaction over BERT, SIGIR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_heads.maxsim import MaxSim
    >>> from crossfit_heads.testing import make_sets
    >>> views, _ = make_sets(np.random.default_rng(0), 100)
    >>> maxsim = MaxSim().fit(views[:60])
    >>> bool(maxsim.score(views[60:]) > 0.5)
    True
    """

    card = cards.MAXSIM

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "align": [StrOptions({"cca"}), None],
        **{name: CCA._parameter_constraints[name] for name in ("n_components", "reg", "power")},
        "normalize": ["boolean"],
    }

    cca_: CCA | None

    def __init__(
        self,
        *,
        align: str | None = "cca",
        n_components: int | None = None,
        reg: float | Mapping[str, float] = 1.0,
        power: float = 0.5,
        normalize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.align = align
        self.n_components = n_components
        self.reg = reg
        self.power = power
        self.normalize = normalize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        self.cca_ = None
        if self.align is None:
            widths = self.n_features_in_
            if len(set(widths.values())) > 1:
                given = ", ".join(f"{self._view_name(role)!r}: {n}" for role, n in widths.items())
                raise ValueError(
                    "MaxSim: regions and words must have the same number of features, got "
                    f"{given}; set align='cca'"
                )
            return
        cca = CCA(self.n_components, reg=self.reg, power=self.power, views=self.views_in_)
        means = views.map(lambda values, role: _means(self._sets(values, role)))
        self.cca_ = cca.fit(means.rename(self.views_in_))

    def _sets(self, values: Any, role: str) -> Ragged:
        if role == "text":
            return without_padding(values)
        if isinstance(values, Ragged):
            return values
        held = as_numpy(values)
        n, size, width = held.shape
        return Ragged(held.reshape(n * size, width), np.arange(n + 1) * size)

    # ---- scores --------------------------------------------------------------------------------

    def _prepare(self, values: Any, view: str) -> Ragged:
        """Return unit vectors of the common space, in float32."""
        sets = self._sets(values, view)
        found = sets.values
        if self.cca_ is not None:
            name = self._view_name(view)
            found = self.cca_.encode(found, name) if len(found) else np.zeros((0, 1))
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        units = np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)
        return Ragged(units.astype(np.float32, copy=False), sets.offsets)

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        scores = largest_sums(P, Q)
        return scores / np.maximum(Q.lengths, 1).astype(np.float32) if self.normalize else scores

    # ---- matches -------------------------------------------------------------------------------

    def explain(self, X: Any, Y: Any = None) -> Views:
        """Return the region that each word takes, row by row: each image with its own text.

        Parameters
        ----------
        X : Views, or images
            Pairs, row by row.
        Y : texts, optional
            As many as there are images; required unless X is Views.

        Returns
        -------
        Views
            One row per pair, in the view ``words``, of shape (words, regions): 1 at the nearest
            region and 0 elsewhere. ``info`` contains ``words`` if the texts have them.

        Raises
        ------
        ValueError
            If a view is missing.
        """
        check_is_fitted(self, "views_in_")
        views, _ = self._given(X, Y, None, self.views_in_)
        views = pairs_of(self.fitted_views(views), self._name())
        first, second = (self._checked_values(views[name], role)
                         for role, name in self.views_in_.items())  # fmt: skip
        regions, words = self._prepare(first, "image"), self._prepare(second, "text")
        most = int(regions.lengths.max())
        found = []
        for own, each in zip(regions, words, strict=True):
            nearest = np.zeros((len(each), most), np.float32)
            if len(own):
                nearest[np.arange(len(each)), (each @ own.T).argmax(axis=1)] = 1
            found.append(nearest)
        texts = self._sets(second, "text")
        info = {"words": texts.info["words"]} if "words" in texts.info else {}
        return Views(words=Ragged.from_list(found, info))


def _means(sets: Ragged) -> NDArray[Any]:
    """Return the mean (n, d) of every set, and zeros for an empty one."""
    totals = np.zeros((len(sets), sets.values.shape[1]))
    np.add.at(totals, np.repeat(np.arange(len(sets)), sets.lengths), sets.values)
    return totals / np.maximum(sets.lengths, 1)[:, None]
