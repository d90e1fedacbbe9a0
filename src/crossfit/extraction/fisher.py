"""Fisher vectors of sets of word vectors, under mixtures of Gaussians and Laplacians."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import CheckedParameters, finite_array, integer, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._random import draw_seed, random_source
from crossfit._warnings import at_the_callers_line, warn
from crossfit.extraction.regions import sets_of
from crossfit.extraction.text import unknown_of
from crossfit.views import Ragged

__all__ = ["HGLMM", "FisherVector"]

Matrix = NDArray[np.float64]

# Number of points or words processed at once.
CHUNK = 4096
_OF_A_MIXTURE = ("weights_", "locations_", "scales_", "laplacian_", "log_likelihood_")


class HGLMM(CheckedParameters, BaseEstimator):
    r"""Hybrid Gaussian-Laplacian mixture model.

    Components k have independent coordinates d, each of which is either Gaussian with mean μ and
    standard deviation s, or Laplacian, ``exp(-|x - m| / s) / (2 s)``:

    ``p(x) = Σ_k w_k Π_d p_kd(x_d)``.

    For each coordinate of each component, a step of the EM algorithm fits both distributions and
    keeps the more likely one: the Gaussian by weighted mean and variance, the Laplacian by weighted
    median and mean absolute deviation.

    Parameters
    ----------
    n_components : int, default=30
        Number of components, K.
    kind : {"hybrid", "gaussian", "laplacian"}, default="hybrid"
        Distribution of the coordinates: the more likely one for each, Gaussian for all (GMM), or
        Laplacian for all (LMM).
    max_iter : int, default=100
        Maximum number of EM steps.
    tol : float, default=0.001
        The fit stops if a step increases the mean log-likelihood per point by less than this.
    min_scale : float, default=0.001
        Lower bound of s, which keeps components from collapsing onto single points.
    random_state : int, RandomState or None, default=0
        Seed of the k-means clustering that initializes the components.

    Attributes
    ----------
    weights_ : array of shape (K,)
        Probability w of each component.
    locations_ : array of shape (K, d)
        Means or medians.
    scales_ : array of shape (K, d)
        Standard deviations or mean absolute deviations.
    laplacian_ : bool array of shape (K, d)
        Which coordinates are Laplacian.
    log_likelihood_ : array of shape (n_steps + 1,)
        Mean over the points, after initialization and after each step; it never decreases.
    n_features_in_ : int
        Number of coordinates, d.

    See Also
    --------
    FisherVector : Fisher vectors of sets of words under this mixture.

    Notes
    -----
    A step takes O(n K d) time. O(n (K + d)) numbers are held in memory, including the order of the
    points along each coordinate, which the medians need.

    References
    ----------
    B. Klein, G. Lev, G. Sadeh and L. Wolf, Associating neural word embeddings with deep image
    representations using Fisher vectors, CVPR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.random.default_rng(0).laplace(size=(500, 2))
    >>> HGLMM(n_components=1).fit(points).laplacian_
    array([[ True,  True]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kind": [StrOptions({"hybrid", "gaussian", "laplacian"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "min_scale": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 30,
        *,
        kind: str = "hybrid",
        max_iter: int = 100,
        tol: float = 1e-3,
        min_scale: float = 1e-3,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_components = n_components
        self.kind = kind
        self.max_iter = max_iter
        self.tol = tol
        self.min_scale = min_scale
        self.random_state = random_state

    @np.errstate(**NUMPY_DEFAULTS)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the mixture by expectation maximization.

        Parameters
        ----------
        X : array of shape (n, d)
            Points.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are fewer points than components, or X is not a finite matrix.
        """
        self._validate_params()
        X = _points(X)
        n, d = X.shape
        K = self.n_components
        if n < K:
            raise ValueError(f"n_components={K} must not be more than the points, got {n}")
        self.n_features_in_ = d
        seed = draw_seed(self.random_state)
        with at_the_callers_line():
            start = KMeans(K, n_init=1, random_state=seed).fit(X).labels_
        self.weights_ = np.full(K, 1 / K)
        self.locations_ = np.tile(X.mean(axis=0), (K, 1))
        self.scales_ = np.tile(np.maximum(X.std(axis=0), self.min_scale), (K, 1))
        self.laplacian_ = np.full((K, d), self.kind == "laplacian")
        order = np.argsort(X, axis=0) if self.kind != "gaussian" else None
        self._maximise(X, np.eye(K)[start], order)
        responsibilities, likelihood = self._expect(X)
        steps = [likelihood]
        for _ in range(self.max_iter):
            self._maximise(X, responsibilities, order)
            responsibilities, likelihood = self._expect(X)
            steps.append(likelihood)
            if steps[-1] - steps[-2] < self.tol:
                break
        self.log_likelihood_ = np.array(steps)
        return self

    @np.errstate(**NUMPY_DEFAULTS)
    def predict_proba(self, X: Any) -> Matrix:
        """Return the responsibilities of the components for points.

        Parameters
        ----------
        X : array of shape (n, d)
            Points.

        Returns
        -------
        ndarray of shape (n, K)
            Posterior probabilities of the components; rows sum to 1.
        """
        return self._expect(self._checked(X))[0]

    @np.errstate(**NUMPY_DEFAULTS)
    def score_samples(self, X: Any) -> Matrix:
        """Return the log-likelihood of each point.

        Parameters
        ----------
        X : array of shape (n, d)
            Points.

        Returns
        -------
        ndarray of shape (n,)
            The log-likelihoods.
        """
        return np.asarray(logsumexp(self._log_joint(self._checked(X)), axis=1))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of points.

        Parameters
        ----------
        X : array of shape (n, d)
            Points.
        y : None
            Ignored.

        Returns
        -------
        float
            The mean log-likelihood.
        """
        return float(self.score_samples(X).mean())

    @validated(n=[integer(1)], random_state=["random_state"])
    def sample(self, n: int, random_state: Any = None) -> Matrix:
        """Draw points from the mixture.

        Parameters
        ----------
        n : int
            Number of points.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        ndarray of shape (n, d)
        """
        check_is_fitted(self)
        rng = random_source(random_state)
        k = rng.choice(len(self.weights_), size=n, p=self.weights_)
        shape = (n, self.n_features_in_)
        z = np.where(self.laplacian_[k], rng.laplace(size=shape), rng.normal(size=shape))
        return self.locations_[k] + self.scales_[k] * z

    def _checked(self, X: Any) -> Matrix:
        check_is_fitted(self)
        X = _points(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"the mixture was fitted on points of {self.n_features_in_} coordinates, got "
                f"{X.shape[1]}"
            )
        return X

    def _log_joint(self, X: Matrix) -> Matrix:
        """Return log w_k p_k(x), shape (n, K)."""
        # The weight of a component without points is 0.
        with np.errstate(divide="ignore"):
            constant = np.log(self.weights_) - np.sum(
                np.log(self.scales_)
                + np.where(self.laplacian_, np.log(2), 0.5 * np.log(2 * np.pi)),
                axis=1,
            )
        found = np.empty((len(X), len(constant)))
        for start in range(0, len(X), CHUNK):
            rows = slice(start, start + CHUNK)
            for k, z in self._standardised(X[rows]):
                distance = np.where(self.laplacian_[k], np.abs(z), 0.5 * z**2)
                found[rows, k] = constant[k] - distance.sum(axis=1)
        return found

    def _standardised(self, X: Matrix) -> Iterator[tuple[int, Matrix]]:
        for k in range(len(self.weights_)):
            yield k, (X - self.locations_[k]) / self.scales_[k]

    def _expect(self, X: Matrix) -> tuple[Matrix, float]:
        joint = self._log_joint(X)
        likelihood = logsumexp(joint, axis=1, keepdims=True)
        return np.exp(joint - likelihood), float(likelihood.mean())

    def _maximise(self, X: Matrix, responsibilities: Matrix, order: NDArray[Any] | None) -> None:
        masses = responsibilities.sum(axis=0)
        self.weights_ = masses / masses.sum()
        in_order = None if order is None else np.take_along_axis(X, order, axis=0)
        for k, mass in enumerate(masses):
            if mass < 1e-8:  # a component without points keeps its parameters
                continue
            g = responsibilities[:, k] / mass
            if self.kind != "laplacian":
                mean = g @ X
                variance = g @ (X - mean) ** 2
                deviation = np.maximum(np.sqrt(variance), self.min_scale)
                self.locations_[k], self.scales_[k] = mean, deviation
            if order is not None and in_order is not None:
                half = np.sum(np.cumsum(g[order], axis=0) < 0.5, axis=0)
                half = np.minimum(half, len(X) - 1)
                median = np.take_along_axis(in_order, half[None], axis=0)[0]
                spread = g @ np.abs(X - median)
                scale = np.maximum(spread, self.min_scale)
                better = np.ones(len(median), dtype=bool)
                if self.kind == "hybrid":
                    better = -np.log(2 * scale) - spread / scale > (
                        -0.5 * np.log(2 * np.pi) - np.log(deviation) - variance / deviation**2 / 2
                    )
                self.laplacian_[k] = better
                self.locations_[k, better] = median[better]
                self.scales_[k, better] = scale[better]


class FisherVector(
    CheckedParameters, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Fisher vector of each set of word vectors, under a mixture fitted to the training words.

    The gradient of a set's mean log-likelihood in the locations and scales of the mixture, divided
    by the standard deviations that these gradients have on data of the mixture. For T words x_t
    with responsibilities g_tk and ``z = (x - m) / s``, the coordinates of component k are

    =========  ===============================  ==================================
    kind       location                         scale
    =========  ===============================  ==================================
    Gaussian   ``Σ_t g_tk z / √(T w_k)``        ``Σ_t g_tk (z² - 1) / √(2 T w_k)``
    Laplacian  ``Σ_t g_tk sign(z) / √(T w_k)``  ``Σ_t g_tk (|z| - 1) / √(T w_k)``
    =========  ===============================  ==================================

    Word vectors are scaled to unit length and rotated to independent components first; Fisher
    vectors are raised to a power, keeping their signs, and scaled to unit length. The paper's
    HGLMM and GMM+HGLMM with CCA are `crossfit.subspace.HGLMMCCA` and `GMMHGLMMCCA`; any other
    method for vectors can follow this transformer in a pipeline.

    Parameters
    ----------
    mixture : {"hglmm", "gmm", "lmm"}, default="hglmm"
        Hybrid, Gaussian or Laplacian mixture; see `HGLMM`.
    n_components : int, default=30
        Number of components of the mixture, K.
    ica : bool, default=True
        Whether to whiten the words and rotate them by independent component analysis, to as many
        dimensions as their rank.
    power : float, default=0.5
        Exponent of the Fisher vectors' entries; 1 leaves them unchanged.
    normalize : bool, default=True
        Whether to scale Fisher vectors to unit length.
    max_words : int or None, default=20000
        Number of words, drawn at random, on which the rotation and the mixture are fitted; None
        for all.
    max_iter : int, default=100
        Maximum number of EM steps; see `HGLMM`.
    tol : float, default=0.001
        Stopping tolerance of the mixture; see `HGLMM`.
    random_state : int, RandomState or None, default=0
        Seed of the draw, the rotation and the mixture.

    Attributes
    ----------
    mixture_ : HGLMM
        The mixture, fitted on rotated words.
    mean_ : array of shape (d,)
        Subtracted from a word before the rotation.
    rotation_ : array of shape (d, m)
        The rotation; the identity if `ica` is False.
    n_features_in_ : int
        Dimension of the word vectors, d.

    See Also
    --------
    HGLMM : The mixture.

    Notes
    -----
    `transform` returns an array of shape (n, 2 K m), first the gradients in the locations, then
    those in the scales, in the floating type of the words. Words that are all zero count as
    unknown; a set without known words becomes a zero vector, with a warning.

    Fitting takes O(n K d) time per step for n words, and transforming O(n K d).

    References
    ----------
    B. Klein, G. Lev, G. Sadeh and L. Wolf, Associating neural word embeddings with deep image
    representations using Fisher vectors, CVPR 2015: K = 30 and words of 300 dimensions give 18,000.
    The Gaussian case: J. Sánchez, F. Perronnin, T. Mensink and J. Verbeek, Image classification
    with the Fisher vector, IJCV 105, 2013.

    Examples
    --------
    Two mixtures, and CCA with one ridge for both views:

    >>> import numpy as np
    >>> from crossfit import Ragged, Views, ViewTransformer
    >>> from crossfit.subspace import CCA
    >>> from sklearn.pipeline import Pipeline, make_union
    >>> rng = np.random.default_rng(0)
    >>> lengths = rng.integers(3, 9, size=60)
    >>> sentences = Ragged.from_list([rng.laplace(size=(t, 4)) for t in lengths])
    >>> views = Views(image=rng.normal(size=(60, 5)), text=sentences)
    >>> words = make_union(FisherVector("gmm", 2), FisherVector("hglmm", 2))
    >>> pipeline = Pipeline([
    ...     ("features", ViewTransformer([("text", words)])),
    ...     ("cca", CCA(3, reg=0.1, reg_style="spectral", power=1)),
    ... ])
    >>> pipeline.fit_transform(views)["text"].shape
    (60, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mixture": [StrOptions({"hglmm", "gmm", "lmm"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "ica": ["boolean"],
        "power": [Interval(Real, 0, 1, closed="right")],
        "normalize": ["boolean"],
        "max_words": [Interval(Integral, 2, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _kinds: ClassVar[dict[str, str]] = {"hglmm": "hybrid", "gmm": "gaussian", "lmm": "laplacian"}

    def __init__(
        self,
        mixture: str = "hglmm",
        n_components: int = 30,
        *,
        ica: bool = True,
        power: float = 0.5,
        normalize: bool = True,
        max_words: int | None = 20_000,
        max_iter: int = 100,
        tol: float = 1e-3,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.mixture = mixture
        self.n_components = n_components
        self.ica = ica
        self.power = power
        self.normalize = normalize
        self.max_words = max_words
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @np.errstate(**NUMPY_DEFAULTS)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the rotation and the mixture on the words of all sets.

        Parameters
        ----------
        X : Ragged of n rows of shape (T_i, d), or a list of such arrays
            Word vectors.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X has another form, if the vectors are not finite, or if there are fewer known words
            than components, or fewer than two.
        """
        self._validate_params()
        words, _ = _unit_words(sets_of(X, "FisherVector"))
        rng = random_source(self.random_state)
        if self.max_words is not None and len(words) > self.max_words:
            words = words[rng.choice(len(words), self.max_words, replace=False)]
        if len(words) < max(2, self.n_components):
            raise ValueError(
                f"FisherVector needs at least {max(2, self.n_components)} known words for "
                f"n_components={self.n_components}, got {len(words)}"
            )
        seed = rng.randint(2**31 - 1)
        d = words.shape[1]
        self.mean_, self.rotation_ = np.zeros(d), np.eye(d)
        if self.ica:
            self.mean_ = words.mean(axis=0)
            rank = np.linalg.matrix_rank(words - self.mean_)
            if rank == 0:
                raise ValueError(
                    "FisherVector needs at least two different words, got copies of one"
                )
            ica = FastICA(int(rank), whiten="unit-variance", max_iter=500, tol=1e-3,
                          random_state=seed)  # fmt: skip
            with at_the_callers_line():
                self.mean_, self.rotation_ = ica.fit(words).mean_, ica.components_.T
        self.n_features_in_ = d
        self.mixture_ = HGLMM(
            self.n_components,
            kind=self._kinds[self.mixture],
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=seed,
        ).fit((words - self.mean_) @ self.rotation_)
        return self

    @np.errstate(**NUMPY_DEFAULTS)
    def transform(self, X: Any) -> NDArray[Any]:
        """Return the Fisher vector of each set of word vectors.

        Parameters
        ----------
        X : Ragged of n rows of shape (T_i, d), or a list of such arrays
            Word vectors.

        Returns
        -------
        ndarray of shape (n, 2 K m)
            In the floating type of the words.

        Warns
        -----
        UserWarning
            If a set has no known word.
        """
        check_is_fitted(self)
        sets = sets_of(X, "FisherVector")
        if sets.values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"FisherVector was fitted on words of {self.n_features_in_} dimensions, got "
                f"{sets.values.shape[1]}"
            )
        words, lengths = _unit_words(sets)
        if not lengths.all() or 2 * len(words) < len(sets.values):
            units = ("known word", "words")
            become = "their Fisher vectors are zero"
            warn(unknown_of(lengths, sets.lengths, units, become, things="sets"))
        dtype = np.float64 if sets.dtype == np.float64 else np.float32
        found = np.empty((len(lengths), self._n_features_out), dtype=dtype)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        start = 0
        while start < len(lengths):
            # As many whole sets as fit into a chunk of words, but at least one.
            stop = int(np.searchsorted(offsets, offsets[start] + CHUNK, side="right")) - 1
            stop = max(stop, start + 1)
            some = words[offsets[start] : offsets[stop]]
            found[start:stop] = self._of_words(some, offsets[start : stop + 1] - offsets[start])
            start = stop
        return found

    def _of_words(self, words: Matrix, offsets: NDArray[np.int64]) -> Matrix:
        mixture, x = self.mixture_, (words - self.mean_) @ self.rotation_
        n, (K, m) = len(offsets) - 1, mixture.locations_.shape
        vectors = np.zeros((n, 2, K, m))
        if len(x):
            responsibilities = mixture.predict_proba(x)
            lengths = np.maximum(np.diff(offsets), 1)
            for k, z in mixture._standardised(x):
                if mixture.weights_[k] == 0:
                    continue
                # Sums over the words of each set, weighted by responsibility.
                g = sp.csr_array((responsibilities[:, k], np.arange(len(x)), offsets), (n, len(x)))
                laplacian = mixture.laplacian_[k]
                norm = np.sqrt(lengths * mixture.weights_[k])[:, None]
                vectors[:, 0, k] = g @ np.where(laplacian, _sign(z), z) / norm
                by_scale = np.where(laplacian, np.abs(z) - 1, (z**2 - 1) / np.sqrt(2))
                vectors[:, 1, k] = g @ by_scale / norm
        found = vectors.reshape(n, -1)
        if self.power != 1:
            found = np.sign(found) * np.abs(found) ** self.power
        if self.normalize:
            length = np.linalg.norm(found, axis=1, keepdims=True)
            found = np.divide(found, length, out=np.zeros_like(found), where=length > 0)
        return found

    @property
    def _n_features_out(self) -> int:
        return 2 * int(self.mixture_.locations_.size)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the fitted attributes as arrays; those of the mixture have a prefix."""
        if not hasattr(self, "mixture_"):
            return {}, {}
        fitted = {f"mixture_{name}": getattr(self.mixture_, name) for name in _OF_A_MIXTURE}
        return {}, {"mean_": self.mean_, "rotation_": self.rotation_, **fitted}

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore what `__crossfit_state__` returned, on an instance with the same parameters."""
        if not arrays:
            return
        self.mean_, self.rotation_ = arrays["mean_"], arrays["rotation_"]
        self.n_features_in_, m = self.rotation_.shape
        self.mixture_ = HGLMM(
            self.n_components,
            kind=self._kinds[self.mixture],
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self.mixture_.n_features_in_ = m
        fitted = {f"mixture_{name}" for name in _OF_A_MIXTURE}
        if set(arrays) != {"mean_", "rotation_", *fitted}:
            raise ValueError(
                f"FisherVector expects the arrays mean_, rotation_, {', '.join(sorted(fitted))}, "
                f"got {', '.join(sorted(arrays))}"
            )
        for name in _OF_A_MIXTURE:
            setattr(self.mixture_, name, arrays[f"mixture_{name}"])


def _points(X: Any) -> Matrix:
    X = finite_array(X, "X", ndim=2).astype(np.float64)
    if not X.size:
        raise ValueError(f"X must hold points, got an array of shape {X.shape}")
    return X


def _sign(z: Matrix) -> Matrix:
    """Return the sign, or 0 within rounding error, since a median is one of the training words."""
    return np.where(np.abs(z) > 1e-9, np.sign(z), 0.0)


def _unit_words(sets: Ragged) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the nonzero words, scaled to unit length, and their number in each set."""
    words = sets.values.astype(np.float64)
    largest = np.abs(words).max(axis=1, initial=0.0)
    known = largest > 0
    words = words[known] / largest[known, None]  # so that no square overflows or underflows
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    return words, np.diff(np.concatenate([[0], np.cumsum(known)])[sets.offsets])
