"""Runs of other systems have the values of trec_eval, ir-measures, ranx or the closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossfit.metrics import evaluate
from crossfit.systems import (
    Triples,
    evaluate_matrix,
    evaluate_run,
    read_qrels,
    read_run,
    write_qrels,
    write_run,
)
from crossfit.systems.ranked import _by_query_and_value
from crossfit.systems.triples import codes_of

ir_measures = pytest.importorskip("ir_measures", reason="ir-measures is not installed")

EVERY = (
    "map@all", "ndcg@10", "ndcg@all", "r@1", "r@10", "mrr", "map@10:all", "map@10:min",
    "map@5:hits", "map@R", "p@R", "r@10:fraction", "p@5", "medr", "meanr", "tied",
    "map@all:adjusted",
)  # fmt: skip
#: Our names and those of ir-measures for the same values.
SAME = {
    "map@all": "AP", "ndcg@10": "nDCG@10", "ndcg@all": "nDCG", "r@10:fraction": "R@10",
    "mrr": "RR", "p@5": "P@5", "p@R": "Rprec", "map@10:all": "AP@10", "r@5": "Success@5",
}  # fmt: skip


def dictionaries(scores, grades, depth=None):
    """Return a run and judgements as ir-measures, ranx and pytrec_eval have them."""
    run, qrels = {}, {}
    for i, row in enumerate(scores):
        best = np.argsort(-row, kind="stable")[:depth]
        run[f"q{i}"] = {f"d{j}": float(row[j]) for j in best}
        qrels[f"q{i}"] = {f"d{j}": int(grade) for j, grade in enumerate(grades[i])}
    return run, qrels


@pytest.fixture(scope="module")
def drawn():
    """Return scores without ties, and grades from 0 to 3 of which every query has some."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((40, 70))
    grades = (rng.random((40, 70)) < 0.1) * rng.integers(1, 4, (40, 70))
    grades[np.arange(40), np.arange(40)] = 1
    return scores, grades


@pytest.mark.parametrize("ties", ["expected", "stable", "worst", "best"])
@pytest.mark.filterwarnings("ignore:2 of 40 queries")
def test_a_whole_run_has_the_values_of_its_matrix_to_the_last_digit(drawn, ties):
    scores, grades = drawn
    coarse, grades = np.round(scores), grades.copy()
    grades[[3, 7]] = 0
    run = {f"q{i}": {f"d{j}": s for j, s in enumerate(row)} for i, row in enumerate(coarse)}
    _, qrels = dictionaries(coarse, grades)
    ours = evaluate_run(run, qrels, EVERY, ties=ties).evaluation
    theirs = evaluate(coarse, grades, EVERY, ties=ties, directions="forward")
    for name in EVERY:
        one, other = (each.per_query["forward", name] for each in (ours, theirs))
        np.testing.assert_array_equal(one, other)
        assert ours.interval("forward", name) == theirs.interval("forward", name)


@pytest.mark.parametrize("depth", [None, 20, 5])
def test_graded_runs_have_the_values_of_ir_measures(drawn, depth):
    run, qrels = dictionaries(*drawn, depth)
    ours = evaluate_run(run, qrels, list(SAME), gain="linear")
    asked = {name: ir_measures.parse_measure(theirs) for name, theirs in SAME.items()}
    theirs = ir_measures.calc_aggregate(list(asked.values()), qrels, run)
    for name, measure in asked.items():
        assert ours.mean(name) == pytest.approx(theirs[measure], abs=1e-12), name


def test_the_gain_of_ndcg_is_exponential_as_that_of_ranx(drawn):
    ranx = pytest.importorskip("ranx", reason="ranx is not installed")
    run, qrels = dictionaries(*drawn, 30)
    theirs = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(run), ["ndcg_burges@10", "map", "mrr", "recall@10"]
    )
    ours = evaluate_run(run, qrels, ["ndcg@10", "map@all", "mrr", "r@10:fraction"])
    for name, value in zip(ours.evaluation.metrics, theirs.values(), strict=True):
        assert ours.mean(name) == pytest.approx(value, abs=1e-9), name
    assert any("2^grade - 1" in note for note in ours.notes)


