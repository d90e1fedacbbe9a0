"""ACLNFeatures: fc7 of pictures and FC2t of texts, the inputs of ACLN's rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from crossfit.views import Views
from crossfit_acln import cards
from crossfit_acln.estimator import ACLN

__all__ = ["ACLNFeatures"]


class ACLNFeatures(  # type: ignore[call-arg]
    TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Vectors of pictures and texts from an ACLN that is fitted on the training pairs.

    The paper (section 4.3) compares methods for vectors on fc7 of the AlexNet that is fine-tuned on
    the labels, and on FC2t of the text network of an ACLN without attention. This transformer
    fits such an ACLN on training pairs and their labels, and maps Views of pictures and strings
    to Views of these vectors, for the next step of a pipeline or for the ``features`` of an
    experiment, under ``"*"``.

    Parameters
    ----------
    acln : ACLN, mapping of str to object, or None, default=None
        The ACLN that is fitted, or its parameters. In a mapping, the attention is ``"none"`` by
        default. An ACLN is cloned, never fitted itself.
    image : {"vectors", "passthrough"}, default="vectors"
        Whether images become vectors too, or stay as they are, for methods that take pictures.
    random_state : int, RandomState or None
        Replaces the seed of the ACLN, unless it is None.

    Attributes
    ----------
    acln_ : ACLN
        The fitted ACLN; its `vector_features` returns the vectors of one view.

    See Also
    --------
    ACLN : The method.

    References
    ----------
    X. Huang, Z. Ye, Y. Peng, Attention-sharing correlation learning for cross-media retrieval,
    ICIG 2017, LNCS 10666, 477-488.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from crossfit.methods import CCA
    >>> from crossfit_acln.features import ACLNFeatures
    >>> from crossfit_acln.testing import make_inputs
    >>> views, y = make_inputs(np.random.default_rng(0), 100)
    >>> features = ACLNFeatures({"width": 32, "max_epochs": 5}, random_state=0)
    >>> model = make_pipeline(features, CCA(4)).fit(views, y)
    >>> model[0].transform(views)["text"].shape
    (100, 32)
    """

    card = cards.ACLN_FEATURES

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "acln": [ACLN, Mapping, None],
        "image": [StrOptions({"vectors", "passthrough"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        acln: ACLN | Mapping[str, Any] | None = None,
        *,
        image: str = "vectors",
        random_state: Any = None,
    ) -> None:
        self.acln = acln
        self.image = image
        self.random_state = random_state

    def fit(self, X: Views, y: ArrayLike | None = None) -> Self:
        """Fit the ACLN on training pairs.

        Parameters
        ----------
        X : Views
            Images and texts, as `ACLN` takes them.
        y : array-like of shape (n,)
            Their labels.

        Returns
        -------
        Self
            The fitted object.
        """
        self._validate_params()
        acln = self._made()
        if self.random_state is not None:
            acln.set_params(random_state=self.random_state)
        self.acln_ = acln.fit(X, y=y)
        return self

    def _made(self) -> ACLN:
        keep = self.image == "vectors"
        if isinstance(self.acln, ACLN):
            return clone(self.acln).set_params(keep_fc7=keep)
        try:
            made = ACLN(**{"attention": "none", **(self.acln or {}), "keep_fc7": keep})
            made._validate_params()
        except (TypeError, ValueError) as error:
            raise ValueError(f"ACLNFeatures: acln: {error}") from error
        return made

    def transform(self, X: Views) -> Views:
        """Return Views of vectors.

        Parameters
        ----------
        X : Views
            Some or all of the views of the fit.

        Returns
        -------
        Views
            Vectors, float32: for pictures fc7, 4,096 columns (for given regions FC3i, `width`
            columns), for texts FC2t, `width` columns.
        """
        check_is_fitted(self, "acln_")
        if not isinstance(X, Views):
            raise TypeError(f"ACLNFeatures expects Views, got {type(X).__name__}")
        kept = self.acln_.views_in_["image"] if self.image == "passthrough" else None
        return self.acln_.fitted_views(X).map(
            lambda values, name: (
                values if name == kept else self.acln_.vector_features(values, name)
            )
        )
