"""Correlation, semantic and semantic correlation matching: CM, SM and SCM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import integer, mapping_of, one_of, real
from crossfit._warnings import at_the_callers_line, warn
from crossfit.base import CrossModalEstimator
from crossfit.similarities import PosteriorOverPrior, Similarity
from crossfit.subspace import cards
from crossfit.subspace._joint import indicator
from crossfit.subspace._linalg import check_range
from crossfit.subspace.cca import CCA
from crossfit.views import Views, as_numpy

__all__ = ["CM", "SCM", "SM"]

_OF_VECTORS = ("cosine", "correlation", "dot", "l1", "l2")
_OF_POSTERIORS = (*_OF_VECTORS, "kl", "kl_reversed", "posterior_over_prior")
_CLASSIFIER = HasMethods("predict_proba")


class CM(CrossModalEstimator):
    """Correlation matching (CM): canonical correlation analysis and a similarity.

    Both views are mapped to their first canonical components, ``A'(x - mx)`` and
    ``B'(z - mz)``, where A and B maximise ``a' Sxz b`` subject to ``a' Sxx a = b' Szz b = 1``
    (see `CCA`), and compared in this space.

    Parameters
    ----------
    n_components : int, optional
        Number of canonical components; as many as the ranks allow by default. The paper has 7.
    reg : float or mapping of str to float, default=3.0
        Ridge of the covariances, relative to their mean variance, as in `CCA`. The paper has none.
    power : float, default=1.0
        Scale every component by its canonical correlation raised to this power, as in `CCA`. The
        paper has 0.
    measure : {"cosine", "correlation", "dot", "l1", "l2"}, default="cosine"
        Similarity; see `crossfit.similarities.MEASURES`. The normalised correlation of the paper
        is the cosine.
    standardize : bool, default=True
        Divide every column by its training standard deviation first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    cca_ : CCA
        The fitted CCA, with ``correlations_``.

    See Also
    --------
    CCA : The analysis alone.
    SCM : Adds class posteriors.

    Notes
    -----
    Costs the same as `CCA`, O(n d² + d³) for d columns of both views together.

    References
    ----------
    N. Rasiwasia, J. Costa Pereira, E. Coviello, G. Doyle, G. Lanckriet, R. Levy and
    N. Vasconcelos, A new approach to cross-modal multimedia retrieval, ACM Multimedia 2010.
    """

    card = cards.CM

    # Bundles that were written before this parameter was added are of methods without weights.
    _absent_parameters: ClassVar[dict[str, Any]] = {"power": 0.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
        "power": [real(0, closed="left")],
        "measure": [one_of(*_OF_VECTORS)],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float | Mapping[str, float] = 3.0,
        power: float = 1.0,
        measure: str = "cosine",
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.reg = reg
        self.power = power
        self.measure = measure
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        self.cca_ = _correlate(self, views, self.power)

    def _encode(self, values: Any, view: str) -> Any:
        return self.cca_.encode(values, self._view_name(view))

    def _own_similarity(self) -> str | Similarity:
        return self.measure


class SM(CrossModalEstimator):
    """Semantic matching (SM): compare class posteriors.

    One classifier per view, fitted on that view alone, maps an item to its posterior
    probabilities ``p(c | x)``; by default multinomial logistic regression,
    ``p(c | x) ∝ exp(w_c' x + b_c)``. The posteriors of the two views have the same meaning and
    are compared directly. The pairing is not used.

    Parameters
    ----------
    classifier : classifier or mapping of str to classifier, optional
        Any scikit-learn classifier with ``predict_proba``, for both views or for each by role (or
        view name). It is cloned, never fitted itself. By default, logistic regression.
    C : float, optional
        Inverse strength of the regularisation of the default classifier, 1 by default, and of those
        classifiers that have a parameter of this name, whose own value is kept by default. Others
        ignore it.
    measure : str, default="cosine"
        Similarity of posteriors: ``"cosine"`` (the paper's normalised correlation),
        ``"correlation"`` (cosine after centring), ``"dot"``, ``"l1"``, ``"l2"``, ``"kl"``
        (-KL(first ‖ second)), ``"kl_reversed"`` (-KL(second ‖ first)), or
        ``"posterior_over_prior"`` (Σ p(c|x) p(c|z) / p(c) with the training priors), which
        often retrieves best by a wide margin.
    standardize : bool, default=True
        Scale every column to zero mean and unit variance over the training items first. Without
        it, sparse views stay sparse.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Classes, in the order of the columns of the posteriors.
    classifiers_ : dict of str to classifier
        The fitted classifiers by role, preceded by the scaling.
    prior_similarity_ : PosteriorOverPrior
        The similarity that holds the training priors.

    See Also
    --------
    SCM : Class posteriors from canonical components.

    Notes
    -----
    Costs one fit per classifier on the distinct items of its view; for logistic regression,
    O(n d c) per iteration.

    References
    ----------
    N. Rasiwasia et al., A new approach to cross-modal multimedia retrieval, ACM Multimedia 2010;
    J. Costa Pereira et al., On the role of correlation and abstraction in cross-modal multimedia
    retrieval, IEEE TPAMI 36, 2014.
    """

    card = cards.SM

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [_CLASSIFIER, mapping_of(_CLASSIFIER, None), None],
        "C": [real(0), None],
        "measure": [one_of(*_OF_POSTERIORS)],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        classifier: Any = None,
        *,
        C: float | None = None,
        measure: str = "cosine",
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.classifier = classifier
        self.C = C
        self.measure = measure
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_range(self, views)
        classifiers = {role: self._chosen(role) for role in views.names}
        for role in views.names:
            values = views.distinct(role)[0]
            values = values if sp.issparse(values) else as_numpy(values)
            if not abs(values.max(axis=0) - values.min(axis=0)).sum():
                raise ValueError(
                    f"{self._name()}: view {self._view_name(role)!r} is constant: it has no "
                    "variance to distinguish classes by"
                )
        if self.standardize:
            classifiers = {
                role: make_pipeline(StandardScaler(), c) for role, c in classifiers.items()
            }
        self._classify(views, y, classifiers)

    def _classify(
        self, views: Views, y: NDArray[Any] | None, classifiers: Mapping[str, Any]
    ) -> None:
        assert y is not None
        self.classes_, _ = indicator(self, y)
        self.classifiers_ = {}
        for role, classifier in classifiers.items():
            # An item counts once, whatever the number of its pairs.
            items, labels = views.distinct(role)[0], views.item_labels(role, y)
            items = _readable(items, self.standardize)
            with at_the_callers_line():
                self.classifiers_[role] = classifier.fit(items, labels)
            few = items[:: max(1, len(labels) // 100)]
            if np.ptp(self.classifiers_[role].predict_proba(few), axis=0).max() < 1e-6:
                warn(
                    f"{self._name()}: the classifier of view {self._view_name(role)!r} predicts "
                    "the same for all items; decrease its regularisation or rescale the view"
                )
        self.prior_similarity_ = PosteriorOverPrior().fit(views, y)

    def _chosen(self, role: str) -> Any:
        classifier = self._of_view("classifier", role)
        classifier = LogisticRegression(max_iter=1000) if classifier is None else clone(classifier)
        if self.C is not None and "C" in classifier.get_params(deep=False):
            classifier.set_params(C=self.C)
        return classifier

    def _encode(self, values: Any, view: str) -> Any:
        values = _readable(values, self.standardize)
        return self.classifiers_[view].predict_proba(values).astype(values.dtype)

    def _own_similarity(self) -> str | Similarity:
        over_prior = self.measure == "posterior_over_prior"
        return self.prior_similarity_ if over_prior else self.measure


class SCM(SM):
    """Semantic correlation matching (SCM): class posteriors from canonical components.

    Correlation matching is followed by semantic matching on its components: each view's classifier
    (see `SM`) is applied to ``A'(x - mx)`` or ``B'(z - mz)`` of `CM`.

    Parameters
    ----------
    n_components : int, optional
        Number of canonical components; as many as the ranks allow by default. The paper has 7.
    classifier : classifier or mapping of str to classifier, optional
        As in `SM`.
    C : float, optional
        As in `SM`.
    reg : float or mapping of str to float, default=3.0
        Ridge of the covariances, relative to their mean variance, as in `CCA`. The paper has none.
    measure : str, default="cosine"
        As in `SM`.
    standardize : bool, default=True
        Divide every column by its training standard deviation before the analysis.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    cca_ : CCA
        The fitted CCA.
    classes_, classifiers_, prior_similarity_
        As in `SM`; the classifiers are applied to canonical components.

    See Also
    --------
    CM : Without class posteriors.
    SM : Without canonical components.

    Notes
    -----
    Costs O(n d² + d³) for d columns of both views together, plus one fit per classifier on
    ``n_components`` columns.

    References
    ----------
    As for `SM`.
    """

    card = cards.SCM

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SM._parameter_constraints,
        **{name: CM._parameter_constraints[name] for name in ("n_components", "reg")},
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        classifier: Any = None,
        C: float | None = None,
        reg: float | Mapping[str, float] = 3.0,
        measure: str = "cosine",
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(classifier, C=C, measure=measure, standardize=standardize, views=views)
        self.n_components = n_components
        self.reg = reg

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        classifiers = {role: self._chosen(role) for role in views.names}
        self.cca_ = _correlate(self, views, 0.0)
        self._classify(views.map(self._components), y, classifiers)

    def _encode(self, values: Any, view: str) -> Any:
        return super()._encode(self._components(values, view), view)

    def _components(self, values: Any, role: str) -> Any:
        return self.cca_.encode(values, self._view_name(role))


def _correlate(method: CM | SCM, views: Views, power: float) -> CCA:
    """Fit the CCA under the user's view names, so that its messages use them."""
    names = method.views_in_
    cca = CCA(
        method.n_components,
        reg=method.reg,
        power=power,
        standardize=method.standardize,
        views=names,
    )
    return cca.fit(views.rename(names))


def _readable(values: Any, scaled: bool) -> Any:
    """Return values for the classifiers: CSR, or dense rows if they are going to be centred."""
    if sp.issparse(values):
        return values.toarray() if scaled else values
    # Some kernels of scikit-learn reject read-only rows; scaling copies them anyway.
    return as_numpy(values) if scaled else np.array(as_numpy(values))
