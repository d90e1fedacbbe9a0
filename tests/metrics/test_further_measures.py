"""Ties, adjustment for chance, abstention and relevance from files, against their oracles."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfit.metrics import (
    Abstention,
    abstention,
    chance_level,
    evaluate,
    nauc,
    paired_test,
    parse_metric,
    r_precision,
    read_relevance,
    tie_range,
)

RNG = np.random.default_rng(0)
SCORES = RNG.integers(0, 6, (40, 30)).astype(np.float32)
LABELS = RNG.integers(0, 5, 40), RNG.integers(0, 5, 30)

# ------------------------------------------------------------------ ties


def test_tied_is_the_share_of_queries_whose_values_depend_on_ties() -> None:
    scores = [[2, 1, 1, 0], [2, 1, 1, 0], [3, 2, 1, 0], [1, 1, 0, 0]]
    relevance = [[0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    with pytest.warns(UserWarning, match="1 of 4 queries"):
        ev = evaluate(scores, relevance, ["tied", "map@all"], directions="forward", ci=None)
    np.testing.assert_array_equal(ev.per_query["forward", "tied"], [1, 0, 0, np.nan])
    for ties in ("worst", "best", "stable"):
        with pytest.warns(UserWarning, match="1 of 4 queries"):
            again = evaluate(scores, relevance, "tied", directions="forward", ties=ties, ci=None)
        assert again.mean("forward", "tied") == ev.mean("forward", "tied") == pytest.approx(1 / 3)
    assert chance_level(LABELS, "tied").mean(None, "tied") == 0


def test_a_range_of_ties_is_three_evaluations_of_one_pass() -> None:
    metrics = ["map@all", "ndcg@10", "r@1", "meanr", "map@R:adjusted"]
    read = []

    def blocks():
        for start in range(0, 40, 16):
            read.append(start)
            yield SCORES[start : start + 16]

    given = {"groups": (np.arange(40) // 2, np.arange(30) // 3), "names": ("image", "text")}
    found = tie_range(SCORES, LABELS, metrics, **given)
    for rule in ("worst", "expected", "best"):
        alone = evaluate(SCORES, LABELS, metrics, ties=rule, **given)
        for key, values in alone.per_query.items():
            np.testing.assert_array_equal(getattr(found, rule).per_query[key], values)
        assert getattr(found, rule).interval("i2t", "r@1") == alone.interval("i2t", "r@1")
    for row in found.rows():
        greater = parse_metric(row["metric"]).greater_is_better
        low, high = ("worst", "best") if greater else ("best", "worst")
        assert row[low] < row["expected"] < row[high]
        assert 0.5 < row["tied"] <= 1
    assert len(found.rows()) == len(found.to_frame()) == 2 * len(metrics)
    streamed = tie_range(blocks(), LABELS, "map@all", directions="forward", ci=None)
    assert read == [0, 16, 32]
    np.testing.assert_array_equal(
        streamed.worst.per_query["forward", "map@all"],
        found.worst.per_query["i2t", "map@all"],
    )
    assert "tied" in repr(found) and "<table>" in found._repr_html_()


# ------------------------------------------------------------------ adjusted for chance


@pytest.mark.parametrize("metric", ["map@all", "r@5", "p@R", "mrr", "meanr", "ndcg@10"])
def test_an_adjusted_measure_is_that_of_the_formula(metric: str) -> None:
    adjusted = f"{metric}:adjusted"
    ev = evaluate(SCORES, LABELS, [metric, adjusted], names=("image", "text"))
    chance = chance_level(LABELS, [metric, adjusted], names=("image", "text"))
    for direction in ("i2t", "t2i"):
        level = chance.mean(direction, metric)
        expected = (ev.mean(direction, metric) - level) / (1 - level)
        assert ev.mean(direction, adjusted) == pytest.approx(expected, abs=1e-12)
        assert chance.mean(direction, adjusted) == pytest.approx(0, abs=1e-12)
        bounds = [(x - level) / (1 - level) for x in ev.interval(direction, metric)]
        assert ev.interval(direction, adjusted) == pytest.approx(sorted(bounds))
    assert parse_metric(adjusted).greater_is_better
    assert parse_metric(adjusted).words == f"adjusted {parse_metric(metric).words}"


def test_the_p_value_of_an_adjusted_measure_is_that_of_the_measure() -> None:
    other = evaluate(SCORES + RNG.standard_normal(SCORES.shape), LABELS, ["mrr", "mrr:adjusted"])
    this = evaluate(SCORES, LABELS, ["mrr", "mrr:adjusted"])
    tests = [
        paired_test(this.per_query["forward", name], other.per_query["forward", name])
        for name in ("mrr", "mrr:adjusted")
    ]
    assert tests[0].p_value == tests[1].p_value < 1
    assert abs(tests[1].difference) > abs(tests[0].difference) > 0


@pytest.mark.parametrize("name", ["medr:adjusted", "tied:adjusted", "medr:vsepp:adjusted"])
def test_what_cannot_be_adjusted_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be adjusted for chance; adjust a measure"):
        parse_metric(name)


def test_a_figure_of_one_paper_is_not_adjusted() -> None:
    with pytest.raises(ValueError, match=r"r:twowaynet cannot be adjusted"):
        parse_metric("r@5:twowaynet:adjusted")


def test_nothing_is_adjusted_if_every_ranking_is_perfect() -> None:
    with pytest.raises(ValueError, match=r"r@3:adjusted: every ranking is perfect"):
        evaluate(np.ones((3, 3)), np.eye(3), "r@3:adjusted")


def test_r_precision_is_one_for_perfect_rankings_of_any_number_of_items() -> None:
    relevance = np.tril(np.ones((6, 6)))
    assert r_precision(relevance, relevance) == 1
    assert r_precision(-relevance, relevance, ties="best") < 1
    assert r_precision([[3, 2, 1, 0]], [[0, 1, 0, 1]]) == 0.5


# ------------------------------------------------------------------ abstention

VALUES = hnp.arrays(np.float64, st.integers(2, 40), elements=st.integers(0, 6).map(float))


@settings(max_examples=100, deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_area_is_that_of_mteb(values, random) -> None:
    theirs = pytest.importorskip("mteb._evaluators.retrieval_metrics").nauc
    confidence = np.array([random.randrange(8) for _ in values], np.float64)
    found, expected = nauc(confidence, values / 6), theirs(confidence, values / 6)
    if len(np.unique(values)) == 1:
        assert np.isnan(found)
        return
    assert found == pytest.approx(expected, abs=1e-9)
    assert found <= 1 + 1e-12
    # Queries in another order, and an increasing transform of the confidence.
    order = np.array(random.sample(range(len(values)), len(values)))
    assert nauc(confidence[order], values[order] / 6) == pytest.approx(found, abs=1e-9)
    assert nauc(np.exp(confidence) - 3, values / 6) == pytest.approx(found, abs=1e-9)
    # A scale and a shift of the values.
    assert nauc(confidence, 5 * values - 2) == pytest.approx(found, abs=1e-9)


def test_the_confidences_are_those_of_mteb() -> None:
    module = pytest.importorskip("mteb._evaluators.retrieval_metrics")
    scores = RNG.standard_normal((25, 18))
    relevance = RNG.random((25, 18)) < 0.2
    relevance[:, 0] = relevance[0] = True
    for top in (None, 7):
        found = abstention(scores, relevance, "mrr", top=top, ci=None)
        for direction, matrix in (("forward", scores), ("backward", scores.T)):
            kept = [sorted(row)[::-1][:top] for row in matrix.tolist()]
            theirs = [module.confidence_scores(row) for row in kept]
            for name in ("max", "std", "diff1"):
                ours = found.confidence[found.evaluation.per_query.key(direction, "mrr")[0], name]
                np.testing.assert_allclose(ours, [row[name] for row in theirs], rtol=1e-12)
                values = found.evaluation.per_query[direction, "mrr"]
                expected = module.nauc(ours, values)
                assert found.nauc(direction, name) == pytest.approx(expected, abs=1e-9)


def test_an_oracle_has_one_and_noise_has_about_zero() -> None:
    values = RNG.random(4000)
    assert nauc(values, values) == 1
    assert nauc(-values, values) < -0.5
    assert abs(nauc(RNG.random(4000), values)) < 0.1


def test_ranks_are_better_if_smaller_and_the_curve_is_of_ranks() -> None:
    n = 50
    certain = np.linspace(0, 1, n)
    scores = np.eye(n) * certain[:, None] * 3 + RNG.random((n, n)) * 0.5
    found = abstention(scores, np.eye(n), "meanr", directions="forward")
    assert found.nauc("forward", "max") > 0.5
    rates, means = found.curve("forward")
    assert means[0] == pytest.approx(found.evaluation.mean("forward", "meanr"))
    assert rates[-1] == pytest.approx(0.9) and means[-1] < means[0]


def test_intervals_resample_groups_and_repeat() -> None:
    pairs = np.arange(80)
    scores = np.eye(80) + RNG.standard_normal((80, 80)) * 0.4
    found = abstention(scores, (pairs, pairs), "mrr", groups=(pairs, pairs // 4))
    again = abstention(scores, (pairs, pairs), "mrr", groups=(pairs, pairs // 4))
    assert found.rows() == again.rows()
    for row in found.rows():
        assert row["low"] < row["nauc"] < row["high"]
    # A naive resample: groups are drawn, and the area of what was drawn is computed.
    key = found.evaluation.directions[1]
    values, certain = found.evaluation.per_query[key, "mrr"], found.confidence[key, "max"]
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        rows = (4 * rng.integers(0, 20, 20)[:, None] + np.arange(4)).ravel()
        drawn.append(nauc(certain[rows], values[rows]))
    expected = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(found.interval("backward"), expected, atol=0.06)
    alone = abstention(scores, (pairs, pairs), "mrr")
    assert alone.interval("backward") != found.interval("backward")


def test_blocks_do_not_matter(monkeypatch, tmp_path) -> None:
    from crossfit.metrics import ranking

    np.save(tmp_path / "scores.npy", SCORES)
    whole = abstention(SCORES, LABELS, ci=None)
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", 70)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    for form in (SCORES, mapped, SCORES.tolist()):
        for row, other in zip(abstention(form, LABELS, ci=None).rows(), whole.rows()):
            assert row["nauc"] == pytest.approx(other["nauc"], abs=1e-12)
    assert "max" in repr(whole) and "<table>" in whole._repr_html_()
    assert len(whole.to_frame()) == 6
    one = abstention(SCORES[:, :1], np.ones((40, 1)), directions="forward", ci=None)
    assert (one.confidence[one.evaluation.directions[0], "diff1"] == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: abstention(SCORES, LABELS, "medr"), "medr is a median.*use meanr"),
        (lambda: abstention(iter([SCORES]), LABELS), "read only once"),
        (lambda: abstention(np.full((2, 2), np.inf), np.eye(2)), "must be finite"),
        (lambda: abstention(SCORES, LABELS, top=0), "'top' parameter"),
        (lambda: abstention(SCORES, LABELS).nauc("forward", "mean"), "max, std, diff1"),
        (lambda: abstention(SCORES, LABELS, ci=None).interval("forward"), "ci=None"),
        (lambda: nauc([1, 2], [1]), "of the same queries"),
        (lambda: nauc([np.nan, 2], [1, np.nan]), "no query in common"),
        (lambda: nauc([np.inf, 2], [1, 0]), "confidence must be finite"),
        (lambda: Abstention(evaluate(SCORES, LABELS, ["mrr", "r@1"]), {}), "for one metric"),
        (lambda: Abstention(evaluate(SCORES, LABELS, "mrr"), {}), "confidence must be a dict"),
    ],
)
def test_bad_input_is_one_sentence(call, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------ relevance from files

IMAGES = [57870, "COCO_val2014_000000000042.jpg", "val2014/COCO_val2014_000000000007.jpg"]
CAPTIONS = [7, 8, 9, 10]


def test_eccv_caption(tmp_path) -> None:
    there, back = tmp_path / "eccv_image_to_caption.json", tmp_path / "eccv_caption_to_image.json"
    there.write_text(json.dumps({"57870": [7, 9, 999], "42": [10], "123": [7]}))
    back.write_text(json.dumps({"7": [57870, 42]}))
    relevance = read_relevance(there, IMAGES, CAPTIONS)
    assert relevance.toarray().tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    turned = read_relevance(back, CAPTIONS, IMAGES)
    assert turned.toarray().tolist() == [[1, 1, 0]] + [[0, 0, 0]] * 3
    scores = [[3, 2, 1, 0], [0, 1, 2, 3], [0, 0, 0, 0]]
    with pytest.warns(UserWarning, match="1 of 3 queries"):
        ev = evaluate(scores, relevance, ["map@R", "p@R"], directions="forward", ci=None)
    assert ev.per_query["forward", "map@R"].tolist()[:2] == [0.5, 1.0]


def test_cxc(tmp_path) -> None:
    file = tmp_path / "sits_test.csv"
    file.write_text(
        "caption,image,agg_score,sampling_method\n"
        "COCO_val2014:sentid:7,COCO_val2014_000000057870.jpg,4.97,c2i_intrasim\n"
        "COCO_val2014:sentid:8,COCO_val2014_000000000042.jpg,3.0,c2i_intrasim\n"
        "COCO_val2014:sentid:9,COCO_val2014_000000000042.jpg,2.99,c2i_intrasim\n"
        "COCO_val2014:sentid:10,COCO_val2014_000000000007.jpg,5.0,c2i_original\n"
    )
    expected = [[4.97, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 5]]
    assert read_relevance(file, IMAGES, CAPTIONS).toarray().tolist() == expected
    more = read_relevance(file, IMAGES, CAPTIONS, at_least=0)
    assert more.toarray()[1].tolist() == [0, 3, 2.99, 0]
    names = [f"COCO_val2014:sentid:{caption}" for caption in CAPTIONS]
    assert read_relevance(file, IMAGES, names, layout="cxc").toarray().tolist() == expected


def test_triples_and_matrices(tmp_path) -> None:
    grades = sp.csr_array(RNG.integers(0, 3, (5, 6)))
    rows, columns = [f"q{i}" for i in range(5)], np.arange(6)
    at = grades.tocoo()
    plain, arrays, matrix = (tmp_path / name for name in ("a.csv", "a.npz", "m.npz"))
    lines = [f"{columns[j]},q{i},{g}" for i, j, g in zip(*at.coords, at.data)]
    plain.write_text("item,query,grade\n" + "\n".join([*lines, ""]))
    np.savez(arrays, query=np.array(rows)[at.coords[0]], item=columns[at.coords[1]], grade=at.data)
    sp.save_npz(matrix, grades)
    order = RNG.permutation(5)
    for file in (plain, arrays):
        found = read_relevance(file, [rows[i] for i in order], columns)
        np.testing.assert_array_equal(found.toarray(), grades.toarray()[order])
    found = read_relevance(matrix, rows, columns, at_least=2)
    np.testing.assert_array_equal(found.toarray(), np.where(grades.toarray() >= 2, 2, 0))
    plain.write_text('query,item\nq0,"0"\nq0,0\n')
    assert read_relevance(plain, rows, columns).toarray().sum() == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1]", "must map the id of each query"),
        ("a.json", '{"1": {"2": 3}}', "must map the id of each query"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", '{"1": [77]}', r"no pair is of query_ids and gallery_ids; .*\('1', '77'\)"),
        ("a.csv", "", "no column 'query'; its columns are none"),
        ("a.csv", "query,items\n1,2\n", "no column 'item'; its columns are query, items"),
        ("a.csv", "query,item,grade\n1,2,x\n", "grade 'x' is not a number"),
        ("a.csv", "query,item,grade\n1,2,-1\n", "not a number of at least 0"),
        ("a.csv", "query,item,grade\n1,2,nan\n", "not a number of at least 0"),
        ("a.csv", "query,item,grade\n1,2\n", "line 2: 2 values for 3 columns"),
        ("a.npz", "no archive", "not a .npz file of plain arrays"),
        ("a.txt", "", "layout is unknown"),
    ],
)
def test_a_file_of_another_layout_is_named(tmp_path, name, content, message) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_relevance(tmp_path / name, [1], [2])
    assert name in str(error.value) and "\n" not in str(error.value)


def test_ids_and_arrays_are_checked(tmp_path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, query=np.array([{}], object), item=[1])
    with pytest.raises(ValueError, match="plain arrays"):
        read_relevance(file, [1], [2])
    np.savez(file, query=[1], items=[1])
    with pytest.raises(ValueError, match="no array 'item'"):
        read_relevance(file, [1], [2])
    np.savez(file, query=[1, 2], item=[1])
    with pytest.raises(ValueError, match="1-D and of the same length"):
        read_relevance(file, [1], [2])
    sp.save_npz(file, sp.csr_array(np.eye(3)))
    with pytest.raises(ValueError, match="1 query_ids and 2 gallery_ids"):
        read_relevance(file, [1], [2, 3])
    with pytest.raises(ValueError, match="entries 0 and 1 are both"):
        read_relevance(file, ["a", "a", "b"], [2, 3, 4])
    with pytest.raises(TypeError, match="strings or integers"):
        read_relevance(file, [1.5, 2, 3], [2, 3, 4])
    with pytest.raises(ValueError, match="query_ids is empty"):
        read_relevance(file, [], [2, 3, 4])
