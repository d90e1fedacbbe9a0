"""Methods of an experiment that hold other methods: fusion and re-ranking."""

import textwrap

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import RetrievalScorer, Views, similarity
from crossfit.compose import SelectChannel, ViewTransformer
from crossfit.datasets import load
from crossfit.experiment import Experiment, Store, plan, run
from crossfit.experiment._yaml import SpecError
from crossfit.experiment.best import best_cell, refit
from crossfit.experiment.build import build_method
from crossfit.methods import CCA, PLS
from crossfit.report import report_runs
from crossfit.retrieval import Fusion, Reranker
from crossfit.views import Channels

TFIDF = "sklearn.feature_extraction.text.TfidfVectorizer"
SVD = {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 20}}
WORDS = [{"name": TFIDF}, SVD]
LETTERS = [{"name": TFIDF, "params": {"analyzer": "char_wb", "ngram_range": [2, 3]}}, SVD]

TWO = {
    "method": "fusion",
    "label": "two",
    "members": {
        "words": {
            "method": "cca", "params": {"n_components": 8, "reg": 1.0},
            "features": {"text": WORDS}, "similarity": "nnn",
        },
        "letters": {
            "method": "pls", "params": {"n_components": 8}, "features": {"text": LETTERS},
        },
    },
}  # fmt: skip
STAGES = {
    "method": "reranker", "label": "stages", "params": {"k": 10}, "features": {"text": WORDS},
    "members": {"first": "pls", "second": {"method": "cca", "params": {"n_components": 8}}},
}  # fmt: skip


def experiment(*methods, **more):
    given = {
        "title": "Nested",
        "dataset": {"name": "emoji", "subset": {"train": 120, "test": 60}},
        "features": {"image": {"name": "grid"}},
        "metrics": ["mrr", "map@all"],
        "methods": list(methods),
        "seeds": [0, 1],
    }
    return Experiment(**{**given, **more})


@pytest.fixture(scope="module")
def pairs():
    from crossfit.experiment.data import load_splits
    from crossfit.experiment.task import PairSource

    assert load("emoji")["train"]
    found = load_splits(PairSource("emoji", {}, {"train": 120, "test": 60}, {})).splits
    return found["train"], found["test"]


def by_hand():
    def features(**vectorizer):
        text = make_pipeline(TfidfVectorizer(**vectorizer), TruncatedSVD(20, random_state=0))
        return ViewTransformer([("text", text)])

    words = make_pipeline(features(), CCA(8, reg=1.0), RetrievalScorer("nnn"))
    letters = make_pipeline(features(analyzer="char_wb", ngram_range=(2, 3)), PLS(8))
    return Fusion([("words", words), ("letters", letters)])


def test_a_run_gives_what_a_few_lines_by_hand_give(pairs, tmp_path):
    record = run(experiment(TWO, STAGES), tmp_path / "s")
    assert [(c.label, c.seed, c.status) for c in record.cells] == [
        ("two", 0, "done"), ("stages", 0, "done"),
    ]  # fmt: skip  # nothing is drawn at random
    train, test = pairs
    grid = ViewTransformer([("image", crossfit.registry.load("grid", "crossfit.extractors")())])
    seen, shown = grid.fit_transform(train.views), grid.transform(test.views)
    two = by_hand().fit(seen)
    text = ViewTransformer([("text", make_pipeline(
        TfidfVectorizer(), TruncatedSVD(20, random_state=0)))])  # fmt: skip
    plain = text.fit_transform(seen)
    stages = Reranker(PLS(), CCA(8), k=10).fit(plain)
    for cell, model, views in (
        (record.cells[0], two, shown),
        (record.cells[1], stages, text.transform(shown)),
    ):
        for query, gallery in (("image", "text"), ("text", "image")):
            scores = similarity(model, views, query=query, gallery=gallery)
            found = crossfit.evaluate(
                scores, test.views.relevance(query, gallery), "mrr", directions="forward", ci=None
            )
            expected = cell.results[f"{query}2{gallery}"]["mrr"]["mean"]
            assert found.mean(None, "mrr") == pytest.approx(expected, abs=2e-3)
    members = record.cells[0].cell["method"]["members"]
    assert [m["name"] for m in members.values()] == ["cca", "pls"]
    assert record.cells[0].environment["packages"]["crossfit-retrieval"]
    again = Experiment.from_dict(record.spec)
    assert again.to_dict() == experiment(TWO, STAGES).to_dict() | {"name": again.name}
    assert [t.key for t in plan(again, tmp_path / "s")] == [c.key for c in record.cells]
    page = report_runs([record.name], tmp_path / "s", tmp_path / "report")
    text_of_page = page.read_text(encoding="utf-8").replace("<wbr>", "")
    assert "words = cca with nnn, letters = pls" in text_of_page
    assert "words__reg=1" in text_of_page
    assert "member letters: crossfit-retrieval:pls" in text_of_page
    model = refit(record, best_cell(record))
    read = crossfit.load(crossfit.save(model, tmp_path / "bundle"))
    few = test.views[:5]
    np.testing.assert_array_equal(
        similarity(read, few, query="text", gallery="image"),
        similarity(model, few, query="text", gallery="image"),
    )


