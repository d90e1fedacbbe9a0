"""Extractors in their short form."""

import pytest

from crossfit.experiment import Experiment
from crossfit.extraction import Backbone, GridFeatures, make_extractor, parse_extractor
from crossfit.registry import NotInstalledError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grid", ("grid", {})),
        ("grid:", ("grid", {})),
        ("grid:4", ("grid", {"grid": 4})),
        ("crossfit-retrieval:grid", ("crossfit-retrieval:grid", {})),
        (
            "crossfit-retrieval:grid:4, 9",
            ("crossfit-retrieval:grid", {"grid": 4, "orientations": 9}),
        ),
        (
            "backbone:vgg19,fc7,C:\\weights\\a.pth,size=224",
            (
                "backbone",
                {"name": "vgg19", "layer": "fc7", "weights": "C:\\weights\\a.pth", "size": 224},
            ),
        ),
        (
            'backbone:vgg19,fc7,"a, b=c.pth",cache=false',
            (
                "backbone",
                {"name": "vgg19", "layer": "fc7", "weights": "a, b=c.pth", "cache": False},
            ),
        ),
        ("backbone:alexnet,weights=null", ("backbone", {"name": "alexnet", "weights": None})),
        (
            "backbone:vgg19,fc7,runs/lr=0.1/w.pth",
            ("backbone", {"name": "vgg19", "layer": "fc7", "weights": "runs/lr=0.1/w.pth"}),
        ),
    ],
)
def test_short_forms(text, expected):
    assert parse_extractor(text) == expected


def test_an_extractor_is_built():
    made = make_extractor("backbone:vgg19,fc7,weights=null,device=cpu")
    assert isinstance(made, Backbone)
    assert (made.name, made.layer, made.weights, made.device) == ("vgg19", "fc7", None, "cpu")
    assert make_extractor("grid").get_params() == GridFeatures().get_params()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("gird:4", NotInstalledError, "did you mean 'grid'"),
        ("grid:4,side=3", ValueError, "grid has no parameter 'side': did you mean 'size'"),
        ("grid:4,xyz=3", ValueError, "grid has no parameter 'xyz'; it has grid, orient"),
        ("grid:4,grid=3", ValueError, "the parameter 'grid' is given twice"),
        ("grid:1,2,3,4,5,6", ValueError, r"at most 5 arguments without a name \(grid, orient"),
        (3, TypeError, "an extractor must be a text"),
    ],
)
def test_what_is_wrong(text, error, message):
    with pytest.raises(error, match=message):
        parse_extractor(text)


def experiment(feature):
    return {
        "title": "Short forms",
        "dataset": "emoji",
        "features": {"image": feature},
        "methods": [{"method": "cca"}],
    }


def test_experiments_take_the_short_form():
    short = Experiment.from_dict(experiment("grid:4,output=pooled"))
    long = Experiment.from_dict(
        experiment({"name": "grid", "params": {"grid": 4, "output": "pooled"}})
    )
    assert short.features == long.features
    with pytest.raises(ValueError, match=r"features\.image: .*grid has no parameter 'side'"):
        Experiment.from_dict(experiment("grid:side=3"))
