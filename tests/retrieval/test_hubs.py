"""Hub corrections against naive loops, their invariances, and the parts that take them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import RetrievalScorer, Views, evaluate, search, similarity
from crossfit.experiment import Experiment, run
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch
from crossfit.querying import answering
from crossfit.report import report_runs
from crossfit.retrieval import (
    CSLS,
    NNN,
    ApproximateIndex,
    DualSoftmax,
    ExactIndex,
    InvertedSoftmax,
    QBNorm,
    Reranker,
    hubs,
)
from crossfit.retrieval.hubs import CORRECTIONS
from crossfit.search_space import Choice

TEXTS = [
    {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
    {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 30}},
]
BANKED = [NNN(k=3), CSLS(k=3), InvertedSoftmax(beta=4.0), QBNorm(beta=4.0)]


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(40, 5)) + 0.4, rng.normal(size=(80, 5)) - 0.2
    bank = Views.from_captions(images[:25], texts[:50], np.repeat(np.arange(25), 2))
    return bank, images[25:], texts[50:]


def _naive(correction, queries, gallery, query_bank, gallery_bank):
    """Return the printed scores, one pair after the other."""
    found = np.empty((len(queries), len(gallery)))
    plain_best = [max(range(len(gallery)), key=lambda j: q @ gallery[j]) for q in queries]
    hubs = {max(range(len(gallery)), key=lambda j: b @ gallery[j]) for b in query_bank}
    for i, q in enumerate(queries):
        for j, g in enumerate(gallery):
            s, near = q @ g, sorted((b @ g for b in query_bank), reverse=True)
            match correction:
                case NNN():
                    found[i, j] = s - correction.weight * np.mean(near[: correction.k])
                case CSLS():
                    own = sorted((q @ b for b in gallery_bank), reverse=True)[: correction.k]
                    found[i, j] = 2 * s - np.mean(own) - np.mean(near[: correction.k])
                case QBNorm() | InvertedSoftmax():
                    beta = correction.beta
                    quotient = np.exp(beta * s) / sum(np.exp(beta * b) for b in near)
                    plain = isinstance(correction, QBNorm) and plain_best[i] not in hubs
                    found[i, j] = s if plain else np.log(quotient) / beta
                case DualSoftmax():
                    beta = correction.beta
                    others = sum(np.exp(beta * (other @ g)) for other in queries)
                    found[i, j] = s * np.exp(beta * s) / others
    return found


@pytest.mark.parametrize("correction", [*BANKED, DualSoftmax()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("chunk", [None, 7])
def test_scores_are_the_printed_ones(space, correction, turned, chunk):
    bank, images, texts = space
    scorer = RetrievalScorer(correction).fit(bank)
    names = ("text", "image") if turned else ("image", "text")
    items = {"image": images, "text": texts}
    query, gallery = (items[name] for name in names)
    scores = scorer.score_items(query, names[0], gallery, names[1], chunk)
    banks = [_unit(bank.distinct(name)[0]) for name in names]
    naive = _naive(correction, _unit(query), _unit(gallery), *banks)
    np.testing.assert_allclose(scores, naive, rtol=2e-6, atol=2e-6)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("correction", BANKED, ids=lambda c: type(c).__name__)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), chosen=st.integers(0, 29))
def test_a_query_alone_has_the_scores_of_the_query_among_others(space, correction, seed, chosen):
    bank, images, texts = space
    scorer = RetrievalScorer(correction).fit(bank)
    rows = np.random.default_rng(seed).permutation(len(texts))
    alone = scorer.score_items(texts[chosen : chosen + 1], "text", images, "image")
    together = scorer.score_items(texts[rows], "text", images, "image")
    np.testing.assert_allclose(together[rows == chosen], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("correction", BANKED, ids=lambda c: type(c).__name__)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_the_bank_does_not_matter(space, correction, seed):
    bank, images, texts = space
    rows = np.random.default_rng(seed).permutation(len(bank))
    one, other = RetrievalScorer(correction).fit(bank), RetrievalScorer(correction).fit(bank[rows])
    for names in (("image", "text"), ("text", "image")):
        items = {"image": images, "text": texts}
        given = items[names[0]], names[0], items[names[1]], names[1]
        np.testing.assert_allclose(
            one.score_items(*given), other.score_items(*given), rtol=1e-6, atol=1e-6
        )


def test_no_weight_is_the_cosine_and_a_bank_without_preference_changes_no_order(space):
    bank, images, texts = space
    plain = RetrievalScorer("cosine").fit(bank).score_items(texts, "text", images, "image")
    without = RetrievalScorer(NNN(weight=0.0)).fit(bank)
    np.testing.assert_array_equal(without.score_items(texts, "text", images, "image"), plain)
    # All gallery items have the same length and the same product with the one query of the bank.
    gallery = np.column_stack([_unit(images), np.ones(len(images))])
    query = np.column_stack([texts, np.zeros(len(texts))])
    even = Views(image=np.eye(6)[-1:], text=np.eye(6)[-1:])
    expected = np.argsort(-(_unit(query) @ _unit(gallery).T), axis=1)
    for correction in BANKED:
        found = RetrievalScorer(correction).fit(even)
        scores = found.score_items(query, "text", gallery, "image")
        np.testing.assert_array_equal(np.argsort(-scores, axis=1), expected)


def test_equal_items_have_equal_scores(space):
    bank, images, texts = space
    twice = np.vstack([images, images])
    for correction in BANKED:
        scores = RetrievalScorer(correction).fit(bank).score_items(texts, "text", twice, "image")
        np.testing.assert_array_equal(scores[:, :15], scores[:, 15:])


@pytest.mark.parametrize("correction", [*BANKED, DualSoftmax()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("turned", [False, True])
def test_a_whole_matrix_is_that_of_pairs(space, correction, turned, monkeypatch):
    """A matrix is written with fewer products than its blocks are, with banks of several blocks."""
    bank, images, texts = space
    query, view = ("text", "image") if turned else ("image", "text")
    queries, gallery = (texts, images) if turned else (images, texts)
    scorer = RetrievalScorer(correction).fit(bank)
    left, right, block = scorer.similarity_.prepared(queries, query, gallery, view)
    expected = block(left, right)
    assert hubs.CHUNK > 50 and hubs._FEW > 30
    for size in (2048, 9):
        monkeypatch.setattr(hubs, "_FEW", size)
        monkeypatch.setattr(hubs._slices, "__defaults__", (size,))
        found = scorer.score_items(queries, query, gallery, view)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    twice = scorer.score_items(queries, query, np.vstack([gallery, gallery]), view)
    np.testing.assert_array_equal(twice[:, : len(gallery)], twice[:, len(gallery) :])


@pytest.mark.parametrize("correction", [*BANKED, DualSoftmax()], ids=lambda c: type(c).__name__)
def test_no_second_matrix_is_in_memory(correction, monkeypatch):
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(900, 8)) for name in ("image", "text")}
    scorer = RetrievalScorer(correction).fit(Views(**rows)[:300])
    monkeypatch.setattr(hubs, "_FEW", 16)
    monkeypatch.setattr(hubs._slices, "__defaults__", (128,))
    out = np.empty((900, 900), np.float32)
    tracemalloc.start()
    try:
        scorer.score_items(rows["image"], "image", rows["text"], "text", 128, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < out.nbytes / 3


def test_a_smaller_bank_keeps_groups_whole(space):
    bank, *_ = space
    for size in (1, 6, 7, 49, 50, 400):
        made = NNN(bank_size=size).fit(bank)
        images, texts = len(made.banks_["image"]), len(made.banks_["text"])
        assert texts == 2 * images == max(2, min(size // 2 * 2, 50))
    again = NNN(bank_size=6).fit(bank)
    np.testing.assert_array_equal(again.banks_["text"], NNN(bank_size=6).fit(bank).banks_["text"])
    other = NNN(bank_size=6, random_state=1).fit(bank)
    assert not np.array_equal(again.banks_["text"], other.banks_["text"])


@pytest.mark.parametrize("correction", BANKED[:3], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("index", [ExactIndex, ApproximateIndex])
def test_an_index_takes_the_correction_as_one_more_coordinate(space, correction, index):
    if index is ApproximateIndex:
        pytest.importorskip("faiss")
    bank, images, texts = space
    made = correction.fit(bank)
    held = index("dot").add(made.of_gallery(images, "text", "image"))
    found = held.search(made.of_queries(texts, "text", "image"), k=5).indices
    scores = RetrievalScorer(correction).fit(bank).score_items(texts, "text", images, "image")
    np.testing.assert_array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :5])


def test_what_an_index_cannot_hold_is_rejected(space):
    bank, images, _ = space
    with pytest.raises(ValueError, match="QBNorm is more than a number per item"):
        QBNorm().fit(bank).of_gallery(images, "text", "image")
    with pytest.raises(ValueError, match="an index takes NNN as one more coordinate"):
        ExactIndex(NNN().fit(bank)).add(images)


# ---- pipelines, tuning, bundles, experiments -----------------------------------------------------


@pytest.fixture(scope="module")
def hubby():
    """Pairs of which some texts are near to every image."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(300, 6))
    strength = 1 + 3 * (rng.random((300, 1)) < 0.1)
    images = z @ rng.normal(size=(6, 20)) + rng.normal(size=(300, 20))
    texts = (z + 0.8 * strength) @ rng.normal(size=(6, 15)) + rng.normal(size=(300, 15))
    views = Views(image=images, text=texts)
    return views[:200], views[200:]


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_pipeline_takes_names_and_objects_and_is_saved(hubby, name, tmp_path):
    train, test = hubby
    pipe = make_pipeline(CCA(5), RetrievalScorer(name, metric="r@1")).fit(train)
    same = make_pipeline(CCA(5), RetrievalScorer(CORRECTIONS[name](), metric="r@1")).fit(train)
    assert answering(pipe)[1].one_way
    read = crossfit.load(crossfit.save(pipe, tmp_path / "bundle"))
    values = []
    for query, gallery in (("image", "text"), ("text", "image")):
        scores = similarity(pipe, test, query=query, gallery=gallery)
        for other in (same, read):
            found = similarity(other, test, query=query, gallery=gallery)
            np.testing.assert_array_equal(found, scores)
        relevance = test.relevance(query, gallery)
        evaluated = evaluate(scores, relevance, ["r@1"], directions="forward", ci=None)
        values.append(evaluated.mean(None, "r@1"))
    assert pipe.score(test) == pytest.approx(np.mean(values))


