"""Warnings name the line of the caller, whatever lies between it and the place of the warning."""

import re
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from crossfit import Views, ViewTransformer, evaluate
from crossfit._warnings import at_the_callers_line, warn
from crossfit.extraction import Tokens
from crossfit.subspace import CCA, SM

ROOT = Path(__file__).parents[1]
rng = np.random.default_rng(0)
IMAGE, LABELS = rng.normal(size=(20, 4)), np.arange(20) % 2
TEXT = [f"a word{i % 3} and word{i % 5}" for i in range(20)]
FAR = ["completely different text"] * 20


def _fit_in_a_pipeline():
    views = Views(image=IMAGE, text=IMAGE + rng.normal(size=IMAGE.shape))
    return make_pipeline(ViewTransformer([("image", "passthrough")]), CCA(9)).fit(views)


def _cross_validate():
    views = Views(image=IMAGE, text=IMAGE + rng.normal(size=IMAGE.shape))
    return cross_val_score(make_pipeline(CCA(9)), views, LABELS, cv=2)


def _transform_in_a_pipeline():
    features = make_pipeline(ViewTransformer([("text", make_pipeline(Tokens()))]))
    return features.fit(Views(image=IMAGE, text=TEXT)).transform(Views(image=IMAGE, text=FAR))


def _evaluate():
    relevant = np.eye(3)
    relevant[0] = 0
    return evaluate(np.eye(3), relevant, "map@all", directions="forward", ci=None)


def _classify():
    few = LogisticRegression(max_iter=1)
    return SM(few).fit(rng.normal(size=(20, 4)), rng.normal(size=(20, 3)), LABELS)


def _extract_with_scikit_learn():
    words = TfidfVectorizer(tokenizer=str.split)  # scikit-learn warns of its own token_pattern
    return ViewTransformer([("text", words)]).fit(Views(image=IMAGE, text=TEXT))


@pytest.mark.parametrize(
    "call",
    [
        _fit_in_a_pipeline,
        _cross_validate,
        _transform_in_a_pipeline,
        _evaluate,
        _classify,
        _extract_with_scikit_learn,
    ],
)
def test_a_warning_names_the_file_of_the_caller(call):
    with pytest.warns(UserWarning) as caught:
        call()
    first = call.__code__.co_firstlineno
    for warning in caught:
        assert warning.filename == __file__
        assert first < warning.lineno < first + 5


def test_warnings_of_libraries_are_moved_and_others_are_not():
    with pytest.warns(UserWarning) as caught, at_the_callers_line():
        warnings.warn("mine", UserWarning, stacklevel=1)
        warnings.warn_explicit("theirs", UserWarning, sklearn.__file__, 7)
    assert [(str(each.message), each.filename) for each in caught] == [
        ("mine", __file__),
        ("theirs", __file__),
    ]
    assert caught[1].lineno != 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with at_the_callers_line():
            warnings.warn("ignored", UserWarning, stacklevel=1)
    with (
        pytest.warns(UserWarning, match="first"),
        pytest.raises(ValueError, match="then"),
        at_the_callers_line(),
    ):
        warnings.warn("first", UserWarning, stacklevel=1)
        raise ValueError("then")


def test_lines_of_plugins_and_of_joblib_are_left_out():
    code = "def fit(warn):\n    warn('of a plugin')\n"
    plugin = {"__name__": "crossfit_plugin.estimator"}
    exec(compile(code, "plugin.py", "exec"), plugin)
    with pytest.warns(UserWarning, match="of a plugin") as caught:
        joblib.Parallel(n_jobs=1)(joblib.delayed(plugin["fit"])(warn) for _ in range(1))
    # The nearest line outside is the one that Parallel reads its calls from, in this file.
    assert caught[0].filename == __file__


def test_a_warning_inside_a_context_manager_names_the_block():
    code = (
        "import contextlib\n"
        "@contextlib.contextmanager\n"
        "def enter(warn):\n"
        "    warn('inside', RuntimeWarning)\n"
        "    yield\n"
    )
    module = {"__name__": "crossfit.module"}
    exec(compile(code, "module.py", "exec"), module)
    with pytest.warns(RuntimeWarning, match="inside") as caught, module["enter"](warn):
        pass
    assert caught[0].filename == __file__


def test_a_warning_is_shown_once_per_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            warn("from one line")
        warn("from one line")
    assert len(caught) == 2


def test_no_other_module_chooses_a_fixed_stack_level():
    for path in ROOT.glob("src/**/*.py"):
        assert not re.search(r"warnings\.warn\(", path.read_text("utf-8")), path
