"""Optuna's dashboard can open a study of crossfit."""

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from crossfit.cards import Float
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch

pytestmark = pytest.mark.slow


def test_the_dashboard_serves_a_study(pairs, tmp_path):
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed")
    views, y = pairs
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    search = OptunaSearch(
        CCA(), {"reg": Float(1e-3, 10.0, log=True)}, n_trials=3, storage=storage, study_name="mine"
    ).fit(views, y)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", storage,
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:

        def get(path):
            deadline = time.time() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as got:
                        return json.load(got)
                except OSError:
                    if time.time() > deadline or server.poll() is not None:
                        raise
                    time.sleep(0.2)

        (summary,) = get("/api/studies")["study_summaries"]
        assert summary["study_name"] == "mine"
        found = get(f"/api/studies/{summary['study_id']}?after=0")
        values = [trial["values"][0] for trial in found["trials"]]
        assert values == [trial.value for trial in search.trials_]
        assert {trial["state"] for trial in found["trials"]} == {"Complete"}
    finally:
        server.terminate()
        server.communicate(timeout=20)
