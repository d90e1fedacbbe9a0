"""Files of other systems: every form, exact round trips, and bad files."""

import gzip
import json
import pickle

import numpy as np
import pytest

from crossfit.metrics import evaluate
from crossfit.systems import evaluate_run, read_qrels, read_run, write_qrels, write_run
from crossfit.systems.files import read_ids, read_matrix
from crossfit.systems.inputs import Protocol, evaluate_systems, open_system

RUN = {"q1": {"a": 3.5, "b": 1.5}, "q2": {"b": -1.0, "c": -1.0}}
QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}


def triples(found):
    names = found.query_ids, found.item_ids
    return [
        (names[0][q], names[1][i], v)
        for q, i, v in zip(found.query, found.item, found.value.tolist(), strict=True)
    ]


def listed(nested):
    return [(q, i, float(v)) for q, found in nested.items() for i, v in found.items()]


def rows(nested, columns):
    return [dict(zip(columns, row, strict=True)) for row in listed(nested)]


def test_trec_files_are_read_again_exactly(tmp_path):
    rng = np.random.default_rng(0)
    run = {f"q{i}": {f"d{j}": float(v) for j, v in enumerate(np.float32(row))}
           for i, row in enumerate(rng.standard_normal((5, 9)) * 1e-3)}  # fmt: skip
    write_run(tmp_path / "a.run", run, "mine")
    found = read_run(tmp_path / "a.run")
    assert sorted(triples(found)) == sorted(listed(run))
    first = (tmp_path / "a.run").read_text().splitlines()[0].split()
    assert first[0] == "q0" and first[3] == "1" and first[5] == "mine"
    write_qrels(tmp_path / "a.qrels", QRELS)
    assert (tmp_path / "a.qrels").read_text() == "q1 0 a 1\nq1 0 b 0\nq2 0 c 2\n"
    assert triples(read_qrels(tmp_path / "a.qrels")) == listed(QRELS)


def test_ties_of_a_file_are_ties_in_whatever_order_they_are(tmp_path):
    values = []
    for order in (["a", "b"], ["b", "a"]):
        lines = [f"q Q0 {item} {rank} 1.0 x" for rank, item in enumerate(order, 1)]
        (tmp_path / "x.run").write_text("\n".join(lines))
        found = evaluate_run(read_run(tmp_path / "x.run"), {"q": {"a": 1}}, "mrr", ci=None)
        values.append(found.mean("mrr"))
    assert values == [0.75, 0.75]


def test_all_forms_of_files_have_the_same_content(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    write_run(tmp_path / "r.run", RUN)
    (tmp_path / "r.run.gz").write_bytes(gzip.compress((tmp_path / "r.run").read_bytes()))
    (tmp_path / "r.json").write_text(json.dumps(RUN))
    of_mteb = {"mteb_model_meta": {"model_name": "m"}, "default": {"test": RUN}}
    (tmp_path / "mteb.json").write_text(json.dumps(of_mteb))
    lines = [
        {"query_id": q, "query": "text", "results": [{"corpus_id": i, "score": v}
                                                     for i, v in found.items()]}
        for q, found in RUN.items()
    ]  # fmt: skip
    (tmp_path / "st.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = rows(RUN, ("qid", "docno", "score"))
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "r.parquet")
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, table)))
    for sep, name in ((",", "r.csv"), ("\t", "r.tsv")):
        text = [sep.join(("query_id", "doc_id", "score"))]
        text += [sep.join((q, i, repr(v))) for q, i, v in listed(RUN)]
        (tmp_path / name).write_text("\n".join(text))
    for file in sorted(tmp_path.iterdir()):
        assert sorted(triples(read_run(file))) == sorted(listed(RUN)), file.name


def test_judgements_are_read_from_all_forms(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(QRELS))
    text = "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tc\t2\n"  # as in BEIR
    (tmp_path / "q.tsv").write_text(text)
    (tmp_path / "q.txt").write_text("q1 0 a 1\nq1 0 b 0\nq2 0 c 2\n")
    for file in sorted(tmp_path.iterdir()):
        assert triples(read_qrels(file)) == listed(QRELS), file.name
    (tmp_path / "list.json").write_text('{"q1": ["a", "b"]}')
    assert triples(read_qrels(tmp_path / "list.json")) == [("q1", "a", 1.0), ("q1", "b", 1.0)]
    (tmp_path / "g.csv").write_text("query,item,group\nq1,a,one\nq2,c,one\n")
    assert read_qrels(tmp_path / "g.csv").groups == {"q1": "one", "q2": "one"}


