"""A cell as TREC runs and judgements has the same figures, to the last digit."""

import pytest

from crossfit.experiment import Experiment, run
from crossfit.systems import evaluate_run, read_qrels, read_run, write_cell
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
