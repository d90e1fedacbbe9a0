"""Checkpoints: a killed fit resumes to equal weights, and no unsafe or incomplete file is read."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from crossfit.neural import Checkpoint, checkpoint, warm_up

EPOCHS = 12


class _KilledError(Exception):
    pass


class _Dies(Callback):
    """Raise in the middle of an epoch."""

    def __init__(self, epoch, batch=1):
        self.epoch, self.batch = epoch, batch

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        row = net.history[-1]
        if training and row["epoch"] == self.epoch and len(row["batches"]) == self.batch + 1:
            raise _KilledError


def _method(towers, callbacks, **params):
    settings = {
        "max_epochs": EPOCHS,
        "optimizer": "RMSprop",
        "optimizer__momentum": 0.5,
        "validation_fraction": 0.3,
        "random_state": 5,
        "module__dropout": 0.5,
        "callbacks": callbacks,
    }
    return towers(**settings | params)


def _schedules():
    return [
        ("warm-up", warm_up(11)),
        LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.5),
        ("plateau", LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0)),
        EarlyStopping(patience=6, load_best=True),
    ]


def _figures(method):
    names = ("epoch", "train_loss", "valid_loss", "train_forward")
    return [[row[name] for name in names] for row in method.net_.history]


@pytest.mark.parametrize("seed", range(4))
def test_a_fit_killed_at_random_epochs_ends_with_the_same_weights(
    towers, planted, weights, tmp_path, seed
):
    views, _ = planted(60)
    through = _method(towers, _schedules()).fit(views)
    rng = np.random.default_rng(seed)
    path = tmp_path / "run" / "fit.pt"
    for epoch in np.sort(rng.choice(np.arange(2, len(through.net_.history)), 2, replace=False)):
        dies = _Dies(int(epoch), int(rng.integers(2)))
        with pytest.raises(_KilledError):
            _method(towers, [*_schedules(), Checkpoint(path), dies]).fit(views)
        assert len(torch.load(path, weights_only=True)["callbacks"]) >= 5
    resumed = _method(towers, [Checkpoint(path), *_schedules()]).fit(views)
    assert torch.equal(weights(resumed), weights(through))
    assert _figures(resumed) == _figures(through)
    rates = [[g["lr"] for g in m.net_.optimizer_.param_groups] for m in (resumed, through)]
    assert rates[0] == rates[1] != [1e-3]
    assert os.listdir(path.parent) == ["fit.pt"]
    # The fit is complete: another fit reads the result and does not train.
    again = _method(towers, [Checkpoint(path), *_schedules(), _Dies(1)]).fit(views)
    assert torch.equal(weights(again), weights(through))


def test_a_process_killed_outright_goes_on(tmp_path):
    """The process is killed at some moment, perhaps while it writes the file."""
    script = tmp_path / "fit.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np, torch
            from crossfit.neural import Checkpoint, MLPBranch, NeuralEstimator, cca_loss
            class Net(torch.nn.Module):
                def __init__(self, n):
                    super().__init__()
                    self.branches = torch.nn.ModuleDict(
                        {k: MLPBranch([d, 64, 4], dropout=0.2) for k, d in n.items()})
                def encode(self, items, view):
                    return self.branches[view](items.values)
            class Deep(NeuralEstimator):
                def _build_module(self, n_inputs, n_classes):
                    return Net(n_inputs)
                def _loss(self, outputs, batch):
                    return cca_loss(*outputs.values())
            rng = np.random.default_rng(0)
            X, Y = rng.normal(size=(200, 8)), rng.normal(size=(200, 6))
            def fit(*callbacks):
                method = Deep(max_epochs=50, batch_size=50, random_state=0, device="cpu",
                              callbacks=list(callbacks)).fit(X, Y)
                state = method.net_.module_.state_dict()
                return torch.cat([w.flatten() for w in state.values()])
            input()  # so that two processes can import at the same time
            resumed = fit(Checkpoint("fit.pt"))
            print("equal" if torch.equal(resumed, fit()) else "different")
            """
        )
    )
    killed, resumed = (
        subprocess.Popen(
            [sys.executable, script],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    path = tmp_path / "fit.pt"
    killed.stdin.write("\n")
    killed.stdin.flush()
    while not path.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    epochs = len(json.loads(torch.load(path, weights_only=True)["history"]))
    assert 1 <= epochs < 50
    assert resumed.communicate("\n")[0] == "equal\n"


def test_more_epochs_go_on_from_where_it_ended(towers, planted, weights, tmp_path):
    views, _ = planted(60)
    callbacks = [Checkpoint(tmp_path / "fit.pt", every=5)]
    short = _method(towers, callbacks, max_epochs=7).fit(views)
    held = torch.load(tmp_path / "fit.pt", weights_only=True)
    assert len(json.loads(held["history"])) == 7
    resumed = clone(short).set_params(max_epochs=EPOCHS).fit(views)
    through = _method(towers, None).fit(views)
    assert torch.equal(weights(resumed), weights(through))
    assert not torch.equal(weights(short), weights(through))


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_a_fit_without_a_fixed_seed_goes_on_with_the_rows_it_held_out(
    towers, planted, weights, tmp_path, monkeypatch, random_state
):
    split = towers._split
    seen = []

    def recording(self, views, seed):
        seen.append((seed, split(self, views, seed)[1].tolist()))
        return split(self, views, seed)

    monkeypatch.setattr(towers, "_split", recording)
    views, _ = planted(60)
    callbacks = [Checkpoint(tmp_path / "fit.pt")]
    with pytest.raises(_KilledError):
        _method(towers, [*callbacks, _Dies(4)], random_state=random_state).fit(views)
    resumed = _method(towers, callbacks, random_state=random_state).fit(views)
    assert seen[0] == seen[1]
    through = _method(towers, None, random_state=np.random.RandomState(0))
    monkeypatch.setattr(towers, "_seed", lambda self: seen[0][0])
    assert torch.equal(weights(resumed), weights(through.fit(views)))


def test_a_fit_that_was_stopped_goes_on_with_more_patience_alone(
    towers, planted, weights, tmp_path, caplog
):
    caplog.set_level(logging.INFO, logger="crossfit")
    views, _ = planted(60)

    def fit(*callbacks):
        # The monitored figure never falls.
        stop = [EarlyStopping("train_loss", each, lower_is_better=False) for each in callbacks[:1]]
        return _method(towers, [*stop, *callbacks[1:]]).fit(views)

    checkpoint = Checkpoint(tmp_path / "fit.pt")
    epochs = len(fit(1, checkpoint).net_.history)
    assert epochs < 6
    assert len(fit(1, checkpoint, Callback()).net_.history) == epochs
    assert f"Towers had been stopped by a callback after epoch {epochs}" in caplog.text
    longer = fit(5, checkpoint)
    assert f"Towers resumes from epoch {epochs}" in caplog.text
    assert epochs < len(longer.net_.history) < EPOCHS
    assert torch.equal(weights(longer), weights(fit(5)))
    without = _method(towers, [checkpoint]).fit(views)
    assert torch.equal(weights(without), weights(_method(towers, None).fit(views)))


def test_nan_leaves_the_last_good_checkpoint(towers, planted, weights, tmp_path):
    class Breaks(towers):
        broken = True

        def _loss(self, outputs, batch):
            loss = sum(super()._loss(outputs, batch).values())
            return loss * float("nan") if self.broken and batch.progress > 0.5 else loss

    views, _ = planted(60)
    path = tmp_path / "fit.pt"
    with pytest.raises(FloatingPointError, match="epoch 8"):
        _method(Breaks, [Checkpoint(path)]).fit(views)
    Breaks.broken = False
    resumed = _method(Breaks, [Checkpoint(path)]).fit(views)
    assert torch.equal(weights(resumed), weights(_method(Breaks, None).fit(views)))


def test_the_file_of_another_fit_is_refused(towers, planted, tmp_path):
    views, y = planted(60)
    callbacks = [Checkpoint(tmp_path / "fit.pt")]
    _method(towers, callbacks, max_epochs=2).fit(views)
    with pytest.raises(ValueError, match=r"fit\.pt' belongs to a fit with other parameters"):
        _method(towers, callbacks, lr=0.5).fit(views)
    with pytest.raises(ValueError, match="on other data"):
        _method(towers, callbacks).fit(views[:50])
    with pytest.raises(ValueError, match="on other data"):
        _method(towers, callbacks).fit(views, y)

    class Other(towers):
        pass

    with pytest.raises(ValueError, match="another method"):
        _method(Other, callbacks).fit(views)


class _Evil:
    def __reduce__(self):
        return os.system, ("echo executed > executed",)


def test_damaged_and_malicious_files_are_refused_and_nothing_runs(
    towers, planted, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    views, _ = planted(60)
    path = tmp_path / "fit.pt"
    method = _method(towers, [Checkpoint(path)], max_epochs=2)
    method.fit(views)
    whole = path.read_bytes()
    held = torch.load(path, weights_only=True)
    for damage in ("truncated", "empty", "evil", "format", "other"):
        if damage == "evil":
            torch.save({**held, "module": _Evil()}, path)
        elif damage == "format":
            torch.save({**held, "format": 99}, path)
        elif damage == "other":
            torch.save([1, 2], path)
        else:
            path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
        with pytest.raises(ValueError, match=r"cannot read the checkpoint .*fit\.pt"):
            clone(method).fit(views)
    assert not (tmp_path / "executed").exists()


def test_a_failed_writing_leaves_the_old_file_and_no_other(towers, planted, tmp_path, monkeypatch):
    views, _ = planted(60)
    path = tmp_path / "fit.pt"
    method = _method(towers, [Checkpoint(path)], max_epochs=2).fit(views)
    before = path.read_bytes()

    def full(held, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        clone(method).set_params(max_epochs=3).fit(views)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["fit.pt"]


def test_a_callback_that_cannot_be_kept_is_refused_before_any_work(towers, planted, tmp_path):
    class Holds(Callback):
        def on_train_begin(self, net, **kwargs):
            self.file_ = object()

    class Says(Holds):
        def state_dict(self):
            return {"seen": 3}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    views, _ = planted(60)
    path = tmp_path / "fit.pt"
    with pytest.raises(TypeError, match=r"cannot keep the callback's Holds\.file_, a object"):
        _method(towers, [Checkpoint(path), Holds()]).fit(views)
    assert not path.exists()
    method = _method(towers, [Checkpoint(path), Says()], max_epochs=2).fit(views)
    again = clone(method).fit(views)
    assert dict(again.net_.callbacks_)["Says"].seen == 3


def test_wrong_settings_are_named(towers, planted, tmp_path):
    views, _ = planted(60)
    with pytest.raises(ValueError, match="every"):
        _method(towers, [Checkpoint(tmp_path / "x", every=0)]).fit(views)
    with pytest.raises(ValueError, match="one Checkpoint"):
        _method(towers, [Checkpoint(tmp_path / "x"), Checkpoint(tmp_path / "y")]).fit(views)


# ---- damage --------------------------------------------------------------------------------------


@pytest.fixture
def done(towers, planted, tmp_path):
    """Return a fit with a checkpoint, its views and the file."""
    views, _ = planted(40)
    path = tmp_path / "fit.pt"
    return _method(towers, [*_schedules(), Checkpoint(path)], max_epochs=2).fit(views), views, path


def _refused(method, views, path, says=""):
    """Continue from a damaged file; the error must be one sentence with its name."""
    with pytest.raises(ValueError, match=r"the checkpoint '.*fit\.pt': .*" + says) as raised:
        clone(method).set_params(max_epochs=3).fit(views)
    assert type(raised.value) is ValueError
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


def test_any_byte_changed_and_any_cut_is_one_sentence(done):
    method, views, path = done
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    same = []
    for at in rng.choice(len(whole), 40, replace=False):
        raw = bytearray(whole)
        raw[at] ^= 1 << rng.integers(8)
        path.write_bytes(raw)
        try:
            _refused(method, views, path)
        except pytest.fail.Exception:  # padding between the entries of the archive
            same.append(at)
    assert len(same) < 30
    for cut in (0, 1, 10, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:cut])
        _refused(method, views, path)


def _places(tree):
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(part, (dict, list)):
            yield from _places(part)


def test_entries_of_another_kind_are_one_sentence(done):
    method, views, path = done
    whole = path.read_bytes()
    n_places = len(list(_places(torch.load(path, weights_only=True))))
    rng = np.random.default_rng(1)
    puts = [None, 3, "x", [], {}, torch.zeros(2), torch.zeros(3, 3, dtype=torch.float64), "drop"]
    for at in rng.choice(n_places, 40, replace=False):
        path.write_bytes(whole)
        held = torch.load(path, weights_only=True)
        tree, key = list(_places(held))[at]
        put = puts[rng.integers(len(puts))]
        if put == "drop":
            del tree[key]
        else:
            tree[key] = put
        torch.save(held, path)
        _refused(method, views, path)


def _sealed(path, edit):
    held = torch.load(path, weights_only=True)
    edit(held)
    held["sha256"] = checkpoint._sha256({k: v for k, v in held.items() if k != "sha256"})
    torch.save(held, path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda held: held.update(module={}),
        lambda held: held["module"].update({next(iter(held["module"])): torch.zeros(3, 3)}),
        lambda held: held["optimizer"]["param_groups"].pop(),
        lambda held: held["optimizer"]["param_groups"][0].pop("lr"),
        lambda held: held["optimizer"].update(state=3),
        lambda held: held["random"].update(order=torch.zeros(3)),
        lambda held: held["random"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
        lambda held: held.update(history="[1]"),
        lambda held: held.update(history="{"),
        lambda held: held.update(features="[]"),
        lambda held: held["arrays"].update(x_=3),
        lambda held: held.update(seed=2**80),
        lambda held: held.update(seed="1"),
        lambda held: held.pop("stopped"),
        lambda held: held["callbacks"].update(EarlyStopping=[1]),
        lambda held: held.update(callback_settings=[1]),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_method_is_one_sentence(done, edit):
    method, views, path = done
    _sealed(path, edit)
    with pytest.raises(ValueError, match=r"the checkpoint '.*fit\.pt'"):
        clone(method).set_params(max_epochs=3).fit(views)


@pytest.mark.parametrize(
    "where, name",
    [
        ("EarlyStopping", "on_epoch_end"),
        ("EarlyStopping", "patience"),
        ("EarlyStopping", "__class__"),
        ("EarlyStopping", "notify"),
        ("EarlyStopping", ""),
        ("LRScheduler", "policy"),
        ("LRScheduler", "lr_scheduler_.step"),
        ("LRScheduler", "lr_scheduler_.optimizer"),
        ("plateau", "lr_scheduler_.get_last_lr"),
        ("EarlyStopping", "best_model_weights_.state_dict"),
        ("features", "transform"),
        ("features", "net_"),
        ("arrays", "fit"),
        ("arrays", "net_.module_.x"),
    ],
)
def test_no_name_in_a_checkpoint_takes_the_place_of_code(done, where, name):
    method, views, path = done

    def edit(held):
        if where == "features":
            held["features"] = json.dumps({name: 1})
        elif where == "arrays":
            held["arrays"][name] = torch.zeros(1)
        elif name.endswith(".state_dict"):
            held["callbacks"][where][name.split(".")[0]] = {"state_dict": {}}
        elif "." in name:
            key, _, part = name.partition(".")
            held["callbacks"][where][key]["state_dict"][part] = 1
        else:
            held["callbacks"][where][name] = 1

    _sealed(path, edit)
    _refused(method, views, path, "(is not|has no state)")


def test_schedules_within_schedules_are_looked_into():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    kinds = torch.optim.lr_scheduler
    inner = [kinds.LambdaLR(optimizer, _Decay(0.5)), kinds.ConstantLR(optimizer)]
    outer = kinds.SequentialLR(optimizer, inner, milestones=[3])
    own = outer.state_dict()
    checkpoint._check_names(json.loads(json.dumps(own, default=list)), own, "SequentialLR")
    for change in (
        lambda state: state["_schedulers"][1].update(step=1),
        lambda state: state["_schedulers"][0]["lr_lambdas"][0].update(__call__=1),
    ):
        state = outer.state_dict()
        change(state)
        with pytest.raises(ValueError, match="is not a part of the state of SequentialLR"):
            checkpoint._check_names(state, inner and own, "SequentialLR")


class _Decay:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, epoch):
        return self.rate**epoch


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "link to nothing"])
def test_what_is_no_regular_file_is_refused(towers, planted, tmp_path, kind):
    views, _ = planted(40)
    path = tmp_path / "fit.pt"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        held = socket.socket(socket.AF_UNIX)
        held.bind(str(path))
        held.close()
    else:
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"fit\.pt': it is not a regular file"):
        _method(towers, [Checkpoint(path)]).fit(views)


def test_a_foreign_file_is_called_what_it_is(towers, planted, tmp_path):
    views, _ = planted(40)
    path = tmp_path / "fit.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n")
    _refused(_method(towers, [Checkpoint(path)]), views, path, "pointer of Git LFS")
    torch.save({"weight": torch.zeros(3)}, path)
    _refused(_method(towers, [Checkpoint(path)]), views, path, "not a checkpoint of crossfit")


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(towers, planted, tmp_path, weights):
    resource = pytest.importorskip("resource")
    views, _ = planted(60)
    path = tmp_path / "fit.pt"
    method = _method(towers, [Checkpoint(path)], max_epochs=2).fit(views)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1000, len(before) // 2, len(before) - 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match=r"^cannot write a checkpoint to '.*fit\.pt': the"):
                clone(method).set_params(max_epochs=3).fit(views)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["fit.pt"]
    resumed = clone(method).set_params(max_epochs=EPOCHS).fit(views)
    assert torch.equal(weights(resumed), weights(_method(towers, None).fit(views)))


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(towers, planted, tmp_path):
    writing = textwrap.dedent(
        """
        import sys
        from crossfit._files import whole_file
        with whole_file(sys.argv[1], "a checkpoint") as draft:
            draft.write_bytes(b"half")
            print("writing", flush=True)
            input()
        """
    )
    path = tmp_path / "fit.pt"
    dead, living = (
        subprocess.Popen(
            [sys.executable, "-c", writing, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    for process in (dead, living):
        assert process.stdout.readline() == "writing\n"
    dead.kill()
    dead.communicate()
    (tmp_path / ".fit.pt-notes").write_text("mine")
    (left,) = (name for name in os.listdir(tmp_path) if f"-{dead.pid}-" in name)
    (tmp_path / (left[:-16] + 16 * "0")).mkdir()
    views, _ = planted(40)
    _method(towers, [Checkpoint(path)], max_epochs=1).fit(views)
    *drafts, notes, file = sorted(os.listdir(tmp_path))
    assert len(drafts) == 1 and [notes, file] == [".fit.pt-notes", "fit.pt"]
    living.communicate("\n")
    assert living.returncode == 0
    assert sorted(os.listdir(tmp_path)) == [".fit.pt-notes", "fit.pt"]
    assert path.read_bytes() == b"half"