BAD = {
    "five.run": ("q Q0 a 1 0.5\n", r"five.run, line 1: 5 values, but a line must be “query Q0"),
    "word.run": ("q Q0 a 1 0.5 x\nq Q0 b 2 high x\n", "word.run, line 2: 'high' is not a number"),
    "blank.run": ("\nq Q0 a 1 2 x\n\nq Q0 b 2 x x\n", "blank.run, line 4: 'x' is not a number"),
    "short.run": ("\nq Q0 a 1 2 x\n\nq Q0 b 2\n", "short.run, line 4: 4 values, but a line must"),
    "empty.run": ("\n", "empty.run is empty"),
    "nan.run": ("q Q0 a 1 nan x\n", "nan.run: the value of item 'a' of query 'q' is NaN"),
    "twice.run": ("q Q0 a 1 2 x\nq Q0 a 2 1 x\n", "twice.run: item 'a' of query 'q' occurs twice"),
    "bad.json": ("{", "bad.json is not valid JSON"),
    "number.json": ("3", "number.json must map queries to their items"),
    "two.json": (json.dumps({"mteb_model_meta": {}, "a": {"test": {}, "dev": {}}}),
                 "two.json has predictions for a, test; a, dev; keep one"),
    "bad.jsonl": ('{"query_id": "q", "results": []}\n{', "bad.jsonl, line 2: not valid JSON"),
    "names.csv": ("a,b\n1,2\n", r"names.csv has no column of queries; name one of its columns"),
    "high.csv": ("qid,docno,score\nq,a,high\n", "column 'score', row 1: 'high' is not a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_rejected_with_their_line(tmp_path, name):
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path / name)


def test_other_files_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_run(tmp_path / "none.run")
    with pytest.raises(ValueError, match="is a folder"):
        read_run(tmp_path)
    (tmp_path / "image.run").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        read_run(tmp_path / "image.run")
    with pytest.raises(ValueError, match="cannot be written to a TREC file"):
        write_run(tmp_path / "a.run", {"a query": {"d": 1.0}})


class Evil:
    """An object whose unpickling leaves a trace."""

    def __reduce__(self):
        return pickle.loads, (b"never",)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.run", "x.json"])
def test_nothing_is_unpickled(tmp_path, name):
    path = tmp_path / name
    given = np.array([[Evil()]], dtype=object)
    with path.open("wb") as stream:
        if name.endswith("npz"):
            np.savez(stream, scores=given, query_ids=given)
        elif name.endswith("npy"):
            np.save(stream, given)
        else:
            pickle.dump(Evil(), stream)
    with pytest.raises(ValueError):
        system = open_system(str(path))
        evaluate_systems([system], Protocol(metrics=["mrr"]))


def test_matrices_embeddings_and_raw_numbers(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4, 8)).astype(np.float32)
    ids = [f"q{i}" for i in range(4)], [f"d{j}" for j in range(8)]
    np.save(tmp_path / "s.npy", scores)
    np.savez(tmp_path / "s.npz", scores=scores, query_ids=ids[0], item_ids=ids[1])
    scores.tofile(tmp_path / "s.memmap")
    (tmp_path / "q.txt").write_text("\n".join(ids[0]))
    np.save(tmp_path / "d.npy", np.array(ids[1]))
    assert isinstance(read_matrix([tmp_path / "s.npy"]).scores, np.memmap)
    named = read_matrix([tmp_path / "s.npz"])
    assert (named.query_ids, named.item_ids) == ids
    given = {"query_ids": read_ids(tmp_path / "q.txt"), "item_ids": read_ids(tmp_path / "d.npy")}
    raw = read_matrix([tmp_path / "s.memmap"], **given)
    np.testing.assert_array_equal(raw.scores, scores)
    with pytest.raises(ValueError, match=r"s.memmap has raw numbers; give the identifiers"):
        read_matrix([tmp_path / "s.memmap"])
    p, q = rng.standard_normal((4, 3)), rng.standard_normal((8, 3))
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "t.npy", q)
    both = read_matrix([tmp_path / "p.npy", tmp_path / "t.npy"], similarity="dot").scores
    np.testing.assert_allclose(both, p @ q.T)
    np.save(tmp_path / "t.npy", q[:, :2])
    with pytest.raises(ValueError, match="embeddings must have one dimension, got 3 in"):
        read_matrix([tmp_path / "p.npy", tmp_path / "t.npy"])


def test_a_matrix_and_a_run_of_the_same_scores_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((6, 9)).astype(np.float32)
    ids = [f"q{i}" for i in range(6)], [f"d{j}" for j in range(9)]
    np.savez(tmp_path / "m.npz", scores=scores, query_ids=ids[0], item_ids=ids[1])
    run = {q: dict(zip(ids[1], map(float, row), strict=True))
           for q, row in zip(ids[0], scores, strict=True)}  # fmt: skip
    write_run(tmp_path / "r.run", run)
    qrels = {q: {f"d{i}": 1, f"d{i + 3}": 1} for i, q in enumerate(ids[0])}
    write_qrels(tmp_path / "j.qrels", qrels)
    systems = [open_system(str(tmp_path / name)) for name in ("m.npz", "r.run")]
    by = Protocol(metrics=["map@all", "r@5"], qrels=read_qrels(tmp_path / "j.qrels"))
    one, other = evaluate_systems(systems, by).values()
    grades = np.zeros((6, 9))
    for i in range(6):
        grades[i, [i, i + 3]] = 1
    theirs = evaluate(scores, grades, ["map@all", "r@5"], directions="forward")
    assert one.rows() == other.rows()
    assert one.mean("map@all") == theirs.mean("forward", "map@all")


def test_folders_need_a_run_per_direction(tmp_path):
    with pytest.raises(ValueError, match=r"has no file that ends with \.run"):
        open_system(str(tmp_path))
    (tmp_path / "best.run").write_text("q Q0 a 1 1.0 x\n")
    with pytest.raises(ValueError, match=r"best\.run in .* is not named by a direction"):
        open_system(str(tmp_path))
    (tmp_path / "best.run").rename(tmp_path / "image2text.run")
    with pytest.raises(ValueError, match="has no file with judgements of image2text"):
        evaluate_systems([open_system(f"x={tmp_path}")], Protocol(metrics=["mrr"]))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_system("x=missing.run")
    with pytest.raises(ValueError, match="label 'x' is that of several systems"):
        evaluate_systems([open_system(f"x={tmp_path}")] * 2, Protocol(metrics=["mrr"]))
