"""Invalid items, files and numbers raise an error in one sentence."""

import math
import traceback
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from crossfit.cache import FeatureCache
from crossfit.extraction import (
    HGLMM,
    MFCC,
    Backbone,
    Characters,
    Doc2VecFeatures,
    FisherVector,
    GridFeatures,
    LdaTopics,
    LogMel,
    OnnxDetector,
    Tokens,
    WordVectors,
    load_audio,
    load_rgb,
)

PIXELS = np.zeros((8, 8, 3), np.uint8)
ODD = [
    None, True, 3, -1, 2.5, math.nan, math.inf, 10**400, "x", "", b"x", [], [1], ["a"], {}, {1, 2},
    object(), pd.NA, np.array(3), np.array([1.0, np.nan]), np.zeros((0, 4)), np.zeros((2, 2)),
    np.zeros((2, 3, 4)), np.array(["a"]), np.ma.masked_array([1, 2], [0, 1]), 1j, len,
    torch.zeros(2, 3), torch.zeros(2, requires_grad=True), torch.zeros(2, device="meta"),
    pd.Series([1, None]), np.zeros((2, 2, 3), complex), range(3), iter([1]),
    np.array([None, "a"], object), "a\0b", ["a", None], [math.nan], "\udcef", [PIXELS],
    (PIXELS, 3), [[1, 2], [3]], [Image.new("F", (2, 2))], [(3, np.zeros(2))], [("a", "b")],
]  # fmt: skip
POINTS = np.random.default_rng(0).normal(size=(9, 3))


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    cache = FeatureCache(folder)
    fisher, mixture = FisherVector(n_components=1).fit([POINTS]), HGLMM(1).fit(POINTS)
    return {
        "load_rgb": load_rgb,
        "load_rgb's limit": lambda odd: load_rgb(PIXELS, odd),
        "load_audio": load_audio,
        "load_audio's rate": lambda odd: load_audio("x.wav", odd),
        "load_audio's duration": lambda odd: load_audio("x.wav", 22050, odd),
        "images": GridFeatures(grid=2, size=8, cache=False).transform,
        "sounds": MFCC(duration=1, cache=False).transform,
        "texts": Characters().transform,
        "training texts": Tokens(min_count=1).fit,
        "word vectors": lambda odd: WordVectors(odd).fit(["a"]),
        "sets to fit": FisherVector(n_components=1).fit,
        "sets": fisher.transform,
        "points to fit": HGLMM(1).fit,
        "points": mixture.predict_proba,
        "how many points": mixture.sample,
        "seed of points": lambda odd: mixture.sample(2, odd),
        "keys": cache.get_many,
        "entries": cache.put_many,
        "a value": lambda odd: cache.put_many({"a": odd}),
        "an extractor": lambda odd: cache.put_many({"a": PIXELS}, odd),
        "what to clear": cache.clear,
        "a cap": lambda odd: FeatureCache(folder, odd),
    }


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments(calls, odd):
    for name, call in calls.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(odd)
            except (TypeError, ValueError, FileNotFoundError) as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                assert "crossfit" in last.filename, (name, odd, error)
                assert "raise" in last.line, (name, odd, error)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Doc2VecFeatures, "vector_size"),
        (Doc2VecFeatures, "window"),
        (Doc2VecFeatures, "negative"),
        (WordVectors, "vector_size"),
        (WordVectors, "window"),
        (LdaTopics, "n_topics"),
        (Characters, "length"),
        (MFCC, "n_mels"),
        (MFCC, "rate"),
        (LogMel, "hop_length"),
        (GridFeatures, "size"),
        (GridFeatures, "orientations"),
        (Backbone, "resize"),
        (OnnxDetector, "top_k"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
@pytest.mark.parametrize("value", [2**31, 2**40, 2**70])
def test_sizes_that_no_memory_and_no_c_code_takes(make, name, value):
    needed = {"path": "x.onnx"} if make is OnnxDetector else {}
    with pytest.raises(ValueError, match=f"'{name}' parameter of {make.__name__} must be an int"):
        make(**needed, **{name: value}).fit(["a b", "a"])