def test_values_per_query_are_those_of_trec_eval(drawn):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed")
    run, qrels = dictionaries(*drawn, 25)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "recip_rank"}).evaluate(run)
    ours = evaluate_run(run, qrels, ["map@all", "mrr"])
    way = ours.evaluation.directions[0]
    for name, key in (("map@all", "map"), ("mrr", "recip_rank")):
        own = dict(zip(ours.query_ids[way], ours.evaluation.per_query[way, name], strict=True))
        assert own == pytest.approx({query: found[key] for query, found in theirs.items()})


def test_a_constant_scorer_has_the_values_of_chance(drawn):
    scores, grades = drawn
    run, qrels = dictionaries(np.zeros_like(scores), grades)
    found = evaluate_run(run, qrels, ["map@all", "ndcg@10", "r@10", "mrr", "meanr"])
    for row in found.rows():
        assert row["value"] == pytest.approx(row["chance"], abs=1e-12)
        assert row["tied"] == 1.0
        assert row["worst"] != pytest.approx(row["best"], abs=1e-3)
    assert any("same score for 40 of 40 queries" in note for note in found.notes)


def test_negative_scores_rank_above_items_that_are_not_in_the_run(drawn):
    scores, grades = drawn
    run, qrels = dictionaries(scores - 100, grades, 20)
    assert max(max(found.values()) for found in run.values()) < 0
    ours = evaluate_run(run, qrels, ["map@all", "r@10"])
    same = evaluate_run(dictionaries(scores, grades, 20)[0], qrels, ["map@all", "r@10"])
    theirs = ir_measures.calc_aggregate([ir_measures.AP], qrels, run)
    assert ours.mean("map@all") == pytest.approx(theirs[ir_measures.AP], abs=1e-12)
    assert [row["value"] for row in ours.rows()] == [row["value"] for row in same.rows()]


def test_unjudged_items_are_not_relevant_and_take_ranks(drawn):
    run, qrels = dictionaries(*drawn)
    few = {query: {d: g for d, g in found.items() if g or int(d[1:]) % 3}
           for query, found in qrels.items()}  # fmt: skip
    ours, whole = (evaluate_run(run, each, ["map@all", "p@5", "p@R"]) for each in (few, qrels))
    theirs = ir_measures.calc_aggregate([ir_measures.AP, ir_measures.P @ 5], few, run)
    assert ours.mean("map@all") == pytest.approx(theirs[ir_measures.AP], abs=1e-12)
    assert ours.mean("p@5") == pytest.approx(theirs[ir_measures.P @ 5], abs=1e-12)
    assert ours.rows() == whole.rows()


def test_grades_below_zero_are_not_relevant():
    found = evaluate_run({"q": {"a": 3, "b": 2, "c": 1}}, {"q": {"a": -2, "b": 1}}, "mrr", ci=None)
    assert found.mean("mrr") == 0.5


@pytest.mark.parametrize("depth", [3, 10, 40])
def test_a_truncated_run_bounds_what_the_whole_ranking_decides(drawn, depth):
    scores, grades = drawn
    run, qrels = dictionaries(scores, grades, depth)
    names = ["map@all", "ndcg@10", "r@1", "r@10:fraction", "mrr", "map@R"]
    ours = evaluate_run(run, qrels, names, gallery_size=70)
    whole = evaluate(scores, grades, names, directions="forward")
    for row in ours.rows():
        exact = whole.mean("forward", row["metric"])
        assert row["value"] <= exact + 1e-12 and exact <= row["at_most"] + 1e-12, row
    decided = [row["metric"] for row in ours.rows() if row["at_most"] == row["value"]]
    assert ("r@10:fraction" in decided) == (depth >= 10)
    assert "r@1" in decided and "map@all" not in decided
    for name in set(decided):
        assert ours.mean(name) == pytest.approx(whole.mean("forward", name), abs=1e-12)
    assert any(f"shortest list has {depth} items" in note for note in ours.notes)