def test_weights_and_the_parameters_of_members_are_tuned(tmp_path):
    tuned = {
        **TWO,
        "tune": {
            "words__reg": {"float": [0.1, 10.0], "log": True},
            "weights": {"each": ["words", "letters"], "float": [0.1, 1.0]},
            "words__scorer__similarity": {"choice": ["cosine", "nnn"]},
            "letters__features__text__tfidfvectorizer__sublinear_tf": {"choice": [True, False]},
            "letters__n_components": {"int": [3, 8], "when": {"words__n_components": 8}},
        },
    }
    record = run(experiment(tuned, tuning={"trials": 3, "folds": 2}), tmp_path / "s")
    (cell,) = record.cells
    assert cell.status == "done" and set(cell.chosen) == set(tuned["tune"])
    assert set(cell.chosen["weights"]) == {"words", "letters"}
    trials = cell.trials()
    assert len(trials) == 3 and all("words__reg" in trial["params"] for trial in trials)
    page = report_runs([record.name], tmp_path / "s", tmp_path / "report")
    assert "words__scorer__similarity" in page.read_text(encoding="utf-8")
    default = run(
        experiment({**TWO, "tune": "default"}, tuning={"trials": 2, "folds": 2}), tmp_path / "s"
    )
    assert [cell.seed for cell in default.cells] == [0, 1]  # may hold out pairs at random
    assert {"how", "words__power"} <= set(default.cells[0].trials()[0]["params"])


def test_members_may_hold_members(tmp_path):
    deep = {
        "method": "fusion", "label": "deep", "features": {"text": WORDS},
        "members": {"stages": {key: STAGES[key] for key in ("method", "params", "members")},
                    "plain": "cca"},
        "tune": {"stages__second__reg": {"choice": [0.1, 1.0]}, "stages__k": {"int": [3, 9]}},
    }  # fmt: skip
    described = experiment(deep, tuning={"trials": 2, "folds": 2})
    model = build_method(described.methods[0])
    assert model.estimators[0][1].named_steps["method"].second.named_steps["method"].n_components
    (cell,) = run(described, tmp_path / "s").cells
    assert cell.status == "done" and set(cell.chosen) == {"stages__second__reg", "stages__k"}


def test_an_edit_of_a_member_is_another_cell_and_a_label_is_not(tmp_path):
    (first,) = plan(experiment(TWO), tmp_path / "s")
    (renamed,) = plan(experiment({**TWO, "label": "other"}), tmp_path / "s")
    assert renamed.key == first.key
    for change in (
        {"params": {"n_components": 7}}, {"similarity": "cosine"}, {"method": "cca"},
        {"features": {"text": WORDS}},
    ):  # fmt: skip
        letters = {**TWO["members"]["letters"], **change}
        members = {**TWO["members"], "letters": letters}
        (changed,) = plan(experiment({**TWO, "members": members}), tmp_path / "s")
        assert changed.key != first.key, change


