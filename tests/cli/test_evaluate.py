"""`crossfit evaluate` from files to the page, its tables and its warnings."""

import csv
import json

import numpy as np
import pytest

from crossfit.metrics import compare, evaluate


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the scores of three systems, of which one is coarse."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((20, 100)).astype(np.float32)
    scores[np.repeat(np.arange(20), 5), np.arange(100)] += 1.5
    np.save(tmp_path / "good.npy", scores)
    np.save(tmp_path / "worse.npy", scores + rng.standard_normal(scores.shape).astype(np.float32))
    np.save(tmp_path / "coarse.npy", np.round(scores))
    return tmp_path


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_systems_are_compared_on_a_page(run, folder):
    done = run(
        "evaluate", "good.npy", "2nd=worse.npy", "coarse.npy", "--captions", "5", "--names",
        "image", "text", "-m", "r@1", "-m", "mrr", "--write-runs", "-o", "out", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "coarse: In" in done.stderr and "R@1 is between" in done.stderr
    owner = np.repeat(np.arange(20), 5)
    names = {"good": "good", "2nd": "worse", "coarse": "coarse"}
    found = {
        label: evaluate(
            np.load(folder / f"{name}.npy"), (np.arange(20), owner), ["r@1", "mrr"],
            names=("image", "text"), groups=(np.arange(20), owner),
        )
        for label, name in names.items()
    }  # fmt: skip
    rows = {(r["method"], r["direction"], r["metric"]): r for r in
            table(folder / "out" / "leaderboard.csv")}  # fmt: skip
    for label, each in found.items():
        for direction in ("image2text", "text2image"):
            row = rows[label, direction, "r@1"]
            assert float(row["value"]) == pytest.approx(each.mean(direction, "r@1"), rel=1e-5)
            low, high = each.interval(direction, "r@1")
            assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), rel=1e-5)
    tests = {(t.first, t.second): t.p_adjusted for t in compare(found, "r@1", None)}
    assert float(rows["2nd", "mean", "r@1"]["p_adjusted"]) == pytest.approx(
        tests["good", "2nd"], rel=1e-4
    )
    assert float(rows["coarse", "image2text", "r@1"]["tied"]) > 0.5
    assert float(rows["chance", "image2text", "r@1"]["value"]) == pytest.approx(0.01 * 5)
    page = (folder / "out" / "report.html").read_text()
    assert "Holm" in page and "Range of ties" in page and "coarse: In" in page
    assert "crossfit evaluate good.npy" in (folder / "out" / "leaderboard.md").read_text()
    assert r"\toprule" in (folder / "out" / "leaderboard.tex").read_text()
    again = run(
        "evaluate", "out/runs/good.run", "--qrels", "out/runs/judgements.qrels", "-m", "r@1",
        "-o", "again", cwd=folder,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    value = next(r for r in table(folder / "again" / "leaderboard.csv") if r["metric"] == "r@1")
    assert value["value"] == rows["good", "image2text", "r@1"]["value"]


def test_values_of_every_query_are_written(run, folder):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    done = run("evaluate", "good.npy", "--captions", "5", "-m", "mrr", "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    values = pq.read_table(folder / "out" / "per-query.parquet").to_pylist()
    assert len(values) == 120
    owner = np.repeat(np.arange(20), 5)
    theirs = evaluate(np.load(folder / "good.npy"), (np.arange(20), owner), "mrr")
    own = [row["value"] for row in values if row["direction"] == "query2item"]
    np.testing.assert_array_equal(own, theirs.per_query["forward", "mrr"])


def test_reported_recall_that_counts_from_rank_0_is_found(run, folder):
    scores = np.load(folder / "good.npy")
    owner = np.repeat(np.arange(20), 5)
    ev = evaluate(scores, (np.arange(20), owner), ["r@1", "r@2"], directions="forward")
    qrels = {str(i): [str(j) for j in range(5 * i, 5 * i + 5)] for i in range(20)}
    (folder / "qrels.json").write_text(json.dumps(qrels))
    for value, wrong in ((ev.mean("forward", "r@2"), True), (ev.mean("forward", "r@1"), False)):
        done = run(
            "evaluate", "good.npy", "--qrels", "qrels.json", "-m", "mrr", "--reported",
            f"r@1={100 * value:.1f}", "-o", "out", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("recall is off by one" in done.stderr) == wrong
        assert "Published and obtained" in (folder / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.npy"], 1, "there is no file 'none.npy'"),
        (["good.npy"], 1, "with 1 captions per row they must have 20 columns"),
        (["good.npy", "--captions", "5", "-m", "recall"], 1, "unknown metric 'recall'"),
        (["good.npy", "--captions", "5", "--baseline", "x"], 2, "--baseline x: use one of good"),
        (["good.npy", "good.npy", "--captions", "5"], 1, "label 'good' is that of several"),
        (["a.run"], 1, "a has ranked lists, which need judgements; give --qrels FILE"),
        (["good.npy", "--captions", "5", "--reported", "r@1=high"], 2, "--reported r@1=high"),
    ],
)
def test_wrong_usage_is_one_sentence(run, folder, words, code, message):
    (folder / "a.run").write_text("q Q0 a 1 1.0 x\n")
    done = run("evaluate", *words, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert not (folder / "crossfit-evaluation").exists()


def test_the_help_has_an_example_for_every_form(run):
    text = run("evaluate", "--help").stdout
    for words in ("bm25.run", "scores.npy", "scores.npz", "scores.memmap", "images.npy,texts.npy",
                  "run.json", "predictions.jsonl", "run.parquet", "image2text.run"):  # fmt: skip
        assert words in text