def test_search_takes_corrections_that_rank_one_query_at_a_time(hubby):
    train, test = hubby
    pipe = make_pipeline(CCA(5), RetrievalScorer("nnn")).fit(train)
    scores = similarity(pipe, test, query="text", gallery="image")
    found = search(pipe, test["text"][:3], view="text", gallery=test["image"], k=4)
    np.testing.assert_array_equal(found.indices, np.argsort(-scores[:3], axis=1)[:, :4])
    dual = make_pipeline(CCA(5), RetrievalScorer("dual_softmax")).fit(train)
    with pytest.raises(ValueError, match="DualSoftmax compares all queries of a test set"):
        search(dual, test["text"][:3], view="text", gallery=test["image"])
    scorer = dual[-1].index(dual[0].encode(test["image"], "image"), "image")
    with pytest.raises(ValueError, match="DualSoftmax compares all queries of a test set"):
        scorer.search(dual[0].encode(test["text"][:1], "text"), "text")


@pytest.mark.parametrize("direction", [("image", "text"), ("text", "image")])
def test_a_second_stage_may_be_corrected(hubby, direction):
    train, test = hubby
    second = make_pipeline(CCA(5), RetrievalScorer("nnn"))
    two = Reranker(CCA(2), second, k=5).fit(train)
    query, gallery = direction
    scores = similarity(two, test, query=query, gallery=gallery)
    whole = similarity(two.second_, test, query=query, gallery=gallery)
    first = similarity(two.first_, test, query=query, gallery=gallery)
    for row, (found, expected) in enumerate(zip(scores, whole)):
        proposed = np.argsort(-first[row], kind="stable")[:5]
        np.testing.assert_allclose(found[proposed], expected[proposed], atol=1e-6)


