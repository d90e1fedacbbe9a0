"""From a table of pairs to a report, with views whose names contain the digit 2."""

import csv
from itertools import permutations

import numpy as np
import pytest
from click.testing import CliRunner

from crossfit.cli.commands import cli

SPEC = """\
title: Any names
dataset: emoji
metrics: [r@1, medr]
features: {{{features}}}
methods: [{{method: cca, params: {{n_components: 3, reg: 1.0}}}}]
"""
WORDS = "[{name: sklearn.feature_extraction.text.TfidfVectorizer}, " \
        "{name: sklearn.decomposition.TruncatedSVD, params: {n_components: 4}}]"  # fmt: skip


@pytest.mark.parametrize(
    "views",
    [("view1", "view2"), ("wav2vec", "l2"), ("图", "view1"), ("view1", "wav2vec", "图"),
     ("l2", "clip2", "2")],
    ids=" ".join,
)  # fmt: skip
def test_from_a_table_to_a_report(views, tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"w{i % 5} w{i // 5 % 8} {name}{rng.integers(3)}" for name in views]
            for i in range(80)]  # fmt: skip
    with (tmp_path / "pairs.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([views, *rows])
    features = ", ".join(f"'{name}': {WORDS}" for name in views)
    (tmp_path / "names.yaml").write_text(SPEC.format(features=features), encoding="utf-8")
    where = ["--store", str(tmp_path / "store")]

    def crossfit(*arguments):
        done = CliRunner().invoke(cli, [*arguments, *where])
        assert done.exit_code == 0, done.output
        return done.output

    said = crossfit("run", str(tmp_path / "names.yaml"), "--data", str(tmp_path / "pairs.csv"))
    crossfit("report", "names-pairs", "-o", str(tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    markdown = (tmp_path / "report" / "leaderboard.md").read_text("utf-8")
    with (tmp_path / "report" / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        figures = list(csv.DictReader(stream))
    for query, gallery in permutations(views, 2):
        for text in (said, page, markdown):
            assert f"{query} → {gallery}" in text
        assert f"{query} → {gallery}: worst failures" in page
        assert f"{query}2{gallery}" in {row["direction"] for row in figures}
