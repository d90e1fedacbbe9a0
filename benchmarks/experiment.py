"""Time the overhead of the experiment runner, and a second run of a finished experiment.

Run ``python benchmarks/experiment.py``. The work is loading, features, searches, fits, scores and
their evaluation; the rest of the wall time is planning, claims, hashes and writing. Second runs
are timed as on the command line, in new processes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crossfit.datasets import load
from crossfit.experiment import Experiment, plan, run

SPEC = """\
title: Overhead
dataset: emoji
features:
  image: {name: grid}
  text:
    - {name: sklearn.feature_extraction.text.TfidfVectorizer, params: {sublinear_tf: true}}
    - {name: sklearn.decomposition.TruncatedSVD, params: {n_components: 200}}
seeds: [0, 1, 2]
metrics: [map@all, r@1, r@5, r@10, medr]
tuning: {trials: 4, folds: 3}
methods:
  - {method: cca, params: {n_components: 64, reg: 1.0}}
  - {method: pls, params: {n_components: 64}, tune: {standardize: {choice: [true, false]}}}
  - {method: kcca, params: {n_components: 32}}
  - {method: sm, params: {measure: posterior_over_prior}}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        spec, store = Path(folder) / "overhead.yaml", Path(folder) / "runs"
        spec.write_text(SPEC)
        experiment = Experiment.from_file(spec)
        plan(experiment, store)  # imports what the run needs
        start = time.perf_counter()
        load("emoji")
        work = time.perf_counter() - start
        start = time.perf_counter()
        record = run(experiment, store)
        wall = time.perf_counter() - start
        phases = ("data", "features", "fit", "score", "evaluate")
        work += sum(cell.timing[phase] for cell in record.cells for phase in phases)
        # The cells of all seeds share a search.
        searches = {cell.label: cell.tuning.get("seconds", 0.0) for cell in record.cells}
        work += sum(searches.values())
        left = wall - work
        print(f"{len(record.cells)} cells in {wall:.2f} s, of which {work:.2f} s are work")
        each = 1000 * left / len(record.cells)
        print(f"bookkeeping: {100 * left / wall:.1f} %, {each:.0f} ms per cell")
        command = [sys.executable, "-c", "from crossfit.cli import main; main()", "run", str(spec)]
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(
                [*command, "--store", str(store)], check=True, capture_output=True, timeout=60
            )
            times.append(time.perf_counter() - start)
        print(f"finished experiment, run again: {min(times):.2f} s (best of {len(times)})")


if __name__ == "__main__":
    main()