def test_a_search_chooses_among_corrections_and_their_parameters(hubby):
    train, _ = hubby
    pipe = make_pipeline(CCA(5), RetrievalScorer("cosine", metric="r@1"))
    space = {"retrievalscorer__similarity": Choice("cosine", "nnn", "csls")}
    found = OptunaSearch(pipe, space, n_trials=3, sampler="grid", random_state=0).fit(train)
    assert {trial.params["retrievalscorer__similarity"] for trial in found.study_.trials} == {
        "cosine", "nnn", "csls",
    }  # fmt: skip
    pipe = make_pipeline(CCA(5), RetrievalScorer(NNN(), metric="r@1"))
    space = {"retrievalscorer__similarity__k": Choice(1, 5)}
    assert OptunaSearch(pipe, space, n_trials=2, random_state=0).fit(train).best_score_ > 0


def test_an_experiment_ranks_each_direction_by_its_own_matrix(tmp_path):
    rows = [
        {"method": "cca", "label": "CCA"},
        {"method": "cca", "label": "named", "similarity": "nnn"},
        {
            "method": "cca",
            "label": "tuned",
            "similarity": {"name": "nnn", "params": {"weight": 1.0}},
            "tune": {"scorer__similarity__k": {"choice": [2, 10]}},
        },
    ]
    experiment = Experiment(
        title="Corrections",
        dataset="emoji",
        features={"image": {"name": "grid"}, "text": TEXTS},
        methods=rows,
        metrics=["r@10", "mrr"],
        tuning={"trials": 2, "folds": 3, "metric": "mrr"},
    )
    cells = {cell.label: cell for cell in run(experiment, tmp_path).cells}
    assert {cell.status for cell in cells.values()} == {"done"}
    data = crossfit.datasets.load("emoji")
    from crossfit.experiment.build import build_features

    stage = crossfit.compose.ViewTransformer(build_features(experiment.features))
    train, test = stage.fit_transform(data["train"].views), stage.transform(data["test"].views)
    pipe = make_pipeline(CCA(), RetrievalScorer("nnn")).fit(train)
    found = cells["named"].results
    for query, gallery in (("image", "text"), ("text", "image")):
        scores = similarity(pipe, test, query=query, gallery=gallery)
        evaluated = evaluate(scores, test.relevance(query, gallery), ["mrr"], directions="forward")
        direction = f"{query}2{gallery}"
        assert found[direction]["mrr"]["mean"] == pytest.approx(evaluated.mean(None, "mrr"))
        assert found[direction] != cells["CCA"].results[direction]


