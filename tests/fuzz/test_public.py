"""Every public function with hostile arguments: a value or an error in one sentence.

`make fuzz` runs ten times as many calls as the ordinary tests; ``FUZZ_EXAMPLES`` sets their number.
"""

import copy
import decimal
import dis
import enum
import fractions
import importlib
import inspect
import io
import os
import pathlib
import types
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import crossfit
import crossfit._files
from crossfit import Channels, Ragged, RetrievalScorer, Views, ViewTransformer
from crossfit.cards import Float, Int
from crossfit.displays import (
    AttentionDisplay,
    ClassAPDisplay,
    GalleryDisplay,
    HubnessDisplay,
    PrecisionRecallDisplay,
    RecallDisplay,
    SpectrumDisplay,
    TrainingDisplay,
)
from crossfit.metrics import Repeats, abstention, compare, evaluate
from crossfit.retrieval import ExactIndex, Reranker
from crossfit.similarities import KNNPosterior, PosteriorOverPrior
from crossfit.subspace import CCA, JRL

pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))

# ---- what is called ------------------------------------------------------------------------------

MODULES = (
    "crossfit", "crossfit.views", "crossfit.metrics", "crossfit.similarities",
    "crossfit.retrieval", "crossfit.querying", "crossfit.scoring", "crossfit.model_selection",
    "crossfit.compose", "crossfit.datasets", "crossfit.cards", "crossfit.registry",
    "crossfit.extraction", "crossfit.subspace", "crossfit.plotting", "crossfit.cache",
    "crossfit.diagnosis", "crossfit.displays",
)  # fmt: skip

LEFT_OUT = {
    "as_float": "inner: gets what Views hold",
    "as_numpy": "inner: gets arrays",
    "check_columns": "inner: gets Views",
    "n_rows": "inner: gets what Views hold",
    "take_rows": "inner: gets what Views hold",
    "fill_blocks": "inner: gets what Views hold",
    "in_order": "inner: gets what Views hold",
    "item_weights": "inner: gets weights that were checked",
    "write_scores": "inner: gets a function that fills and a shape",
    "direction": "inner: gets names and Views",
    "mean_over_directions": "inner: gets a scorer",
    "relevance_of": "inner: gets Views",
    "score_views": "inner: gets a scorer",
    "view_names": "inner: gets a scorer",
    "push_to_hub": "uploads; tests/test_hub.py has its wrong arguments",
    "refresh": "takes nothing, and forgets what was listed",
    "MethodSimilarity": "made by methods",
    "CrossModalEstimator": "for authors, who override it",
    "Extractor": "for authors, who override it",
    "ImageExtractor": "for authors, who override it",
    "TextExtractor": "for authors, who override it",
    "AudioExtractor": "for authors, who override it",
    "Detector": "for authors, who override it",
}  # fmt: skip

# Inner functions, whose arguments `similarity`, `search` and the scorers have checked.
PROTOCOLS = ("fitted_views", "score_items", "prepared")

RNG = np.random.RandomState(0)
Y = np.arange(12) % 3
X = (RNG.normal(size=(12, 4)) + 2 * np.eye(3, 4)[Y]).astype(np.float32)
T = RNG.normal(size=(12, 3)) + 2 * np.eye(3)[Y]
VIEWS = Views(image=X, text=T)
MANY = Views(image=np.vstack([X, X + 1, 2 * X]), text=np.vstack([T, T - X[:, :3], 3 * T]))
SAME = Views(image=T, text=T + RNG.normal(size=T.shape))
WORDED = Views(image=X, text=Ragged(RNG.normal(size=(36, 3)), range(0, 37, 3)))
S = RNG.normal(size=(6, 6)).astype(np.float32)
EVALUATION = evaluate(S, np.eye(6), ["map@all", "r@1", "r@5", "r@10"], groups=(range(6),) * 2)
OTHER = evaluate(S.T, np.eye(6), ["map@all", "r@1", "r@5", "r@10"], groups=(range(6),) * 2)
ABSTENTION = abstention(S, np.eye(6))
TIED = evaluate(S, np.eye(6), ["map@all", "tied"])
TEST = compare({"a": EVALUATION, "b": OTHER}, "map@all", None)
PICTURE = RNG.randint(0, 256, (12, 12, 3)).astype(np.uint8)
TEXTS = ["a cat", "a dog", "the sky"] * 4

