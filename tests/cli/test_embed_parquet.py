"""crossfit embed --format parquet: the vectors of the arrays bit for bit, in tables."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import crossfit
from crossfit.cli.commands import cli
from crossfit.datasets import from_precomputed, read_pairs, read_vectors
from crossfit.galleries import read_gallery

pa = pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
parquet = pytest.importorskip("pyarrow.parquet")

WORDS = ["--image", "grid:2,size=16", "--text", "characters"]


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Thirty pictures with two captions each in a table, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        pixels = rng.integers(0, 60, (24, 24, 3)) + 6 * i
        Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{i:02}.png")
        part = "train" if i < 20 else "test"
        rows += [(f"photos/{i:02}.png", f"{'light ' * (i // 6)}{word} {i}", f"c{i % 2}", part)
                 for word in ("picture", "photo, \"new\"")]  # fmt: skip
    write(tmp_path / "pairs.csv", ["image", "caption", "label", "split"], rows)
    return tmp_path


def write(path, head, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def call(*words):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def same_data(one, other):
    a, b = from_precomputed(one), from_precomputed(other)
    assert list(a.splits) == list(b.splits) and a.target_names == b.target_names
    for name in a.splits:
        np.testing.assert_array_equal(a[name].y, b[name].y)
        np.testing.assert_array_equal(a[name].groups, b[name].groups)
        for view in a[name].views.names:
            assert a[name].views[view].dtype == b[name].views[view].dtype
            np.testing.assert_array_equal(a[name].views[view], b[name].views[view])
            np.testing.assert_array_equal(
                a[name].views.distinct(view)[1], b[name].views.distinct(view)[1]
            )


def test_the_tables_hold_the_vectors_of_the_arrays_bit_for_bit(pairs):
    call("embed", "pairs.csv", *WORDS, "--out", "a")
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", "parquet")
    assert sorted(os.listdir("p")) == [
        "extractors", "features.json", "image.parquet", "labels.npy", "pairs.csv", "text.parquet"
    ]  # fmt: skip
    same_data("a", "p")
    for view, n in (("image", 30), ("text", 60)):
        plain = np.load(f"a/{view}.npy")
        table = parquet.read_table(f"p/{view}.parquet")
        kind = table.schema.field("vector").type
        assert pa.types.is_fixed_size_list(kind) and kind.list_size == plain.shape[1]
        # The text has codes of characters.
        assert kind.value_type == (pa.float32() if view == "image" else pa.int64())
        assert table.num_rows == n
        found = read_vectors(f"p/{view}.parquet")
        assert found.dtype == plain.dtype
        np.testing.assert_array_equal(found, plain)
        with open(f"a/{view}.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert table["id"].to_pylist() == [row["id"] for row in rows]
        own = "path" if view == "image" else "text"
        assert table[own].to_pylist() == [row["item"] for row in rows]
    table = parquet.read_table("p/image.parquet")
    assert table["split"].to_pylist() == ["train"] * 20 + ["test"] * 10
    assert table["label"].to_pylist() == [f"c{i % 2}" for i in range(30)]
    groups = [split.groups[split.views.first_rows("image")] for split in
              from_precomputed("p").splits.values()]  # fmt: skip
    assert table["group"].to_pylist() == np.concatenate(groups).tolist()
    file = json.loads((pairs / "p/features.json").read_text())["views"]["image"]["files"][0]
    assert file["name"] == "image.parquet" and file["size"] == os.path.getsize("p/image.parquet")


def test_other_tools_read_them(pairs):
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", "parquet")
    plain = read_vectors("p/image.parquet")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet("p/image.parquet")
    np.testing.assert_array_equal(np.stack(frame["vector"]), plain)
    polars = pytest.importorskip("polars")
    column = polars.read_parquet("p/image.parquet")["vector"]
    assert column.dtype == polars.Array(polars.Float32, plain.shape[1])
    np.testing.assert_array_equal(column.to_numpy(), plain)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.Dataset.from_parquet("p/image.parquet", cache_dir=str(pairs / "hf"))
    np.testing.assert_array_equal(loaded.with_format("numpy")["vector"][:], plain)


def test_duckdb_reads_them(pairs):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", "parquet")
    rows = duckdb.sql("select vector from 'p/image.parquet'").fetchall()
    np.testing.assert_array_equal(
        np.array([row[0] for row in rows], np.float32), read_vectors("p/image.parquet")
    )


def test_several_processes_write_the_same(pairs):
    call("embed", "pairs.csv", *WORDS, "--out", "a", "--jobs", "2")
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--jobs", "2", "--format", "parquet")
    same_data("a", "p")


def test_dask_writes_the_same(pairs):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    call("embed", "pairs.csv", *WORDS, "--out", "a")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        host="127.0.0.1", protocol="tcp",
    ) as cluster:  # fmt: skip
        call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", "parquet", "--backend",
             "dask", "--scheduler", cluster.scheduler_address)  # fmt: skip
    same_data("a", "p")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_that_was_killed_continues(pairs, command, jobs):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(1200):
        pixels = rng.integers(0, 255, (96, 96, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(pairs / f"photos/{i}.png", compress_level=0)
        rows.append((f"photos/{i}.png", f"no {i}"))
    write(pairs / "many.csv", ["image", "caption"], rows)
    words = [*command, "embed", "many.csv", "--image", "grid:8,size=256", "--out", "f",
             "--format", "parquet", "--jobs", jobs]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
    cache = crossfit.cache.FeatureCache()
    deadline = time.monotonic() + 120
    while cache.info()["entries"] < 100 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = cache.info()["entries"]
    assert 0 < kept < 1200 and not (pairs / "f").exists()
    assert subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert not [name for name in os.listdir(pairs) if name.startswith(".f")]
    extractor = crossfit.load("f/extractors").transformers_["image"]
    np.testing.assert_array_equal(
        read_vectors("f/image.parquet"), extractor.transform([path for path, _ in rows])
    )
    texts = parquet.read_table("f/text.parquet")  # a view without an extractor has no vectors
    assert texts.column_names == ["id", "text", "split", "group"]
    assert read_pairs("f")["all"].views["text"].tolist() == [text for _, text in rows]


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_fit_evaluate_and_index_take_the_folder(pairs, form):
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", form)
    call("fit", "cca", "p", "--set", "n_components=3", "--save", "winner")
    call("evaluate", "winner", "p", "--out", "of-features")
    call("evaluate", "winner", "pairs.csv", "--out", "of-pairs")
    plain, found = (
        [line.replace("of-pairs", "") for line in open(f"{name}/leaderboard.csv")]  # noqa: SIM115
        for name in ("of-pairs", "of-features")
    )
    assert found == plain
    if form == "npy":
        return
    call("evaluate", "x=p/text.parquet,p/text.parquet", "--out", "of-vectors", "-m", "r@1")
    pytest.importorskip("faiss")
    call("index", "winner", "p", "--view", "image", "--out", "a.index")
    call("index", "winner", "photos", "--out", "b.index")
    call("index", "winner", "p/image.parquet", "--out", "c.index")
    a, b, c = (crossfit.retrieval.Index.open(f"{name}.index") for name in "abc")
    np.testing.assert_array_equal(a.vectors(b.ids), b.vectors(b.ids))
    np.testing.assert_array_equal(a.vectors(a.ids), c.vectors(a.ids))
    assert a.columns.keys() == {"path", "split", "group", "label"}
    found = json.loads(call("search", "winner", "light light", "--gallery", "a.index", "--json"))
    plain = json.loads(call("search", "winner", "light light", "--gallery", "photos", "--json"))
    assert [row["id"] for row in found] == [row["id"] for row in plain]
    assert read_gallery("p/image.parquet").columns["label"][:2] == ["c0", "c1"]


def test_features_of_other_extractors_are_one_sentence(pairs):
    call("embed", "pairs.csv", *WORDS, "--out", "p", "--format", "parquet")
    call("embed", "pairs.csv", "--image", "grid:4,size=16", "--text", "characters", "--out", "q")
    call("fit", "cca", "p", "--set", "n_components=3", "--save", "winner")
    for words in (["evaluate", "winner", "q", "--out", "new"],
                  ["index", "winner", "q", "--view", "image", "--out", "new"]):  # fmt: skip
        done = CliRunner().invoke(cli, words)
        assert "'image' in 'q' were made by other extractors" in str(done.exception).replace(
            str(pairs) + os.sep, ""
        )
        assert not (pairs / "new").exists()


def test_what_a_table_cannot_hold_is_one_sentence(pairs, monkeypatch):
    words = ["embed", "pairs.csv", "--image", "grid:2,output=regions", "--out", "f"]
    done = CliRunner().invoke(cli, [*words, "--format", "parquet"])
    assert "parquet has one vector per item" in str(done.exception)
    assert not (pairs / "f").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = CliRunner().invoke(cli, ["embed", "pairs.csv", *WORDS, "-o", "f", "--format", "parquet"])
    assert "the format parquet needs pyarrow" in str(done.exception)


def test_broken_files_are_left_out(pairs):
    (pairs / "photos/03.png").write_bytes(b"not a picture")
    words = ["embed", "pairs.csv", *WORDS, "--skip-broken"]
    call(*words, "--out", "a")
    call(*words, "--out", "p", "--format", "parquet")
    same_data("a", "p")
    table = parquet.read_table("p/image.parquet")
    assert "03.png" not in table["id"].to_pylist() and table.num_rows == 29
    assert table["label"].to_pylist() == [f"c{i % 2}" for i in range(30) if i != 3]