def test_the_largest_value_of_a_truncated_run_is_that_of_the_best_end():
    run = {"q": {"a": 2.0, "b": 1.0}}
    found = evaluate_run(run, {"q": {"b": 1, "c": 1}}, "map@all", ci=None, gallery_size=10)
    assert found.mean("map@all") == pytest.approx(0.25)
    assert found.rows()[0]["at_most"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_ranks_need_the_relevant_items(drawn):
    run, qrels = dictionaries(*drawn, 3)
    with pytest.raises(ValueError, match=r"meanr: the run has no relevant item for \d+ of 40"):
        evaluate_run(run, qrels, "meanr")
    with pytest.raises(ValueError, match="medr: the run has no relevant item"):
        evaluate_run(run, qrels, "medr")


def test_queries_that_are_not_in_the_run_have_the_value_0_or_none(drawn):
    run, qrels = dictionaries(*drawn)
    whole = evaluate_run(run, qrels, "mrr").evaluation.per_query["forward", "mrr"]
    del run["q0"], run["q9"]
    kept = np.delete(whole, [0, 9])
    zero, skip = (evaluate_run(run, qrels, "mrr", missing=each) for each in ("zero", "skip"))
    theirs = ir_measures.calc_aggregate([ir_measures.RR], qrels, run)[ir_measures.RR]
    assert zero.mean("mrr") == pytest.approx(kept.sum() / 40) == pytest.approx(theirs)
    assert skip.mean("mrr") == pytest.approx(kept.mean())
    assert any("2 of 40 queries are not in the run, for instance 'q0'" in n for n in zero.notes)


def test_queries_without_judgements_are_left_out(drawn):
    run, qrels = dictionaries(*drawn)
    more = {**run, "other": {"d1": 1.0}}
    found, same = (evaluate_run(each, qrels, "map@all") for each in (more, run))
    assert found.mean("map@all") == same.mean("map@all")
    assert any("1 queries of the run have no judgements" in note for note in found.notes)


def test_an_item_that_is_ranked_or_judged_twice_is_rejected():
    rows = (["q", "q", "q"], ["a", "b", "a"], [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="item 'a' of query 'q' occurs twice"):
        evaluate_run(rows, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="the judgements: item 'a' of query 'q' occurs twice"):
        evaluate_run({"q": {"a": 1.0}}, rows)


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({"q": {"a": float("nan")}}, {"q": {"a": 1}}, "the value of item 'a' of query 'q' is NaN"),
        ({}, {"q": {"a": 1}}, "the run is empty"),
        ({"q": {}}, {"q": {"a": 1}}, "the run is empty"),
        ({"q": {"a": 1}}, {"q": {"a": 0}}, "no query has a relevant item"),
        ({"x": {"a": 1}}, {"q": {"a": 1}}, "the run has no query of the judgements"),
        ({"q": {"a": "high"}}, {"q": {"a": 1}}, "values must be numbers, got 'high'"),
        ({"q": "a"}, {"q": {"a": 1}}, "query 'q' has 'a'; give a mapping of items"),
    ],
)
def test_bad_runs_are_rejected_in_one_sentence(run, qrels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_run(run, qrels)


def test_a_gallery_is_not_smaller_than_the_known_items(drawn):
    run, qrels = dictionaries(*drawn)
    with pytest.raises(ValueError, match="gallery_size is 9, but 70 items"):
        evaluate_run(run, qrels, gallery_size=9)


def test_a_query_that_finds_itself_is_noted_and_can_be_left_out():
    items = [f"d{i}" for i in range(10)]
    run = {q: {d: (10.0 if d == q else 5.0 - abs(i - j)) for j, d in enumerate(items)}
           for i, q in enumerate(items)}  # fmt: skip
    qrels = {q: {items[i - 1 if i else 1]: 1} for i, q in enumerate(items)}
    found = evaluate_run(run, qrels, ["r@1", "r@2:any"])
    assert found.mean("r@1") == 0.0
    assert any("recall is off by one" in note for note in found.notes)
    assert evaluate_run(run, qrels, "r@1", ignore_identical=True).mean("r@1") > 0


def test_fewer_captions_than_expected_are_noted():
    qrels = {f"q{i}": {f"d{i}-{j}": 1 for j in range(5)} for i in range(20)}
    run = {q: dict.fromkeys(found, 1.0) for q, found in qrels.items()}
    assert not any("captions" in note for note in evaluate_run(run, qrels, "r@1").notes)
    del qrels["q4"]["d4-2"]
    for expected, words in ((None, "the number that most have"), (5, "the number that was")):
        notes = evaluate_run(run, qrels, "r@1", captions=expected).notes
        assert any(f"1 of 20 queries have fewer than 5 relevant items, {words}" in n
                   for n in notes)  # fmt: skip


def test_queries_of_a_group_are_resampled_together(drawn):
    run, qrels = dictionaries(*drawn)
    groups = {query: i // 5 for i, query in enumerate(qrels)}
    ours = evaluate_run(run, qrels, "map@all", groups=groups).evaluation
    theirs = evaluate(
        *drawn, "map@all", directions="forward", groups=(np.arange(40) // 5, None)
    )  # fmt: skip
    assert ours.interval("forward", "map@all") == theirs.interval("forward", "map@all")
    with pytest.raises(ValueError, match="groups: query 'q39' and 0 others have no group"):
        evaluate_run(run, qrels, groups=dict.fromkeys(list(qrels)[:-1], 0))


def test_all_forms_of_a_run_are_the_same():
    forms = [
        {"q": {"a": 3.0, "b": 2.0}},
        {"q": ["a", "b"]},
        {"q": [("a", 3.0), ("b", 2.0)]},
        {"q": [{"corpus_id": "a", "score": 3.0}, {"corpus_id": "b", "score": 2.0}]},
        (["q", "q"], ["a", "b"], [3.0, 2.0]),
        {"qid": ["q", "q"], "docno": ["a", "b"], "score": [3.0, 2.0]},
        [ir_measures.ScoredDoc("q", "a", 3.0), ir_measures.ScoredDoc("q", "b", 2.0)],
    ]
    for form in forms:
        assert evaluate_run(form, {"q": {"b"}}, "mrr", ci=None).mean("mrr") == 0.5
    assert Triples.of({1: {2: 1.0}}).query_ids == ["1"]


def test_a_matrix_of_pairs_needs_no_relevance():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((12, 60))
    scores[np.repeat(np.arange(12), 5), np.arange(60)] += 2
    ours = evaluate_matrix(scores, captions=5, metrics=["r@1", "mrr"], names=("image", "text"))
    owner = np.repeat(np.arange(12), 5)
    theirs = evaluate(
        scores, (np.arange(12), owner), ["r@1", "mrr"], names=("image", "text"),
        groups=(np.arange(12), owner),
    )  # fmt: skip
    for row, other in zip(ours.rows(), theirs.rows(), strict=True):
        assert {key: row[key] for key in other} == other
    with pytest.raises(ValueError, match="with 4 captions per row they must have 48 columns"):
        evaluate_matrix(scores, captions=4)
    constant = evaluate_matrix(np.zeros((4, 4)), metrics="mrr")
    assert any("same score for 4 of 4 queries" in note for note in constant.notes)


def naive(run, qrels, query):
    """Return AP, nDCG@5 with the grade as gain, 1/rank and R@5 of a query, by one loop."""
    grades = {item: grade for item, grade in qrels[query].items() if grade > 0}
    if not grades:
        return None
    order = sorted(run.get(query, {}).items(), key=lambda pair: -pair[1])
    hits, precisions, gained, first = 0, 0.0, 0.0, 0.0
    for rank, (item, _) in enumerate(order, 1):
        if item in grades:
            hits += 1
            precisions += hits / rank
            gained += grades[item] / np.log2(1 + rank) if rank <= 5 else 0.0
            first = first or 1 / rank
    best = sorted(grades.values(), reverse=True)[:5]
    ideal = sum(grade / np.log2(1 + rank) for rank, grade in enumerate(best, 1))
    return precisions / len(grades), gained / ideal, first, float(first >= 1 / 5)


@st.composite
def small_runs(draw):
    """Draw runs without ties with missing, unjudged and unknown queries, in any order."""
    items = [f"d{j}" for j in range(12)]
    queries = draw(st.permutations([f"q{i}" for i in range(6)]))
    run, qrels = {}, {}
    for query in queries:
        if draw(st.booleans()):
            ranked = draw(st.lists(st.sampled_from(items), unique=True))
            scores = draw(st.permutations(range(-3, len(ranked) - 3)))
            run[query] = {item: float(s) for item, s in zip(ranked, scores)}
        if draw(st.booleans()):
            judged = draw(st.lists(st.sampled_from(items), unique=True, min_size=1))
            qrels[query] = {item: draw(st.integers(-1, 3)) for item in judged}
    return run, qrels


@given(small_runs())
def test_small_runs_have_the_values_of_a_naive_loop_and_of_ir_measures(case):
    run, qrels = case
    wanted = {query: naive(run, qrels, query) for query in qrels}
    judged = [query for query, values in wanted.items() if values is not None]
    measures = ["map@all", "ndcg@5", "mrr", "r@5"]
    if not any(run.get(query) for query in judged):
        with pytest.raises(ValueError, match=r"no query|is empty|must have at least one"):
            evaluate_run(run, qrels, measures, ci=None)
        return
    for ties in ("expected", "worst", "best", "stable"):
        found = evaluate_run(run, qrels, measures, ci=None, gain="linear", ties=ties)
        (direction,) = found.evaluation.directions
        for j, measure in enumerate(measures):
            values = found.evaluation.per_query[direction, measure]
            ours = dict(zip(found.query_ids[direction], values.tolist()))
            assert {q for q, value in ours.items() if not np.isnan(value)} == set(judged)
            for query in judged:
                assert ours[query] == pytest.approx(wanted[query][j], rel=1e-12, abs=1e-12)
    asked = ir_measures.AP, ir_measures.nDCG @ 5, ir_measures.RR, ir_measures.Success @ 5
    relevant = {query: qrels[query] for query in judged}
    for measure, name in zip(asked, measures):
        theirs = ir_measures.calc_aggregate([measure], relevant, run)[measure]
        assert found.mean(name) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@given(small_runs(), st.booleans())
def test_files_have_the_values_of_their_dictionaries_to_the_last_digit(
    tmp_path_factory, case, same
):
    run, qrels = case
    if same:  # many ties
        run = {query: {i: float(s // 3) for i, s in own.items()} for query, own in run.items()}
    if not any(run.get(q) for q, own in qrels.items() if max(own.values()) > 0):
        return
    folder = tmp_path_factory.mktemp("files")
    write_run(folder / "a.run", run)
    write_qrels(folder / "a.qrels", qrels)
    one = evaluate_run(run, qrels)
    other = evaluate_run(read_run(folder / "a.run"), read_qrels(folder / "a.qrels"))
    assert one.rows() == other.rows() and one.at_most == other.at_most


@given(
    arrays(np.intp, st.just(40), elements=st.integers(0, 5)),
    arrays(np.float64, st.just(40), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0])),
    st.sampled_from([6, 2**16, 2**16 + 1]),
)
def test_the_order_of_a_run_is_that_of_lexsort(query, value, n):
    query = np.where(query == 5, n - 1, query)
    found = _by_query_and_value(query, value, n)
    np.testing.assert_array_equal(found, np.lexsort((-value, query)))


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 9).map(str))))
def test_identifiers_are_numbered_in_the_order_of_their_first_appearance(ids):
    numbers, names = codes_of(iter(ids))
    assert [names[i] for i in numbers] == [str(each) for each in ids]
    assert names == list(dict.fromkeys(str(each) for each in ids))