# The usual value of an argument with this name, unless a hostile one is passed.
USUAL = {
    "scores": S, "relevance": np.eye(6), "metric": "map@all", "metrics": "map@all", "name": "r@1",
    "y_query": range(6), "y_gallery": range(6), "k": 2, "ks": [1, 2], "direction": None,
    "values": X, "a": X[:, 0], "b": X[:, 1], "p_values": [0.1, 0.2], "evaluation": EVALUATION,
    "evaluations": {"a": EVALUATION, "b": OTHER}, "means": {"a": 0.6, "b": 0.5},
    "comparisons": TEST, "y_true": Y > 0, "y_score": X[:, 0], "A": T, "B": T[:5],
    "similarity": "cosine", "out": None, "shape": (6, 6), "X": VIEWS, "Y": None, "y": Y,
    "views": VIEWS, "estimator": None, "queries": X, "view": "image", "gallery": None,
    "names": ("image", "text"), "query": "image", "groups": None, "n_resamples": 20,
    "images": X[:4], "captions": T, "image_index": np.arange(12) % 4, "rows": [X, T[:, :1]],
    "offsets": [0, 5, 12], "function": lambda part, name: part, "low": 1, "high": 2,
    "image": PICTURE, "boxes": [[0, 0, 6, 6.0]], "method": "randomization",
    "transformers": [("image", StandardScaler())], "folder": "folder", "path": "nothing",
    "source": "pairs.csv", "mapping": {"a": X}, "keys": ["a"], "model": None,
    "space": {"a": Float(0, 1)}, "trial": None, "target": "a.b:C", "summary": "One.", "api": 1,
    "modality": "image", "part": Int(1, 2), "per_query": EVALUATION.per_query,
    "directions": "both", "kind": "map", "distribution": None, "group": "crossfit.methods",
    "cls": CCA, "params": {}, "audio": np.zeros(400, np.float32), "sample_rate": 8000,
    "card": crossfit.registry.get("cca"), "splits": {}, "query_ids": range(6),
    "gallery_ids": range(6), "Z": T, "confidence": X[:, 0], "worst": TIED, "expected": TIED,
    "best": TIED,
}  # fmt: skip

# A callable of the user may raise any error.
CALLED = {"similarity", "scoring", "kernel", "function"}

# Numbers of rounds and of draws: a large one rightly needs much time or memory.
ROUNDS = {
    "n_resamples", "n_trials", "timeout", "max_iter", "n_splits", "n_draws", "n_points", "n_init",
    "n_jobs", "n_permutations", "max_epochs", "epochs", "n_passes", "fourier",
}  # fmt: skip


