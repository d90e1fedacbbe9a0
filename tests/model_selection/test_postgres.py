"""A study in a real PostgreSQL server, which the test starts on loopback and stops again."""

import contextlib
import glob
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from crossfit.cards import Float, Int
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch, storages

pytestmark = pytest.mark.slow


def _binary(name):
    installed = [shutil.which(name), *sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))[::-1]]
    return next(filter(None, installed), None)


@pytest.fixture(scope="module")
def server():
    """Return the URL of a database on a separate server."""
    if not any(map(importlib.util.find_spec, ("psycopg", "psycopg2"))):
        pytest.skip("no driver for PostgreSQL is installed (the extra postgres brings one)")
    initdb, pg_ctl = _binary("initdb"), _binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL server is installed: initdb or pg_ctl is missing")
    # Neither program runs as root; the folder is not pytest's, which only its owner may enter.
    other = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossfit-pg-")))
        if other:
            with contextlib.suppress(LookupError):
                shutil.chown(folder, **other)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def call(*command):
            return subprocess.run(
                command, cwd=folder, check=True, timeout=120, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, extra_groups=[] if other else None,
                env={**os.environ, "HOME": str(folder), "LC_ALL": "C"}, **other,
            )  # fmt: skip

        data, log = str(folder / "data"), str(folder / "log")
        try:
            call(initdb, "-D", data, "-U", "tuner", "-A", "trust", "-E", "UTF8", "--no-sync")
            options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
            call(pg_ctl, "-D", data, "-l", log, "-w", "-o", options, "start")
        except (PermissionError, LookupError) as error:
            pytest.skip(f"PostgreSQL cannot be started as another user: {error}")
        stack.callback(call, pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
        yield f"postgresql://tuner@127.0.0.1:{port}/postgres"


def trials_of(server, name):
    with storages.open_storage(server, False) as storage:
        return optuna.load_study(study_name=name, storage=storage).get_trials()


def test_prunes_goes_on_and_keeps_what_failed(server, pairs, recording):
    views, y = pairs
    settings = {
        "storage": server, "pruner": "median", "random_state": 0, "refit": False,
        "study_name": "pruned",
    }  # fmt: skip
    space = {"n_components": Int(1, 5), "reg": Float(1e-4, 10.0, log=True)}
    first = OptunaSearch(recording(), space, n_trials=4, **settings).fit(views, y)
    assert len(first.trials_) == 4
    more = OptunaSearch(recording(), space, n_trials=14, **settings).fit(views, y)
    states = [trial.state for trial in trials_of(server, "pruned")]
    assert len(states) == 14 and TrialState.PRUNED in states
    assert len(recording.fitted) < 14 * 3
    with pytest.raises(ValueError, match="another method or other fixed settings"):
        OptunaSearch(recording(power=4.0), space, n_trials=14, **settings).fit(views, y)
    assert more.best_score_ == max(t.value for t in more.trials_ if t.value is not None)


def test_prunes_by_epoch(server, pairs, tiny):
    search = OptunaSearch(
        tiny(random_state=0, max_epochs=4), n_trials=12, pruner="median", cv=2, storage=server,
        random_state=0, refit=False,
    ).fit(pairs[0])  # fmt: skip
    pruned = [t for t in search.trials_ if t.state is TrialState.PRUNED]
    assert pruned and all(len(trial.intermediate_values) <= 4 for trial in pruned)


def test_two_processes_of_one_search(server, pairs):
    views, _ = pairs
    search = OptunaSearch(
        CCA(), {"reg": Float(1e-3, 1e3, log=True)}, n_trials=10, n_jobs=2, storage=server,
        study_name="jobs", random_state=0,
    ).fit(views)  # fmt: skip
    assert len(search.trials_) == 10
    assert len({trial.params["reg"] for trial in search.trials_}) == 10


PROGRAM = textwrap.dedent(
    """
    import os, sys, time
    import numpy as np
    from crossfit import Views
    from crossfit.cards import Float
    from crossfit.methods import CCA
    from crossfit.model_selection import OptunaSearch, storages

    storages.HEARTBEAT, storages.GRACE = 1, 6
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 3))
    views = Views(image=Z @ rng.normal(size=(3, 6)), text=Z @ rng.normal(size=(3, 5)))

    class Slow(CCA):
        def _fit(self, views, y):
            time.sleep(0.1)
            with open(sys.argv[2], "a") as stream:
                stream.write(f"{os.getpid()}\\n")
            super()._fit(views, y)

    sys.stdin.readline()  # so that both begin at once, when the database is empty
    search = OptunaSearch(
        Slow(), {"reg": Float(1e-3, 1e3, log=True)}, n_trials=12, cv=2, storage=sys.argv[1],
        study_name="programs", refit=False,
    ).fit(views)
    print(len(search.trials_), search.best_score_, flush=True)
    """
)


def test_two_programs_and_one_of_them_killed(server, tmp_path):
    # A new database, in which both programs make the tables at the same moment.
    engine_url = server.rpartition("/")[0]
    import sqlalchemy

    driver = "psycopg" if importlib.util.find_spec("psycopg") else "psycopg2"
    engine = sqlalchemy.create_engine(
        server.replace("postgresql", f"postgresql+{driver}"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE shared"))
    engine.dispose()
    url = f"{engine_url}/shared"
    log = tmp_path / "fits.txt"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, str(log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in programs:
        process.stdin.write("\n")
        process.stdin.flush()
    deadline = time.time() + 120
    while time.time() < deadline:
        pids = set(log.read_text().split()) if log.exists() else set()
        if len(pids) == 2 or any(process.poll() is not None for process in programs):
            break
        time.sleep(0.05)
    killed, left = programs
    assert killed.poll() is None and left.poll() is None, [p.stderr.read() for p in programs
                                                           if p.poll() is not None]  # fmt: skip
    assert pids == {str(process.pid) for process in programs}
    killed.kill()
    killed.communicate()
    out, err = left.communicate(timeout=120)
    assert out.split()[0] == "12", err
    states = [trial.state for trial in trials_of(url, "programs")]
    assert states.count(TrialState.COMPLETE) == 12
    assert TrialState.RUNNING not in states and len(states) <= 13


def test_a_server_that_is_not_there_is_one_clear_sentence(pairs):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    search = OptunaSearch(CCA(), n_trials=1, storage=f"postgresql://tuner@127.0.0.1:{port}/x")
    if not any(map(importlib.util.find_spec, ("psycopg", "psycopg2"))):
        pytest.skip("no driver for PostgreSQL is installed (the extra postgres brings one)")
    with pytest.raises(
        ConnectionError, match=r"the storage postgresql.* cannot be opened: .*refused"
    ):
        search.fit(pairs[0])


def test_a_missing_driver_says_what_to_install(pairs, monkeypatch):
    monkeypatch.setattr(storages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"pip install 'crossfit-retrieval\[postgres\]'"):
        OptunaSearch(CCA(), n_trials=1, storage="postgresql://tuner@127.0.0.1/x").fit(pairs[0])
