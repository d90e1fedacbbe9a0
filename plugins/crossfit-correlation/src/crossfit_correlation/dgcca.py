"""Deep generalized canonical correlation analysis (DGCCA), Benton et al., 2017."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossfit.cards import MethodCard
from crossfit.neural import Batch, whitened
from crossfit.views import Views
from crossfit_correlation import cards
from crossfit_correlation.dcca import DCCA

__all__ = ["DGCCA"]


class DGCCA(DCCA):
    r"""Deep generalized canonical correlation analysis (DGCCA), the form called MAXVAR.

    The networks :math:`f_j` of J views have d outputs each. A shared representation G of the rows
    of a batch and linear maps :math:`U_j` minimise

    .. math:: \sum_j \|G - f_j(X_j) U_j\|_F^2, \quad G'G = I

    For given networks G consists of the d leading eigenvectors of :math:`M = \sum_j P_j`, the sum
    of the projections onto the centred outputs of each view,
    :math:`P_j = F_j (F_j'F_j + (n - 1) r_j I)^{-1} F_j'`. What remains is the loss of the
    networks, d J less the sum of the d largest eigenvalues of M, which are computed in float64 as
    those of the J d x J d matrix of the whitened outputs.

    Then linear CCA is fitted to the outputs of all training pairs. For more than two views it is
    the MAXVAR solution, up to the scales of the components, and exactly so without a ridge.

    Parameters
    ----------
    **kwargs
        As in `DCCA`; `width` is d.

    Attributes
    ----------
    cca_, shapes_
        As in `DCCA`.
    net_ : skorch.NeuralNet
        Its history contains ``train_reconstruction``, the loss of the batch, and ``train_decay``.
        ``valid_loss`` is the first alone.

    See Also
    --------
    DCCA : The sum of the correlations over all pairs of views; for two views the same loss.
    crossfit.subspace.CCA : The linear method.

    References
    ----------
    A. Benton, H. Khayrallah, B. Gujral, D. Reisinger, S. Zhang, R. Arora, Deep generalized
    canonical correlation analysis, arXiv 1702.02519, 2017. Linear: J. D. Carroll, Generalization
    of canonical correlation analysis to three or more sets of variables, 1968.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit_correlation.dgcca import DGCCA
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 200)
    >>> three = Views(image=views["image"], text=views["text"], tags=views["text"][:, :8] ** 3)
    >>> dgcca = DGCCA(hidden=32, width=6, max_epochs=20, random_state=0).fit(three)
    >>> dgcca.shared(three).shape
    (200, 6)
    """

    card: ClassVar[MethodCard | None] = cards.DGCCA

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        parts = outputs["outputs"]
        A = torch.cat(whitened(*parts, reg=self._ridges(batch)), dim=1)  # A A' = M
        if torch.isfinite(A).all():
            largest = torch.linalg.eigvalsh(A.T @ A)[-self.width :].sum()
        else:
            largest = A.sum()
        return {
            "reconstruction": (self.width * len(parts) - largest).to(parts[0].dtype),
            "decay": self.weight_decay * outputs["decay"],
        }

    def shared(self, X: Views) -> NDArray[Any]:
        """Return the shared representation of rows: the mean over the views given.

        Parameters
        ----------
        X : Views
            Any subset of the modalities of the fit.

        Returns
        -------
        array of shape (n, n_components)
            On the training rows and without ridges, the columns of G up to their scales.
        """
        encoded = self.transform(X)
        return np.mean([np.asarray(encoded[name]) for name in encoded.names], axis=0)
