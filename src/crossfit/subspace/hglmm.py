"""Fisher vectors of words under Gaussian-Laplacian mixtures, and CCA with vectors of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import integer, one_of, real
from crossfit._random import random_source
from crossfit.base import CrossModalEstimator
from crossfit.extraction.fisher import FisherVector
from crossfit.extraction.regions import sets_of
from crossfit.extraction.words import WordVectors
from crossfit.subspace import cards
from crossfit.subspace._linalg import REG_STYLES
from crossfit.subspace.cca import CCA
from crossfit.views import Ragged, Views, as_numpy, is_tensor, n_rows

__all__ = ["HGLMMCCA", "GMMHGLMMCCA"]

# Fisher vectors that are held at once have about this many entries.
_ENTRIES = 2**26

# Trained on 2,000 pictures of Flickr8k and their captions, about the best on other pictures of
# ridges of 0.01 to 1 for pictures and of 0.0001 to 1 for texts.
_REG = {"image": 0.1, "text": 0.001}


class HGLMMCCA(CrossModalEstimator):
    """Canonical correlation of pictures with Fisher vectors of words (HGLMM with CCA).

    A text is the Fisher vector of its word vectors under a hybrid Gaussian-Laplacian mixture
    (`crossfit.extraction.FisherVector`): word vectors have unit length and are rotated to
    independent components; Fisher vectors are raised to a power with their signs kept, and scaled
    to unit length. Fisher vectors and vectors of pictures are mapped by regularised `CCA`, weighted
    by the correlations, and compared by the cosine. A row is a pair of a caption and its picture.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    words : transformer, optional
        Maps strings to word vectors, such as `crossfit.extraction.WordVectors` with a file. By
        default, vectors of 100 entries are learnt from the training texts. Not used if texts are
        word vectors already.
    mixture_size : int, default=5
        Number of components of the mixture, K. The published value, 30, suits word vectors that
        were trained on a large corpus and tens of thousands of pictures.
    ica : bool, default=True
        Whether to rotate word vectors to independent components.
    fisher_power : float, default=0.5
        Exponent of the entries of Fisher vectors; 1 leaves them unchanged.
    normalize : bool, default=True
        Whether to scale Fisher vectors to unit length.
    n_coordinates : int, optional
        Number of coordinates of the Fisher vectors, drawn at random, that are used; all of them by
        default. The published value for MS-COCO, where all of them were too many, is 20,000.
    max_words : int or None, default=20000
        Number of words, drawn at random, on which the rotation and the mixture are fitted; None
        for all.
    reg : float or mapping of str to float, optional
        Ridge of CCA, for both views or for each by role (or view name), in units of `reg_style`.
        By default 0.1 for pictures and 0.001 for texts, which is meant for ``"spectral"``. The
        published values, chosen on validation pairs, are between 5e-5 and 1e-3.
    reg_style : {"relative", "ridge", "shrink", "spectral"}, default="spectral"
        As in `CCA`; ``"spectral"`` adds `reg` times the largest eigenvalue of the covariances.
    power : float, default=1.0
        As in `CCA`: dimensions are scaled by their correlations.
    random_state : int, RandomState or None, default=0
        Seed of the learnt word vectors, the draws, the rotation and the mixture.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    words_ : transformer or None
        The fitted transformer of strings; None if texts are word vectors.
    fishers_ : list of FisherVector
        The fitted Fisher vectors, in the order in which they are concatenated.
    coordinates_ : int array of shape (n_coordinates,)
        The coordinates that are used.
    cca_ : CCA
        The fitted CCA of the vectors of pictures and the Fisher vectors.

    See Also
    --------
    GMMHGLMMCCA : Concatenates Fisher vectors of two mixtures.

    Notes
    -----
    Texts are strings, or rows of word vectors: a `crossfit.Ragged` of elements of d numbers, or an
    array of shape (n, T, d), in which rows of zeros are padding. A text without known words has a
    zero Fisher vector, with a warning.

    Fisher vectors have 2 K d entries per mixture: 18,000 with K = 30 and word vectors of 300
    entries. They are computed in chunks, also in `fit` if there are more pairs than columns, so
    that the covariances of CCA are the largest arrays in memory: O(D²) numbers for D columns of
    both views. CCA costs O(n D² + D³).

    References
    ----------
    B. Klein, G. Lev, G. Sadeh and L. Wolf, Associating neural word embeddings with deep image
    representations using Fisher vectors, CVPR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Ragged, Views
    >>> from crossfit.subspace import HGLMMCCA
    >>> rng = np.random.default_rng(0)
    >>> topics, y = rng.normal(size=(3, 4)), np.arange(60) % 3
    >>> text = Ragged.from_list([topics[k] + 0.3 * rng.laplace(size=(6, 4)) for k in y])
    >>> image = topics[y] @ rng.normal(size=(4, 5)) + 0.3 * rng.normal(size=(60, 5))
    >>> method = HGLMMCCA(2, mixture_size=2).fit(Views(image=image, text=text))
    >>> method.transform(image).shape
    (60, 2)
    """

    card = cards.HGLMMCCA

    mixtures: ClassVar[tuple[str, ...]] = ("hglmm",)
    """The mixtures whose Fisher vectors are concatenated."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "words": [HasMethods(["fit", "transform"]), None],
        "mixture_size": [integer(1)],
        "ica": ["boolean"],
        "fisher_power": [real(0, 1, closed="right")],
        "normalize": ["boolean"],
        "n_coordinates": [integer(1), None],
        "max_words": [integer(2), None],
        "reg": [*CCA._parameter_constraints["reg"], None],
        "reg_style": [one_of(*REG_STYLES)],
        "power": [real(0, closed="left")],
        "random_state": ["random_state"],
    }

    words_: Any
    fishers_: list[FisherVector]
    coordinates_: NDArray[np.int64]
    cca_: CCA

    def __init__(
        self,
        n_components: int | None = None,
        *,
        words: Any = None,
        mixture_size: int = 5,
        ica: bool = True,
        fisher_power: float = 0.5,
        normalize: bool = True,
        n_coordinates: int | None = None,
        max_words: int | None = 20_000,
        reg: float | Mapping[str, float] | None = None,
        reg_style: str = "spectral",
        power: float = 1.0,
        random_state: int | np.random.RandomState | None = 0,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.words = words
        self.mixture_size = mixture_size
        self.ica = ica
        self.fisher_power = fisher_power
        self.normalize = normalize
        self.n_coordinates = n_coordinates
        self.max_words = max_words
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.random_state = random_state
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        rng = random_source(self.random_state)
        seed, names = rng.randint(2**31 - 1), self.views_in_
        texts = views.distinct("text")[0]
        self.words_ = None
        if _are_strings(texts):
            default = WordVectors(vector_size=100, random_state=seed)
            self.words_ = (default if self.words is None else clone(self.words)).fit(texts)
        views = views.map(lambda values, _: self._sets(values), "text")
        sets = views.distinct("text")[0]
        # The same seed for all mixtures, so that they share the rotation.
        self.fishers_ = [
            FisherVector(
                mixture,
                self.mixture_size,
                ica=self.ica,
                power=self.fisher_power,
                normalize=self.normalize,
                max_words=self.max_words,
                random_state=seed,
            ).fit(sets)
            for mixture in self.mixtures
        ]
        n = sum(len(fisher.get_feature_names_out()) for fisher in self.fishers_)
        self.coordinates_ = np.arange(n)
        if self.n_coordinates is not None and self.n_coordinates < n:
            chosen = rng.choice(n, self.n_coordinates, replace=False)
            self.coordinates_ = np.sort(chosen).astype(np.int64)
        self.cca_ = CCA(
            self.n_components,
            reg=_REG if self.reg is None else self.reg,
            reg_style=self.reg_style,
            power=self.power,
            views=names,
        )
        step = self._step()
        if len(views) <= max(step, len(self.coordinates_) + self.n_features_in_["image"]):
            self.cca_.fit(self._described(views).rename(names))
            return
        for start in range(0, len(views), step):
            some = self._described(views[start : start + step])
            self.cca_.partial_fit(some.rename(names))
        _ = self.cca_.correlations_  # solved on first use
        self.cca_._forget(["sums_"])  # the covariances, which are larger than the solution

    def _described(self, views: Views) -> Views:
        return views.map(lambda sets, _: self._fisher_vectors(sets), "text")

    def _step(self) -> int:
        """Return the number of texts whose Fisher vectors are held at once."""
        n = sum(len(fisher.get_feature_names_out()) for fisher in self.fishers_)
        return max(1, _ENTRIES // n)

    def _fisher_vectors(self, sets: Ragged) -> NDArray[Any]:
        return np.hstack([fisher.transform(sets) for fisher in self.fishers_])[:, self.coordinates_]

    def _sets(self, values: Any) -> Ragged:
        """Return the word vectors of texts."""
        if _are_strings(values):
            if self.words_ is None:
                raise ValueError(
                    f"{self._name()}: view {self._view_name('text')!r} must be word vectors, as in "
                    "fit, got strings; fit on strings, or pass word vectors"
                )
            values = self.words_.transform(values)
        elif self.words_ is not None:
            raise ValueError(
                f"{self._name()}: view {self._view_name('text')!r} must be strings, as in fit, got "
                "word vectors; fit on word vectors, or pass strings"
            )
        return sets_of(as_numpy(values) if is_tensor(values) else values, self._name())

    def _encode(self, values: Any, view: str) -> Any:
        name = self._view_name(view)
        if view == "image":
            return self.cca_.encode(values, name)
        sets, step = self._sets(values), self._step()
        return np.concatenate(
            [
                self.cca_.encode(self._fisher_vectors(sets[start : start + step]), name)
                for start in range(0, n_rows(sets), step)
            ]
        )


class GMMHGLMMCCA(HGLMMCCA):
    """Canonical correlation of pictures with two Fisher vectors of words (GMM+HGLMM with CCA).

    As `HGLMMCCA`, but a text is the concatenation of its Fisher vectors under a Gaussian mixture
    and under a hybrid one. Both have the same number of components and the same rotation of the
    words.

    Parameters
    ----------
    n_components, words, mixture_size, ica, fisher_power, normalize, n_coordinates, max_words
        As in `HGLMMCCA`; `n_coordinates` counts the coordinates of both Fisher vectors.
    reg, reg_style, power, random_state, views
        As in `HGLMMCCA`.

    Attributes
    ----------
    words_, fishers_, coordinates_, cca_
        As in `HGLMMCCA`; the Gaussian Fisher vectors come first.

    See Also
    --------
    HGLMMCCA : The hybrid mixture alone.

    References
    ----------
    B. Klein, G. Lev, G. Sadeh and L. Wolf, Associating neural word embeddings with deep image
    representations using Fisher vectors, CVPR 2015.
    """

    card = cards.GMMHGLMMCCA
    mixtures = ("gmm", "hglmm")


def _are_strings(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == object
