"""Types that bundles may contain, names of fitted values, and arrays of numbers."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from crossfit import registry
from crossfit._fitted import stands_for_code
from crossfit._identities import entry_named, identity_of

__all__ = [
    "BUNDLED",
    "DEPTH",
    "ESTIMATORS",
    "NEIGHBORS",
    "PIPELINE",
    "VECTORIZERS",
    "BundleError",
    "Place",
    "check_hashes",
    "check_names",
    "check_params",
    "check_rows",
    "home_of",
    "is_plain",
    "name_of",
    "reason_of",
    "type_name",
]

#: Class name to public module: the types that bundles may contain in addition to registered ones.
BUNDLED = {
    name: module
    for module, names in {
        "crossfit.compose": "ChannelUnion ColumnsAsViews SelectChannel ViewTransformer",
        "crossfit.retrieval": "ApproximateIndex CSLS DualSoftmax ExactIndex Fusion "
        "InvertedSoftmax NNN QBNorm Reranker RetrievalScorer",
        "crossfit.similarities": "KNNPosterior MethodSimilarity PosteriorOverPrior",
        # Only classes whose fitted state consists of numbers and names that compiled code does not
        # use as unchecked indices, as it does a tree's nodes or a support vector machine's arrays.
        "sklearn.compose": "ColumnTransformer",
        "sklearn.decomposition": "FactorAnalysis FastICA LatentDirichletAllocation NMF PCA "
        "TruncatedSVD",
        "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis",
        "sklearn.feature_extraction.text": "CountVectorizer HashingVectorizer TfidfTransformer "
        "TfidfVectorizer",
        "sklearn.feature_selection": "VarianceThreshold",
        "sklearn.kernel_approximation": "RBFSampler",
        "sklearn.linear_model": "LinearRegression LogisticRegression Ridge RidgeClassifier",
        "sklearn.multiclass": "OneVsRestClassifier",
        "sklearn.naive_bayes": "GaussianNB MultinomialNB",
        "sklearn.neighbors": "KNeighborsClassifier KNeighborsRegressor NearestNeighbors",
        "sklearn.pipeline": "FeatureUnion Pipeline",
        "sklearn.preprocessing": "Binarizer FunctionTransformer LabelBinarizer LabelEncoder "
        "MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer RobustScaler "
        "StandardScaler",
        "sklearn.svm": "LinearSVC",
    }.items()
    for name in names.split()
}
PIPELINE = "sklearn.pipeline:Pipeline"
NEIGHBORS = tuple(
    f"sklearn.neighbors:{name}"
    for name in ("KNeighborsClassifier", "KNeighborsRegressor", "NearestNeighbors")
)
VECTORIZERS = tuple(
    f"sklearn.feature_extraction.text:{name}" for name in ("CountVectorizer", "TfidfVectorizer")
)
# Nesting depth: more than any pipeline needs and far below Python's recursion limit. It also stops
# objects that contain themselves.
DEPTH = 100
ESTIMATORS = 2**13
# Keys of a set or a dict with the same hash: each of them is compared with all the others.
_SAME_HASH = 64
# Rows of arrays without columns, which take no bytes.
_EMPTY_ROWS = 2**24


class BundleError(ValueError):
    """Raised if a model cannot be stored in a bundle, or a bundle cannot be trusted or read."""


def home_of(name: str, distribution: str | None = None) -> tuple[str, str, str] | None:
    """Return path, distribution and version of a type that bundles may contain, else None.

    The name is only looked up; nothing is imported.
    """
    module, _, attribute = name.partition(":")
    if BUNDLED.get(attribute) == module:
        if module.startswith("crossfit."):
            import crossfit

            return name, registry.CORE, crossfit.__version__
        import sklearn

        return name, "scikit-learn", sklearn.__version__
    entry = entry_named(name, distribution)
    if entry is None or entry.card is None:
        return None
    return entry.card.target, entry.distribution, entry.version


def name_of(cls: type) -> str | None:
    """Return the name by which bundles refer to a class, or None if they may not contain it."""
    known = f"{BUNDLED.get(cls.__name__)}:{cls.__name__}"
    # The last one, the path, is for a name that several plugins provide.
    for name in (known, identity_of(cls), f"{cls.__module__}:{cls.__qualname__}"):
        home = home_of(name)
        if home and registry.resolve_target(home[0]) is cls:
            return name
    return None


def check_names(cls: type, names: Iterable[Any], path: object) -> None:
    """Check that no value would replace a method or another piece of code of the class."""
    for name in names:
        if not isinstance(name, str) or name.startswith("__") or stands_for_code(cls, name):
            raise BundleError(
                f"{path}: {name!r} is not the name of a fitted attribute of {cls.__name__}"
            )


def check_params(made: Any, path: object) -> None:
    """Check parameters by the constraints of their type, before compiled code uses them."""
    if hasattr(made, "_parameter_constraints"):
        try:
            made._validate_params()
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Return True if a dtype is the same on all machines and contains no references."""
    limit = {"f": 8, "c": 16}.get(dtype.kind, math.inf)
    return dtype.kind in "biufcUSmM" and 0 < dtype.itemsize <= limit


def check_rows(shape: tuple[int, ...]) -> None:
    """Reject an empty array with so many rows that a loop over them would not end."""
    if 0 in shape and math.prod(size or 1 for size in shape) > _EMPTY_ROWS:
        raise ValueError(f"an empty array of shape {shape} has too many rows")


def check_hashes(keys: Iterable[Any]) -> None:
    """Reject many keys with the same hash, which would all be compared with each other."""
    (_, most), *_ = Counter(map(hash, keys)).most_common(1) or [(0, 0)]
    if most > _SAME_HASH:
        raise ValueError(f"{most} keys of a set or dict have the same hash")


def type_name(value: Any) -> str:
    """Return how messages name the type of a value."""
    cls = value if isinstance(value, type) else type(value)
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    return f"the class {name}" if isinstance(value, type) else name


def reason_of(error: Exception) -> str:
    """Return the message of an error, with its type unless that adds nothing."""
    plain = type(error) in (BundleError, ValueError)
    return str(error) if plain else f"{type(error).__name__}: {error}"


class Place:
    """The location of a value in the model, formatted only for an error message.

    Each location refers to its parent; building the text on the way down would copy it for every
    value.
    """

    __slots__ = ("above", "form", "key")

    def __init__(self, form: str, above: Place | None = None, key: Any = None) -> None:
        self.form, self.above, self.key = form, above, key

    def part(self, name: str) -> Place:
        """Return the place of an attribute."""
        return Place("{above}.{key}", self, name)

    def item(self, key: Any) -> Place:
        """Return the place of an entry of a list or dict."""
        return Place("{above}[{shown}]", self, key)

    def one_of(self, what: str) -> Place:
        """Return the place of a value without a name of its own, such as an element."""
        return Place("{key} of {above}", self, what)

    def __str__(self) -> str:
        text = str(self.key)
        return self.form.format(
            above=self.above,
            key=text if len(text) <= 60 else f"{text[:57]}...",
            shown=reprlib.repr(self.key),
        )
