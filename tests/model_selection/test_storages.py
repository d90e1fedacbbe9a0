"""Storages of studies: invalid ones, and locked, full or damaged ones."""

import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import threading

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from crossfit import make_retrieval_scorer
from crossfit.cards import Float
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch, storages

REG = {"reg": Float(1e-4, 10.0, log=True)}


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "study.db"
    return path, f"sqlite:///{path}"


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(storages, "PATIENCE", 0.1)
    monkeypatch.setattr(storages, "BUSY", 0.3)


@pytest.fixture
def soon_dead(monkeypatch):
    """Mark an interrupted trial as failed after two seconds."""
    monkeypatch.setattr(storages, "HEARTBEAT", 1)
    monkeypatch.setattr(storages, "GRACE", 2)


def locked(path):
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    return lock


def test_a_locked_database_is_told_before_any_work(pairs, recording, database, hurried):
    path, url = database
    optuna.create_study(storage=url)
    lock = locked(path)
    search = OptunaSearch(recording(), REG, n_trials=2, storage=url)
    with (
        pytest.warns(UserWarning, match=r"study\.db is locked by another process: waiting up to"),
        pytest.raises(ConnectionError, match="is still locked by another process after 0 seconds"),
    ):
        search.fit(pairs[0])
    assert not recording.fitted
    lock.close()
    assert len(search.fit(pairs[0]).trials_) == 2


def test_who_waits_for_a_lock_goes_on_when_it_is_gone(pairs, database, monkeypatch):
    path, url = database
    optuna.create_study(storage=url)
    monkeypatch.setattr(storages, "PATIENCE", 0.1)
    lock = locked(path)
    with pytest.warns(UserWarning, match="is locked by another process: waiting up to 30 seconds"):
        release = threading.Timer(1.0, lock.close)
        release.start()
        search = OptunaSearch(CCA(), REG, n_trials=2, storage=url).fit(pairs[0])
    release.join()
    assert len(search.trials_) == 2


class Locks:
    """A scorer that locks the database of its study from some trial on."""

    def __init__(self, path, trial):
        self.path, self.left, self.lock = str(path), 2 * trial, None

    def __getstate__(self):  # the attribute that marks a study
        return {"path": self.path}

    def __call__(self, estimator, views, y=None):
        self.left -= 1
        if self.left == 0:
            self.lock = locked(self.path)
        return make_retrieval_scorer("mrr")(estimator, views)


def test_a_lock_in_the_middle_keeps_what_is_done(pairs, database, hurried, soon_dead, capfd):
    path, url = database
    scorer = Locks(path, 3)
    given = {"cv": 2, "storage": url, "n_trials": 5, "scoring": scorer, "refit": False}
    search = OptunaSearch(CCA(), REG, **given)
    with pytest.raises(ConnectionError) as caught:
        search.fit(pairs[0])
    assert str(caught.value) == (
        "the storage of the study failed: another process has locked the database for more than "
        "0 seconds; finished trials (2) are kept, and the same search resumes with them"
    )
    assert "Traceback" not in capfd.readouterr().err
    scorer.lock.close()
    again = OptunaSearch(CCA(), REG, **given).fit(pairs[0])
    assert len(again.trials_) == 5
    assert len([t for t in again.study_.trials if t.user_attrs.get("fold_scores")]) >= 5


def test_a_full_disk_keeps_what_is_done(pairs, database, soon_dead):
    _, url = database
    full = []

    def no_more_pages(connection):
        if full:
            connection.exec_driver_sql("PRAGMA max_page_count=1")

    given = {"cv": 2, "refit": False, "storage": url, "scoring": Fills(full)}
    event.listen(Engine, "begin", no_more_pages)
    try:
        search = OptunaSearch(CCA(), REG, n_trials=500, **given)
        with pytest.raises(ConnectionError, match="failed: database or disk is full"):
            search.fit(pairs[0])
    finally:
        event.remove(Engine, "begin", no_more_pages)
    assert 1 <= len(search.trials_) < 500
    assert search.best_params_ == search.study_.best_params
    n = len(search.trials_) + 2
    again = OptunaSearch(CCA(), REG, n_trials=n, **given).fit(pairs[0])
    assert len(again.trials_) == n
    values = [trial.value for trial in search.trials_]
    assert [trial.value for trial in again.trials_[: len(values)]] == values


class Fills:
    """A scorer that fills the disk."""

    def __init__(self, full):
        self.full = full

    def __getstate__(self):
        return {}

    def __call__(self, estimator, views, y=None):
        self.full.append(1)
        return make_retrieval_scorer("mrr")(estimator, views)