@pytest.mark.parametrize("tuned", [False, True])
def test_a_report_names_what_is_transductive(tmp_path, tuned):
    row = {"method": "cca", "label": "all at once", "similarity": "dual_softmax"}
    if tuned:
        row |= {
            "similarity": "cosine",
            "tune": {"scorer__similarity": {"choice": ["dual_softmax"]}},
        }
    experiment = Experiment(
        title="Dual softmax",
        name="dual",
        dataset="emoji",
        features={"image": {"name": "grid"}, "text": TEXTS},
        methods=[{"method": "cca", "similarity": "nnn"}, row],
        tuning={"trials": 1, "folds": 2} if tuned else None,
    )
    run(experiment, tmp_path)
    report_runs(["dual"], tmp_path, tmp_path / "report")
    words = "Transductive: all at once. The scores of a query depend on the other test queries"
    assert words in (tmp_path / "report" / "leaderboard.md").read_text("utf-8")
    assert words in (tmp_path / "report" / "report.html").read_text("utf-8")


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "correction, message",
    [
        (NNN(k=0), "'k' parameter of NNN"),
        (NNN(weight=-1.0), "'weight' parameter of NNN"),
        (CSLS(measure="l2"), "'measure' parameter of CSLS"),
        (InvertedSoftmax(beta=0.0), "'beta' parameter of InvertedSoftmax"),
        (QBNorm(bank_size=0), "'bank_size' parameter of QBNorm"),
    ],
)
def test_wrong_parameters_are_named(space, correction, message):
    with pytest.raises(ValueError, match=message):
        RetrievalScorer(correction).fit(space[0])


def test_wrong_rows_are_named(space):
    bank, images, texts = space
    with pytest.raises(ValueError, match="NNN needs views of a common space"):
        NNN().fit(Views(image=np.eye(3), text=np.ones((3, 2))))
    made = NNN().fit(bank)
    with pytest.raises(ValueError, match="NNN was fitted on rows of 5 columns, got 4"):
        made.prepared(texts[:, :4], "text", images, "image")
    with pytest.raises(ValueError, match="no view 'sound': the views of the bank are image, text"):
        made.prepared(texts, "sound", images, "image")
    with pytest.raises(TypeError, match="Views"):
        NNN().fit(images)