class Target:
    """A public callable, and its arguments with usual values."""

    def __init__(self, name, make, usual, skipped=()):
        self.name, self.make = name, make
        parameters = inspect.signature(make()).parameters.values()
        self.arguments = {}
        self.many = {}
        for part in parameters:
            if part.name in skipped:
                continue
            if part.kind in (part.VAR_POSITIONAL, part.VAR_KEYWORD):
                self.many[part.name] = part.kind
                if part.name not in usual:
                    continue
            known = {**USUAL, **usual}
            default = None if part.default is part.empty else part.default
            if part.name in usual or part.default is part.empty:
                default = known.get(part.name)
            self.arguments[part.name] = (part.kind, default)

    def call(self, given):
        positional, named = [], {}
        kinds = [kind for kind, _ in self.arguments.values()]
        ordered = inspect.Parameter.VAR_POSITIONAL in kinds
        for name, (kind, usual) in self.arguments.items():
            value = given.get(name, usual)
            before = ordered and kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            if kind is inspect.Parameter.POSITIONAL_ONLY or before:
                positional.append(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(value if isinstance(value, tuple) else (value,))
            elif kind is inspect.Parameter.VAR_KEYWORD:
                words = type(value) is dict and all(isinstance(word, str) for word in value)
                named.update(value if words else {"image": value})
            else:
                named[name] = value
        found = self.make()(*positional, **named)
        return list(found) if isinstance(found, types.GeneratorType) else found


def methods_of(cls):
    for name, held in inspect.getmembers(cls):
        home = getattr(held, "__module__", None) or ""
        if not name.startswith("_") and inspect.isroutine(held) and home.startswith("crossfit"):
            yield name


class Fitting:
    """Return an instance after a fit, which uses the parameters of the constructor."""

    def __init__(self, cls, given):
        self.cls, self.given = cls, given
        self.__signature__ = inspect.signature(cls)

    def __call__(self, *args, **params):
        made = self.cls(*args, **params)
        return made.fit(*self.given) if hasattr(made, "fit") else made


_FITTED = {}


def instance(name, build):
    """Return an object whose methods are called, a new one if a method changes it."""
    if name not in _FITTED:
        _FITTED[name] = build()
    return copy.copy(_FITTED[name])


PIPE = make_pipeline(CCA(2), RetrievalScorer()).fit(VIEWS, Y)
PIPE[-1].index(PIPE[:-1].transform(VIEWS)["text"], "text")

SEARCHED = crossfit.search(PIPE, X, view="image", k=2)

INSTANCES = {
    "Views": lambda: VIEWS,
    "Channels": lambda: Channels(a=X, b=T),
    "Ragged": lambda: Ragged(X, [0, 5, 12]),
    "Evaluation": lambda: EVALUATION,
    "Repeats": lambda: Repeats([EVALUATION, OTHER]),
    "Abstention": lambda: ABSTENTION,
    "RetrievalScorer": lambda: RetrievalScorer().fit(SAME, Y).index(T, "text"),
    "ExactIndex": lambda: ExactIndex().add(T),
    "KNNPosterior": lambda: KNNPosterior(3).fit(SAME, Y),
    "PosteriorOverPrior": lambda: PosteriorOverPrior().fit(SAME, Y),
    "Reranker": lambda: Reranker(CCA(1), CCA(2), k=3).fit(VIEWS),
    "ViewTransformer": lambda: ViewTransformer([("image", StandardScaler())]).fit(VIEWS),
    "CCA": lambda: CCA(2).fit(VIEWS),
    "JRL": lambda: JRL(n_neighbors=3).fit(VIEWS, Y),
    "RecallDisplay": lambda: RecallDisplay([1], {"a": [1]}),
    "PrecisionRecallDisplay": lambda: PrecisionRecallDisplay([0, 1], {"a": [1, 0]}),
    "SpectrumDisplay": lambda: SpectrumDisplay([1, 0.5]),
    "HubnessDisplay": lambda: HubnessDisplay([[0], [1]], 3),
    "TrainingDisplay": lambda: TrainingDisplay({"training": [[1, 0.5]]}),
    "ClassAPDisplay": lambda: ClassAPDisplay(["a", "b"], [1, 0.5]),
    "GalleryDisplay": lambda: GalleryDisplay(["a"], [["b", PICTURE]]),
    "AttentionDisplay": lambda: AttentionDisplay(PICTURE, word_to_region=[0.5, 0.1, 0.2, 0.2]),
}

# Usual values that differ by class or function.
OWN = {
    "Views": {"views": None, "named": {"image": X, "text": T}},
    "Channels": {"views": None, "named": {"image": X, "text": T}},
    "Ragged": {"offsets": [0, 5, 12]},
    "padded": {},
    "select": {"names": ("image",)},
    "rename": {"names": {"image": "a"}},
    "map": {"names": ("image",)},
    "replace": {"named": {"image": X}},
    "with_groups": {"groups": Y},
    "from_list": {"rows": [X, X[:2]]},
    "distinct": {"name": "image"}, "first_rows": {"name": "image"},
    "item_labels": {"name": "image"}, "relevance": {"query": "image", "gallery": "text"},
    "interval": {"direction": "forward"},
    "Repeats": {"evaluations": [EVALUATION, OTHER]},
    "Abstention": {
        "evaluation": ABSTENTION.evaluation, "confidence": ABSTENTION.confidence,
        "direction": "forward",
    },
    "nauc": {"values": X[:, 1], "direction": "forward", "confidence": X[:, 0]},
    "recall_at_k_curve": {"direction": "forward"},
    "interpolated_precision_recall": {"direction": "forward"},
    "average_precision": {"k": None},
    "bootstrap_interval": {"values": X[:, 0]},
    "voc_mean_average_precision": {"y_true": np.eye(3)[Y], "y_score": T},
    "similarity": {"estimator": PIPE}, "answering": {"estimator": PIPE},
    "search": {"estimator": PIPE, "gallery": T}, "encode": {"estimator": PIPE},
    "exactness": {"estimator": Reranker(CCA(1), CCA(2), k=3).fit(VIEWS), "X": VIEWS},
    "Reranker": {"first": CCA(1), "second": CCA(2), "k": 3},
    "save": {"model": CCA(2).fit(VIEWS), "folder": "bundle"},
    "load": {"name": "cca", "folder": "bundle"},
    "get": {"name": "cca"}, "find": {"name": "cca"},
    "datasets.loading.load": {"name": "emoji"}, "grid_boxes": {"rows": 2, "columns": 2},
    "make_regions": {
        "vectors": [np.ones((4, 3))] * 2, "boxes": None, "scores": None, "labels": None,
        "label_names": (),
    },
    "default_search_space": {"estimator": CCA()},
    "OptunaSearch": {"estimator": CCA(1), "n_trials": 1, "cv": 2, "verbose": 0},
    "make_retrieval_scorer": {"direction": "both"},
    "RetrievalMetric": {"direction": "both", "ties": "expected"},
    "Choice": {"options": (1, 2)}, "Each": {"keys": ("a", "b")},
    "MethodCard": {"name": "mine"},
    "ChannelUnion": {"transformers": [("a", StandardScaler())]},
    "ColumnsAsViews": {"estimator": CCA(1)},
    "plot_attention": {"words": ["a", "b"], "word_to_region": np.full((2, 4), 0.25)},
    "plot_recall": {"ks": [1, 5], "chance": EVALUATION},
    "evaluate": {"groups": (range(6), range(6))},
    "Dataset": {"card": crossfit.registry.get("emoji", group="crossfit.datasets")},
    "ExactIndex": {"values": T}, "KNNPosterior": {"values": T}, "top_k": {"k": 2},
    "RetrievalScorer": {"X": SAME, "values": T},
    "CCA": {"values": X}, "JRL": {"values": X},
    "hubness": {"top": [[0], [1]], "n_gallery": 3},
    "diagnose": {"views": MANY, "shown": None, "splits": None, "train": "train"},
    "rank_pairs": {"views": MANY, "method": None}, "near_duplicates": {"splits": None},
    "learning_curve": {"train": MANY[:28], "test": MANY[28:], "sizes": (10,), "method": None},
    "recoveries": {"train": MANY[:28], "test": MANY[28:]},
    "hub_effect_of": {"method": CCA(2).fit(MANY), "train": MANY[:28], "test": MANY[28:]},
    "held_out_correlations": {"method": CCA(2).fit(MANY), "views": MANY},
    "RecallDisplay": {"estimator": PIPE, "recall": {"a": [1, 1]}, "name": "a", "query": None},
    "PrecisionRecallDisplay": {
        "estimator": PIPE, "recall": [0, 1], "precision": {"a": [1, 0]}, "name": "a",
        "query": None, "n_points": 3,
    },
    "SpectrumDisplay": {"estimator": PIPE, "correlations": [1], "name": "a", "query": None},
    "HubnessDisplay": {
        "estimator": PIPE, "top": [[0], [1]], "n_gallery": 3, "name": "a", "query": None,
    },
    "TrainingDisplay": {"estimator": PIPE, "losses": {"training": [[1, 0.5]]}},
    "ClassAPDisplay": {
        "estimator": PIPE, "classes": ["a"], "average_precision": [1], "name": "a", "query": None,
        "labels": (range(6), range(6)), "target_names": None, "direction": "forward",
    },
    "GalleryDisplay": {
        "estimator": PIPE, "queries": TEXTS, "found": [TEXTS[:2]] * 12, "name": "a", "query": None,
        "rows": [0, 1], "results": SEARCHED, "relevance": np.eye(12),
    },
    "AttentionDisplay": {
        "estimator": PIPE, "words": ["a", "b"], "word_to_region": np.full((2, 4), 0.25), "row": 0,
        "boxes": None,
    },
}  # fmt: skip

FIT = {
    "crossfit.subspace": (VIEWS, Y),
    "HGLMMCCA": (WORDED,),
    "RetrievalScorer": (SAME, Y),
    "KNNPosterior": (SAME, Y),
    "Reranker": (VIEWS, Y),
    "ViewTransformer": (VIEWS,),
    "ChannelUnion": (X,),
    "OptunaSearch": (VIEWS, Y),
    "TextExtractor": (TEXTS,),
    "ImageExtractor": ([PICTURE, PICTURE[::-1]],),
    "AudioExtractor": ([np.sin(np.arange(4000.0))] * 2,),
    "Other": ([X, T],),
}
# These download, train for long or need files, so they are only constructed.
NOT_FITTED = {
    "Backbone", "FasterRCNN", "OnnxDetector", "Doc2VecFeatures", "LdaTopics", "WordVectors",
    "Tokens", "Characters", "FisherVector", "HGLMM", "ColumnsAsViews",
}  # fmt: skip


def targets():
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            held = getattr(module, name)
            home = getattr(held, "__module__", "") or ""
            label = f"{home.removeprefix('crossfit.')}.{name}"
            if name in LEFT_OUT or not home.startswith("crossfit") or label in found:
                continue
            if inspect.isclass(held):
                if issubclass(held, (Exception, enum.Enum)):
                    continue
                found.update(of_class(label, held))
            elif inspect.isfunction(held):
                usual = OWN.get(label, OWN.get(name, {}))
                found[label] = Target(label, lambda held=held: held, usual)
    return found


def of_class(label, cls):
    name = cls.__name__
    made = cls
    usual = OWN.get(name, {})
    if issubclass(cls, BaseEstimator) and name not in NOT_FITTED:
        kinds = [name, "crossfit.subspace", *(base.__name__ for base in cls.__mro__)]
        if not cls.__module__.startswith("crossfit.subspace"):
            kinds.remove("crossfit.subspace")
        given = next((FIT[kind] for kind in kinds if kind in FIT), None)
        if given is not None:
            made = Fitting(cls, given)
    yield label, Target(label, lambda: made, usual)
    if name in INSTANCES:
        for method in [*methods_of(cls), *["__call__"] * ("__call__" in vars(cls))]:
            if method in ("get_params", "set_params", "set_output", *PROTOCOLS):
                continue
            under = f"{label}.{method}"
            own = {**OWN.get(method, {}), **usual}
            if method == "fit":
                own.setdefault("X", VIEWS)
            yield (
                under,
                Target(under, lambda n=name, m=method: getattr(instance(n, INSTANCES[n]), m), own),
            )


TARGETS = targets()

# ---- the values ----------------------------------------------------------------------------------


def nested():
    held = []
    for _ in range(60):
        held = [held]
    return held


def itself():
    held = []
    held.append(held)
    return held


def broken_csr():
    matrix = sp.csr_matrix(X.astype(np.float64))
    matrix.indices = matrix.indices.copy()
    matrix.indices[3] = 10**6
    return matrix


def with_value(value, shape=(12, 3)):
    found = np.ones(shape)
    found.flat[1] = value
    return found


HOSTILE = {
    # nothing, numbers, words
    "None": lambda: None,
    "Ellipsis": lambda: ...,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "7": lambda: 7,
    "2.5": lambda: 2.5,
    "0.0": lambda: 0.0,
    "nan": lambda: np.nan,
    "inf": lambda: np.inf,
    "-inf": lambda: -np.inf,
    "1e308": lambda: 1e308,
    "1e-320": lambda: 1e-320,
    "1j": lambda: 1j,
    "2**40": lambda: 2**40,
    "10**30": lambda: 10**30,
    "-2**63": lambda: -(2**63),
    "Fraction": lambda: fractions.Fraction(1, 3),
    "Decimal": lambda: decimal.Decimal("0.5"),
    "np.int64": lambda: np.int64(3),
    "np.float16 nan": lambda: np.float16("nan"),
    "np.bool": lambda: np.bool_(True),
    "np.datetime64": lambda: np.datetime64("2020-01-01"),
    "''": lambda: "",
    "word": lambda: "word",
    "bytes": lambda: b"r@1",
    "nul": lambda: "a\0b",
    "surrogate": lambda: "\udcef",
    "long": lambda: "x" * 5000,
    "r@1e3": lambda: "r@1e3",
    "map@-1": lambda: "map@-1",
    "r@１": lambda: "r@１",
    "huge k": lambda: "r@" + "9" * 30,
    "map@": lambda: "map@",
    "r@2": lambda: "r@2",
    "line": lambda: "a\nb",
    "Path": lambda: pathlib.Path("no/where"),
    # collections
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set()": set,
    "[1, 2]": lambda: [1, 2],
    "[[1], [1, 2]]": lambda: [[1], [1, 2]],
    "['a', 1]": lambda: ["a", 1],
    "['a', None]": lambda: ["a", None],
    "[{1}, {2}]": lambda: [{1}, {2}] * 6,
    "{1, 2}": lambda: {1, 2},
    "frozenset": lambda: frozenset("ab"),
    "{'a': 1}": lambda: {"a": 1},
    "{1: 'a'}": lambda: {1: "a"},
    "{'image': None}": lambda: {"image": None},
    "deep": nested,
    "itself": itself,
    "range(3)": lambda: range(3),
    "iter": lambda: iter([1, 2]),
    "generator": lambda: (i for i in (1, 2)),
    "(1, 2, 3)": lambda: (1, 2, 3),
    "('a', 'a')": lambda: ("a", "a"),
    "[('a', 'b')]": lambda: [("a", "b")],
    "[None]": lambda: [None] * 12,
    # objects
    "object": object,
    "type": lambda: int,
    "lambda": lambda: lambda *args: None,
    "module": lambda: np,
    "slice": lambda: slice(None),
    "StringIO": lambda: io.StringIO("a,b\n1,2\n"),
    "exception": lambda: ValueError("x"),
    "random": lambda: np.random.RandomState(0),
    "Generator": lambda: np.random.default_rng(0),
    "estimator": StandardScaler,
    "unfitted CCA": CCA,
    "Views": lambda: VIEWS,
    "Ragged": lambda: Ragged(X, [0, 5, 12]),
    "Channels": lambda: Channels(a=X, b=T),
    "TfidfVectorizer": TfidfVectorizer,
    # arrays
    "0-d": lambda: np.array(3.0),
    "empty": lambda: np.empty(0),
    "(0, 3)": lambda: np.empty((0, 3)),
    "(12, 0)": lambda: np.empty((12, 0)),
    "ones(12)": lambda: np.ones(12),
    "zeros": lambda: np.zeros((12, 3)),
    "ones(3, 3, 3)": lambda: np.ones((3, 3, 3)),
    "(1,)*9": lambda: np.ones((1,) * 9),
    "NaN at": lambda: with_value(np.nan),
    "inf at": lambda: with_value(np.inf),
    "1e200": lambda: with_value(1e200),
    "1e308 at": lambda: with_value(1e308),
    "all 1e300": lambda: np.full((12, 3), 1e300),
    "denormal": lambda: np.full((12, 3), 1e-310),
    "NaN(12)": lambda: np.full(12, np.nan),
    "inf(12)": lambda: np.array([1.0, np.inf] * 6),
    "NaN(6, 6)": lambda: with_value(np.nan, (6, 6)),
    "inf(6, 6)": lambda: with_value(np.inf, (6, 6)),
    "-ones(6, 6)": lambda: -np.ones((6, 6)),
    "1e200(6, 6)": lambda: with_value(1e200, (6, 6)),
    "int64 max": lambda: np.full(12, 2**63 - 1),
    "uint64": lambda: np.full((12, 3), 2**64 - 1, np.uint64),
    "complex": lambda: np.ones((12, 3), complex),
    "strings": lambda: np.array(["a", "b"] * 6),
    "objects": lambda: np.array([None, "a"] * 6, object),
    "mixed": lambda: np.array([1, "a", 2.5] * 4, object),
    "object numbers": lambda: T.astype(object),
    "lists": lambda: np.array([[1], [1, 2]] * 6, object),
    "bytes array": lambda: np.array([b"a"] * 12),
    "dates": lambda: np.array(["2020-01-01"] * 12, "M8[D]"),
    "deltas": lambda: np.ones((12, 3), "m8[s]"),
    "records": lambda: np.zeros(12, [("a", float)]),
    "masked": lambda: np.ma.masked_array(T, T > 1),
    "masked(12)": lambda: np.ma.masked_array(Y, Y > 1),
    "longdouble": lambda: T.astype(np.longdouble),
    "float16": lambda: T.astype(np.float16),
    "big-endian": lambda: T.astype(">f8"),
    "bool": lambda: T > 0,
    "Fortran": lambda: np.asfortranarray(T),
    "negative strides": lambda: T[::-1, ::-1],
    "matrix": lambda: np.asmatrix(T),
    "StringDType": lambda: np.array(["a"] * 12, np.dtypes.StringDType()),
    # pandas, torch, sparse
    "pd.NA": lambda: pd.NA,
    "pd.NaT": lambda: pd.NaT,
    "frame": lambda: pd.DataFrame(T),
    "mixed frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "Int64": lambda: pd.Series([1, None] * 6, dtype="Int64"),
    "category": lambda: pd.Series(["a", "b"] * 6, dtype="category"),
    "string NA": lambda: pd.Series(["a", None] * 6, dtype="string"),
    "index": lambda: pd.Index([1, 2]),
    "[pd.NA]": lambda: [pd.NA] * 12,
    "interval": lambda: pd.interval_range(0, 12),
    "tensor": lambda: torch.ones(12, 3),
    "bfloat16": lambda: torch.ones(12, 3, dtype=torch.bfloat16),
    "grad": lambda: torch.ones(12, 3, requires_grad=True),
    "0-d tensor": lambda: torch.tensor(1.0),
    "grad(6, 6)": lambda: torch.ones(6, 6, requires_grad=True, dtype=torch.bfloat16),
    "complex tensor": lambda: torch.ones(12, 3, dtype=torch.complex64),
    "bool tensor": lambda: torch.ones(12, dtype=torch.bool),
    "meta": lambda: torch.ones(12, 3, device="meta"),
    "sparse tensor": lambda: torch.eye(6).to_sparse(),
    "sparse csr": lambda: torch.eye(6).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(12, 3), 0.1, 0, torch.quint8),
    "conj": lambda: torch.ones(6, 6, dtype=torch.complex64).conj(),
    "tensors": lambda: [torch.ones(3)] * 12,
    "csr": lambda: sp.csr_array(T),
    "csc": lambda: sp.csc_matrix(T),
    "coo": lambda: sp.coo_array(np.eye(6)),
    "dok": lambda: sp.dok_array(np.eye(6)),
    "lil": lambda: sp.lil_matrix(np.eye(12, 3)),
    "bsr": lambda: sp.bsr_array(np.eye(12)),
    "dia": lambda: sp.dia_array(np.eye(6)),
    "coo 1-d": lambda: sp.coo_array(np.ones(12)),
    "broken csr": broken_csr,
    "sparse NaN": lambda: sp.csr_array(with_value(np.nan)),
    "object csr": lambda: sp.csr_matrix((6, 6), dtype=bool),
}
PROCESSES = {"7", "np.int64"}  # these take seconds to start
HUGE = {"2**40", "10**30", "1e308", "inf", "int64 max"}


