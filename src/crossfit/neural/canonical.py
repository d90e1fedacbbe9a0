"""CanonicalEstimator: networks whose outputs are compared in the space of a linear CCA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from crossfit.neural.estimator import NeuralEstimator
from crossfit.subspace import CCA
from crossfit.views import Views

__all__ = ["CanonicalEstimator"]


class CanonicalEstimator(NeuralEstimator):
    """Base class of networks that end in a linear canonical correlation analysis (CCA).

    After the training of the network, CCA is fitted to the outputs of all training pairs, except
    those held out by `validation_fraction`. `transform`, `encode` and `similarity` work in the
    space of CCA; `project` returns the outputs of the network.

    A subclass implements what `NeuralEstimator` requires, and has the parameters ``n_components``
    and ``cca_reg``; it may override `_linear_cca`.

    Attributes
    ----------
    cca_ : crossfit.subspace.CCA
        Fitted to the outputs of the network, with the roles as names of the views.

    See Also
    --------
    NeuralEstimator : Base class without CCA.
    """

    n_components: int | None
    cca_reg: float | Mapping[str, float]
    cca_: CCA

    def _linear_cca(self) -> CCA:
        """Return the CCA to be fitted to the outputs; the roles are the names of the views."""
        reg = {role: self._of_view("cca_reg", role) for role in self.views_in_}
        return CCA(self.n_components, reg=reg, power=0.0)

    def project(self, values: Any, view: str) -> Any:
        """Map one modality to the outputs of the network, before CCA.

        Parameters
        ----------
        values : array-like of n rows
            Items of one modality.
        view : str
            Name of the view.

        Returns
        -------
        array of shape (n, width)
        """
        check_is_fitted(self, "views_in_")
        role = self._role_of(view)
        return super()._encode(self._checked_values(values, role), role)

    def _split(self, views: Views, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, held_out = super()._split(views, seed)
        self._pairs = views[rows] if len(held_out) else views
        return rows, held_out

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        try:
            super()._fit(views, y)
            self.cca_ = self._fit_cca()
        except FloatingPointError as error:
            if self._still_answers(error):
                self.cca_ = self._fit_cca()
            raise
        finally:
            self.__dict__.pop("_pairs", None)

    def _fit_cca(self) -> CCA:
        encode = super()._encode
        return self._linear_cca().fit(self._pairs.map(encode))

    def _encode(self, values: Any, view: str) -> Any:
        # A listener encodes during training, before cca_ exists, and gets the CCA of the current
        # network.
        cca = self.cca_ if hasattr(self, "cca_") else self._fit_cca()
        return cca.encode(super()._encode(values, view), view)

    # ---- bundles -------------------------------------------------------------------------------

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        plain, arrays = super()._features_state()
        plain.pop("cca_", None)  # not a plain value; included by `__crossfit_state__`
        return plain, arrays

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the fitted state, including the CCA."""
        state, arrays = super().__crossfit_state__()
        return {**state, "cca": self.cca_}, arrays

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of `__crossfit_state__`."""
        super().__crossfit_restore__(state, arrays)
        if not isinstance(state["cca"], CCA):
            raise ValueError(f"{self._name()} expects a CCA, got {type(state['cca']).__name__}")
        self.cca_ = state["cca"]