def run_out_of_room(path, views, queue):
    """Search with a journal of limited size, in a separate process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    try:
        OptunaSearch(CCA(), REG, n_trials=100, storage=f"journal:///{path}", refit=False).fit(views)
    except Exception as error:
        queue.put((type(error).__name__, str(error)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_journal_on_a_full_disk_is_mended_by_the_next_search(pairs, tmp_path, method):
    if method == "spawn" and __name__ not in sys.modules:
        pytest.skip("the module of this test cannot be imported by its name")
    path = tmp_path / "study.log"
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=run_out_of_room, args=(path, pairs[0], queue))
    process.start()
    kind, words = queue.get(timeout=120)
    process.join()
    assert kind == "ConnectionError"
    sentence = (
        "the storage of the study failed: File too large; finished trials ({}) are kept, and the "
        "same search resumes with them"
    )
    text = path.read_bytes()
    assert len(text) == 5000
    n = int(words.partition("(")[2].partition(")")[0])
    assert words == sentence.format(n)
    search = OptunaSearch(
        CCA(), REG, n_trials=n + 3, storage=f"journal:///{path}", refit=False
    ).fit(pairs[0])  # fmt: skip
    # A journal has no heartbeat: the interrupted trial may be included in n_trials.
    assert len(search.trials_) in (n + 2, n + 3)
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_journal_that_a_killed_program_has_locked_is_told(pairs, tmp_path, hurried, monkeypatch):
    path = tmp_path / "study.log"
    given = {"n_trials": 1, "storage": f"journal:///{path}", "refit": False}
    OptunaSearch(CCA(), REG, **given).fit(pairs[0])
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(path))
    lock.acquire()
    release = threading.Timer(1.0, lock.release)
    release.start()
    with pytest.warns(UserWarning, match=r"study\.log is locked by another process: waiting up to"):
        assert len(OptunaSearch(CCA(), REG, **given).fit(pairs[0]).trials_) == 1
    release.join()


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"not a journal\n", ValueError, "is not an Optuna journal, or is damaged"),
        (b"not a journal", ValueError, "is not an Optuna journal, or is damaged"),
        (b"\x80\x81\n", ValueError, "is not an Optuna journal, or is damaged"),
        (b'{"some": "json"}\n', ValueError, "is not an Optuna journal, or is damaged"),
        (b"[1]\n", ValueError, "is not an Optuna journal, or is damaged"),
        (b'{"op_code":99,"worker_id":"x"}\n', ValueError, "is not an Optuna journal"),
    ],
)
def test_a_file_that_is_not_a_journal_is_told_and_left_alone(
    pairs, recording, tmp_path, content, error, says
):
    path = tmp_path / "study.log"
    path.write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        OptunaSearch(recording(), REG, n_trials=1, storage=f"journal:///{path}").fit(pairs[0])
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content and not recording.fitted


def test_a_file_that_is_not_a_database_is_told_and_left_alone(pairs, recording, database):
    path, url = database
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConnectionError, match="cannot be opened: file is not a database"):
        OptunaSearch(recording(), REG, n_trials=1, storage=url).fit(pairs[0])
    assert path.read_bytes() == b"not a database at all" * 100 and not recording.fitted


def test_tables_of_another_version_of_optuna_are_told(pairs, recording, database):
    path, url = database
    optuna.create_study(storage=url)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(ValueError, match="cannot be opened: The runtime optuna version") as caught:
        OptunaSearch(recording(), REG, n_trials=1, storage=url).fit(pairs[0])
    assert "\n" not in str(caught.value) and not recording.fitted


def test_addresses_are_checked_without_opening_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for good in (None, "sqlite:///a.db", "journal:///a.log", f"sqlite:///{tmp_path}/b.db",
                 "sqlite+pysqlite:///c.db", optuna.storages.InMemoryStorage()):  # fmt: skip
        storages.check_storage(good)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ImportError, match=r"the driver for the storage mysql://\.\.\."):
        storages.check_storage("mysql://u@h/n")
    os.mkfifo(tmp_path / "fifo")
    for scheme in ("sqlite", "journal"):
        with pytest.raises(ValueError, match="names 'fifo', which is not a regular file"):
            storages.check_storage(f"{scheme}:///fifo")
        with pytest.raises(ValueError, match="has a null byte in its name"):
            storages.check_storage(f"{scheme}:///a\0b")
    with pytest.raises(ValueError, match="got 'postgresql://me@h:x/n'"):
        storages.check_storage("postgresql://me:secret@h:x/n")


class InterruptedCursor(sqlite3.Cursor):
    """A cursor that is interrupted while it reads certain tables, from a moment on."""

    now, of = False, ""
    statement = ""

    def execute(self, statement, *arguments):
        self.statement = statement
        return super().execute(statement, *arguments)

    def fetchall(self):
        if self.now and self.of in self.statement:
            raise KeyboardInterrupt
        return super().fetchall()


class InterruptedConnection(sqlite3.Connection):
    def cursor(self, factory=InterruptedCursor):
        return super().cursor(factory)


def interrupting(estimator, X, y=None):
    InterruptedCursor.now = True
    return 1.0


# The state of one trial, read while a value is stored; all trials, read between two trials.
@pytest.mark.parametrize("of", ["WHERE trials.trial_id =", "WHERE trials.study_id ="])
def test_an_interrupt_in_the_database_is_not_shown_as_a_fault(
    pairs, recording, database, monkeypatch, caplog, of
):
    monkeypatch.setattr(InterruptedCursor, "now", False)
    monkeypatch.setattr(InterruptedCursor, "of", of)
    storage = optuna.storages.RDBStorage(
        database[1], engine_kwargs={"connect_args": {"factory": InterruptedConnection}}
    )
    search = OptunaSearch(recording(), REG, n_trials=3, storage=storage, scoring=interrupting)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*pairs)
    assert InterruptedCursor.now and not caplog.records