def pool_of(argument):
    """Return the names of the values that are passed for an argument."""
    left_out = HUGE if argument in ROUNDS else set()
    left_out = left_out | PROCESSES if argument == "n_jobs" else left_out
    left_out = left_out | {"type", "lambda"} if argument in CALLED else left_out
    return sorted(set(HOSTILE) - left_out)


# ---- permitted results ---------------------------------------------------------------------------

ALLOWED = (ValueError, TypeError, KeyError, IndexError, OSError, crossfit.registry.RegistryError)
# Modules whose checks users of scikit-learn know, and which crossfit uses.
CHECKS = tuple(
    os.path.join(os.path.dirname(sklearn.__file__), *parts)
    for parts in (
        ("utils", "validation.py"), ("utils", "_param_validation.py"), ("base.py",),
        ("utils", "metaestimators.py"), ("pipeline.py",), ("model_selection", "_split.py"),
        ("utils", "_available_if.py"),
    )
)  # fmt: skip
OURS = os.path.dirname(crossfit.__file__)


def raised_on_purpose(error):
    """Return True if an error comes from a ``raise`` of crossfit or a check of scikit-learn."""
    if not isinstance(error, ALLOWED):
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    where = code.co_filename
    if not (where.startswith(OURS) or where in CHECKS):
        # Missing files, whose names Python itself reports.
        return isinstance(error, OSError) and where.startswith(os.path.dirname(os.__file__))
    if isinstance(error, OSError) and where.startswith(OURS):
        return True
    return code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def outcome(target, given):
    """Return a description of what is wrong with the result of a call, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.call(given)
        except Exception as error:
            if raised_on_purpose(error):
                return None
            trace = error.__traceback__
            places = []
            while trace is not None:
                places.append(
                    f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
                )
                trace = trace.tb_next
            said = str(error).splitlines()[:1]
            return f"{type(error).__name__}: {' '.join(said)[:100]} ({' > '.join(places[2:])})"
    return None


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """Use a temporary folder for the files of the calls, and not the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CROSSFIT_DATA", raising=False)
    pd.DataFrame({"image": ["a.png"] * 3, "text": TEXTS[:3]}).to_csv("pairs.csv", index=False)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.data())