def test_a_gallery_of_two_channels(tmp_path):
    """A text is searched among items of a picture and its caption."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(240, 5))
    query, picture, caption = (
        z @ rng.normal(size=(5, 9)) + noise * rng.normal(size=(240, 9)) for noise in (0.4, 1.5, 1.5)
    )
    views = Views(query=query, item=Channels(picture=picture, caption=caption))
    train, test = views[:160], views[160:]

    def of(channel):
        select = ViewTransformer([("item", SelectChannel(channel))])
        return make_pipeline(select, CCA(5, reg=0.1))

    both = Fusion([("picture", of("picture")), ("caption", of("caption"))], "weighted").fit(train)

    def mrr(model):
        scores = similarity(model, test, query="query", gallery="item")
        relevance = test.relevance("query", "item")
        return crossfit.evaluate(scores, relevance, "mrr", directions="forward", ci=None).mean(
            None, "mrr"
        )

    assert mrr(both) > max(map(mrr, both.estimators_)) + 0.03
    found = crossfit.search(both, test["query"][:3], view="query", gallery=test["item"], k=4)
    scores = similarity(both, test, query="query", gallery="item")
    np.testing.assert_array_equal(found.indices, np.argsort(-scores[:3], axis=1)[:, :4])
    read = crossfit.load(crossfit.save(both, tmp_path / "bundle"))
    np.testing.assert_array_equal(similarity(read, test, query="query", gallery="item"), scores)
    set_apart = Fusion(both.estimators, weights={"caption": 0, "picture": 1}).fit(train)
    np.testing.assert_array_equal(
        np.argsort(-similarity(set_apart, test, query="query", gallery="item"), axis=1),
        np.argsort(-similarity(both.estimators_[0], test, query="query", gallery="item"), axis=1),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{method: fusion}", "fusion needs members: a mapping from names to methods"),
        ("fusion", "fusion needs members"),
        ("{method: cca, members: {a: pls}}", "cca holds no methods; only fusion and reranker"),
        ("{method: reranker, members: {a: pls}}", "reranker needs the members 'first' and"),
        ("{method: fusion, members: {a__b: pls}}", "the name 'a__b' of a member must be made of"),
        ("{method: fusion, members: {how: pls}}", "the name 'how' of a member must be made of"),
        ("{method: fusion, members: {a: {params: {}}}}", "members.a.method: must be a text"),
        ("{method: fusion, members: {a: {method: pls, label: x}}}", "'label'"),
        ("{method: fusion, members: [pls]}", "members: must be a mapping"),
        ("{method: fusion, similarity: nnn, members: {a: pls}}", "fusion ranks by its members"),
        ("{method: fusion, params: {prefit: true}, members: {a: pls}}", "'prefit' cannot be set"),
        ("{method: fusion, params: {estimators: []}, members: {a: pls}}", "'estimators' cannot"),
        ("{method: fusion, params: {how: best}, members: {a: pls}}", "'how' parameter of Fusion"),
        ("{method: fusion, params: {weights: [1]}, members: {a: pls, b: cca}}",
         "weights must be 2 numbers"),
        ("{method: fusion, params: {weights: {a: 1}}, members: {a: pls, b: cca}}",
         "weights must be numbers for a, b"),
        ("{method: fusion, members: {a: {method: cca, params: {regg: 1}}}}",
         "method 'a': the method cca has no parameter 'regg'"),
        ("{method: fusion, members: {a: cca}, tune: {a__regg: {int: [1, 2]}}}",
         "tune: the method cca has no parameter 'a__regg'"),
        ("{method: fusion, members: {a: cca}, tune: {b__reg: {int: [1, 2]}}}",
         "tune: the method fusion has no parameter 'b__reg'"),
    ],
)  # fmt: skip
def test_errors_are_found_before_any_work(tmp_path, text, message):
    file = tmp_path / "e.yaml"
    file.write_text(textwrap.dedent(f"""
        title: t
        dataset: emoji
        tuning: {{trials: 2}}
        methods:
          - {{method: cca, label: plain, tune: default}}
          - {text}
    """))  # fmt: skip
    with pytest.raises(SpecError, match=message) as error:
        plan(Experiment.from_file(file), tmp_path / "s")
    assert "e.yaml:7" in str(error.value) and "\n" not in str(error.value)


def test_a_member_that_cannot_be_fitted_is_named(tmp_path):
    given = {"method": "fusion", "members": {"a": "cca", "b": {"method": "cca", "features": {
        "sound": WORDS}}}}  # fmt: skip
    (task,) = plan(experiment(given, features={"image": {"name": "grid"}, "text": WORDS}), tmp_path)
    assert task.skip == (
        "member b: features name the view 'sound', but the data set has image, text"
    )
    (task,) = plan(experiment({"method": "fusion", "members": {"a": "cca"}}), tmp_path / "s")
    assert task.skip.startswith("member a: ") and "text" in task.skip
    missing = {"method": "fusion", "members": {"a": "cca", "b": "crossfit-nowhere:other"}}
    (task,) = plan(experiment(missing, seeds=[0]), tmp_path / "s")
    assert "crossfit-nowhere" in task.skip
    record = run(experiment(missing, seeds=[0]), Store(tmp_path / "s"))
    assert record.cells[0].status == "skipped"


def test_a_report_names_members_that_rank_all_queries_together(tmp_path):
    members = {**TWO["members"], "words": {**TWO["members"]["words"], "similarity": "dual_softmax"}}
    record = run(experiment({**TWO, "members": members}), tmp_path / "s")
    page = report_runs([record.name], tmp_path / "s", tmp_path / "report")
    assert "Transductive: two." in page.read_text(encoding="utf-8")
