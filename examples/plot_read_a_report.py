"""
Run an experiment and read its report
=====================================

An experiment is a product: data × features × methods × seeds. Its results are kept in a store. The
report is one HTML page, with the leaderboard as Markdown, LaTeX and CSV next to it. This experiment
is small enough to run in seconds.
"""

import csv
import html
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from crossfit.experiment import Experiment, run
from crossfit.report import report_runs

folder = Path(tempfile.mkdtemp())
experiment = Experiment.from_dict(
    {
        "title": "Emoji and their keywords, plain features",
        "name": "emoji-small",
        "dataset": "emoji",
        "features": {
            "image": {"name": "grid"},
            "text": [
                {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
                {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 100}},
            ],
        },
        "metrics": ["map@all", "r@10"],
        "methods": [
            {
                "method": "cca",
                "label": "CCA",
                "params": {"n_components": 32, "reg": 10, "power": 1},
            },
            {"method": "cca", "label": "CCA, small ridge", "params": {"n_components": 32}},
            {"method": "pls", "label": "PLS", "params": {"n_components": 32}},
            {"method": "sm", "label": "semantic matching"},
        ],
    }
)
record = run(experiment, folder / "runs")
page = report_runs([record.name], folder / "runs", folder / "report")

# %%
# This is the page as a browser shows it: the leaderboard first, then curves, the results of some
# queries, and everything that is needed to repeat the run.


class Page:
    """Show a page inside this one."""

    def _repr_html_(self):
        source = html.escape(page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{source}" width="100%" height="640" loading="lazy"></iframe>'


Page()

# %%
# The CSV file has the same figures, for plots of your own. Overlapping intervals do not show that
# two methods are equal; ``p_adjusted`` is the result of the paired test.

with open(page.parent / "leaderboard.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["direction"] == "mean"]
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True, layout="constrained")
for ax, metric in zip(axes, experiment.metrics):
    for row in reversed([row for row in rows if row["metric"] == metric]):
        value, low, high = (float(row[key]) for key in ("value", "low", "high"))
        ax.errorbar(value, row["method"], xerr=[[value - low], [high - value]], fmt="o", capsize=4)
    ax.set(xlabel=f"{metric}, mean of both directions", xlim=0)
    ax.margins(y=0.2)
plt.show()
