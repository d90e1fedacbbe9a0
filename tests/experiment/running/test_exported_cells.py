"""A cell as TREC runs and judgements has the same figures, to the last digit."""

import json
from dataclasses import replace

import pytest

from crossfit.experiment import Experiment, run
from crossfit.report.exported import read_results, write_results
from crossfit.systems import evaluate_run, mteb_result, read_qrels, read_run, write_cell
from crossfit.systems.inputs import read_groups


@pytest.fixture
def record(tiny, tmp_path):
    return run(
        Experiment(
            title="Tiny",
            dataset="tiny-data",
            methods=[{"method": "tiny", "label": "a method"}],
            metrics=["map@all", "ndcg@10", "r@1", "mrr", "medr"],
        ),
        tmp_path / "store",
    )


def test_the_runs_of_a_cell_have_its_figures_to_the_last_digit(record, tmp_path):
    cell = record.done[0]
    folder = write_cell(record, cell, tmp_path / "out")
    groups = read_groups(folder / "groups.csv")
    assert {cell.relevant[metric] for metric in record.metrics} == {"label", "pair"}
    for direction in cell.directions:
        ranked = read_run(folder / f"{direction}.run")
        for metric, stored in cell.results[direction].items():
            judged = read_qrels(folder / f"{direction}.{cell.relevant[metric]}.qrels")
            found = evaluate_run(
                ranked, judged, metric, groups=groups, names=(direction.query, direction.gallery)
            )
            low, high = found.evaluation.interval(direction, metric)
            assert (found.mean(metric), low, high) == tuple(
                stored[name] for name in ("mean", "low", "high")
            )
            assert found.rows()[0]["chance"] == cell.chance[direction][metric]
            assert found.at_most == {}


MTEB_NAMES = {
    "map@all": "map@all", "ndcg@10": "ndcg_at_10", "r@1": "hit_rate_at_1", "mrr": "mrr",
    "medr": "medr",
}  # fmt: skip


@pytest.mark.parametrize("direction", [None, "text2image"])
def test_a_cell_is_a_result_of_mteb_with_the_same_values(record, tmp_path, direction):
    cell = record.done[0]
    file = mteb_result(cell, tmp_path / "Tiny.json", "TinyI2T", direction=direction)
    own = cell.results[direction or "image2text"]
    expected = {MTEB_NAMES[name]: stored["mean"] for name, stored in own.items()}
    content = json.loads(file.read_text())
    assert content["dataset_revision"] == "r1.0"
    (scores,) = content["scores"]["test"]
    about = {"main_score": own["map@all"]["mean"], "hf_subset": "default",
             "languages": ["eng-Latn"]}  # fmt: skip
    assert scores == expected | about
    # The same from the file that others receive.
    files = write_results([record.name], record.store, tmp_path / "results")
    ((other,),) = (run.done for run in read_results(files))
    again = mteb_result(other, tmp_path / "Other.json", "TinyI2T", direction=direction)
    assert again.read_text() == file.read_text()


def test_mteb_reads_the_result_of_a_cell(record, tmp_path):
    mteb = pytest.importorskip("mteb", reason="mteb is not installed")
    cell = record.done[0]
    file = mteb_result(cell, tmp_path / "Tiny.json", "TinyI2T", seconds=2.0)
    found = mteb.results.TaskResult.from_disk(file, load_historic_data=False)
    own = cell.results["image2text"]
    assert found.get_score() == own["map@all"]["mean"]
    for name, other in MTEB_NAMES.items():
        assert found.scores["test"][0][other] == own[name]["mean"]
    found.to_disk(tmp_path / "theirs.json")
    assert mteb.results.TaskResult.from_disk(tmp_path / "theirs.json").task_name == "TinyI2T"


def test_a_cell_that_is_not_a_result_of_mteb(record, tmp_path):
    cell = record.done[0]
    path = tmp_path / "new.json"
    with pytest.raises(ValueError, match="direction must be one of image2text, text2image, got"):
        mteb_result(cell, path, "T", direction="image2audio")
    with pytest.raises(ValueError, match="cell 'a method' has no result: not run yet"):
        mteb_result(replace(cell, results={}, status="pending"), path, "T")
    undefined = {"image2text": {"map@all": {"mean": None}, "r@1": {"mean": 0.5}}}
    with pytest.raises(ValueError, match="map@all of image2text is nan, and MTEB needs a main"):
        mteb_result(replace(cell, results=undefined), path, "T")
    assert not path.exists()