def test_hostile_arguments_give_a_value_or_a_sentence(data):
    name = data.draw(st.sampled_from(sorted(TARGETS)), label="what is called")
    target = TARGETS[name]
    chosen = {}
    if target.arguments:
        names = data.draw(
            st.lists(st.sampled_from(sorted(target.arguments)), min_size=1, max_size=2, unique=True)
        )
        for argument in names:
            chosen[argument] = data.draw(st.sampled_from(pool_of(argument)), label=argument)
    wrong = outcome(target, {argument: HOSTILE[kind]() for argument, kind in chosen.items()})
    assert wrong is None, f"{name}({chosen}): {wrong}"


# ---- tests of the test ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (crossfit.views.n_rows, {"values": None}),  # an AttributeError of Python's
        (crossfit.views.take_rows, {"values": X, "rows": "a"}),  # an IndexError of NumPy's
        (crossfit.similarities.fill_blocks, {"block": int, "P": X, "Q": X}),  # of a builtin
        (crossfit._files.reserve, {"stream": None, "size": 1}),
    ],
)
def test_errors_of_the_depths_are_told_from_ours(function, arguments):
    target = Target("inner", lambda: function, dict.fromkeys(arguments))
    assert outcome(target, arguments) is not None


def test_ours_and_those_of_files_pass():
    for name, argument in (
        ("metrics.names.parse_metric", "name"),
        ("persistence.bundles.load", "folder"),
    ):
        assert outcome(TARGETS[name], {argument: "nothing"}) is None
        assert outcome(TARGETS[name], {argument: object()}) is None


def test_what_is_left_out_is_there_and_the_rest_is_called():
    names = {name for module in map(importlib.import_module, MODULES) for name in module.__all__}
    assert set(LEFT_OUT) <= names
    assert len(TARGETS) > 180
    for name, target in TARGETS.items():
        # Otherwise only missing arguments would be tested.
        assert outcome(target, {}) is None, name
