"""The base class: parameters, the loop against plain PyTorch, kinds of input, errors."""

import inspect
import json
import logging
import pickle
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from crossfit import BundleError, Ragged, Views, load, registry, save
from crossfit.neural import (
    NeuralEstimator,
    Standardize,
    estimator,
    listening,
    triplet_loss,
    warm_up,
)
from crossfit.neural.training import float32_dropout, seeded
from crossfit.persistence.files import signed
from crossfit.testing import check_method

CPU = torch.device("cpu")


def _captions(planted, n_images=30, per_image=3):
    views, _ = planted(n_images * per_image)
    index = np.repeat(np.arange(n_images), per_image)
    return Views.from_captions(views["image"][:n_images], views["text"], index)


# ---- parameters --------------------------------------------------------------------------------


def test_the_signature_names_every_parameter(towers):
    names = list(inspect.signature(towers).parameters)
    assert names[:3] == ["margin", "max_epochs", "batch_size"] and names[-1] == "kwargs"
    assert set(towers().get_params()) == set(names) - {"kwargs"}
    assert towers().get_params()["margin"] == 0.3 and towers().lr == 1e-3
    assert repr(towers(lr=0.1, module__hidden=3)) == "Towers(lr=0.1, module__hidden=3)"


def test_prefixed_parameters_survive_clone_and_set_params(towers):
    groups = [("words.*", {"lr": 0.1})]
    method = towers(module__hidden=3, optimizer__param_groups=groups, iterator_train__shuffle=False)
    params = clone(method).get_params()
    assert params["module__hidden"] == 3 and params["optimizer__param_groups"] == groups
    assert params["iterator_train__shuffle"] is False
    method.set_params(module__hidden=5, margin=0.1, optimizer__eps=1e-3)
    params = clone(method).get_params()
    assert (params["module__hidden"], params["margin"], params["optimizer__eps"]) == (5, 0.1, 1e-3)


def test_prefixed_parameters_arrive(towers, planted):
    views, _ = planted(40)
    method = towers(
        module__hidden=5,
        optimizer="SGD",
        optimizer__momentum=0.5,
        optimizer__param_groups=[("branches.text.*", {"lr": 0.25})],
        iterator_train__drop_last=True,
        random_state=0,
    ).fit(views)
    net = method.net_
    assert net.module_.branches["image"].layers[0].out_features == 5
    assert isinstance(net.optimizer_, torch.optim.SGD)
    rates = {group["lr"] for group in net.optimizer_.param_groups}
    assert rates == {0.25, 1e-3} and net.optimizer_.param_groups[0]["momentum"] == 0.5
    assert net.history[-1]["train_batch_count"] == 2


def test_grid_search_reaches_them(towers, planted):
    views, _ = planted(60)
    search = GridSearchCV(
        towers(random_state=0, max_epochs=2),
        {"module__hidden": [2, 12], "optimizer__weight_decay": [0.0, 0.1]},
        cv=GroupKFold(2),
    ).fit(views, groups=views.groups)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    best = search.best_estimator_
    hidden = best.net_.module_.branches["image"].layers[0].out_features
    assert hidden == search.best_params_["module__hidden"]


@pytest.mark.parametrize("name", ["no_such", "moduel__hidden", "module__"])
def test_unknown_arguments_are_refused(towers, name):
    with pytest.raises(TypeError, match=rf"Towers has no parameter '{name}': there are amp, "):
        towers(**{name: 1})
    with pytest.raises(ValueError, match="nvalid parameter"):
        towers().set_params(**{name: 1})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"module__hiden": 3}, "got module__hiden, but there are only module__hidden"),
        ({"optimizer__lrr": 3}, "optimizer__lrr"),
        ({"iterator_train__workers": 3}, "iterator_train__workers"),
        ({"optimizer": "Adamm"}, "torch.optim, or such a class, got 'Adamm'"),
        ({"optimizer": int}, "torch.optim"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"lr": -1.0}, "lr"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"device": "abacus"}, "device must be 'auto' or a torch device, got 'abacus'"),
        ({"validation_fraction": 1.5}, "validation_fraction"),
        ({"callbacks": [EarlyStopping()]}, "set validation_fraction"),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(towers, planted, params, message):
    method = towers(**params)
    with pytest.raises(ValueError, match=message):
        method.fit(planted(20)[0])
    assert not hasattr(method, "net_") and not hasattr(method, "views_in_")


def test_an_author_who_forgets_a_step_is_told(planted):
    class Nothing(NeuralEstimator):
        pass

    with pytest.raises(NotImplementedError, match="Nothing does not define _build_module"):
        Nothing().fit(planted(20)[0])


# ---- the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop"])
def test_training_is_a_plain_loop_bit_for_bit(towers, planted, weights, optimizer):
    views, _ = planted(50)
    method = towers(random_state=3, optimizer=optimizer, lr=0.01).fit(views)

    X, Y = (torch.tensor(views[name], dtype=torch.float32) for name in ("image", "text"))
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    with seeded(seed, CPU):
        order = torch.Generator().manual_seed(seed)
        module = method._build_module({"image": 6, "text": 5}, None)
        stepper = getattr(torch.optim, optimizer)(module.parameters(), lr=0.01)
        for _ in range(4):
            for rows in torch.randperm(50, generator=order).split(16):
                stepper.zero_grad()
                A = module.branches["image"](X[rows])
                B = module.branches["text"](Y[rows])
                S = A @ B.T
                eye = torch.eye(len(rows), dtype=torch.bool)
                hinge = (0.3 - S.diagonal()[:, None] + S).clamp(min=0) * ~eye
                back = (0.3 - S.diagonal()[:, None] + S.T).clamp(min=0) * ~eye
                loss = hinge.sum() / len(rows) + back.sum() / len(rows)
                loss.backward()
                stepper.step()
    expected = torch.cat([w.flatten() for w in module.state_dict().values()])
    assert torch.equal(weights(method), expected)


def test_fits_repeat_bit_for_bit_and_seeds_differ(towers, planted, weights):
    views, _ = planted(50)
    first = weights(towers(random_state=0).fit(views))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    kept = np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(weights(towers(random_state=0).fit(views)), first)
    assert not torch.equal(weights(towers(random_state=1).fit(views)), first)
    a, b = towers().fit(views), towers().fit(views)
    assert not torch.equal(weights(a), weights(b))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], kept)  # noqa: NPY002


def test_two_hundred_pairs_are_memorised(towers):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 16)), rng.normal(size=(200, 12))
    method = towers(
        max_epochs=80, batch_size=50, lr=0.01, random_state=0, module__hidden=128,
        module__width=32, module__dropout=0.0,
    )  # fmt: skip
    assert method.fit(X, Y).score(X, Y) > 0.95


def test_the_history_has_one_row_of_terms_for_each_epoch(towers, planted):
    history = towers(random_state=0, validation_fraction=0.3).fit(planted(60)[0]).net_.history
    assert len(history) == 4
    for row in history:
        for part in ("train", "valid"):
            total = row[f"{part}_forward"] + row[f"{part}_backward"]
            assert row[f"{part}_loss"] == pytest.approx(total, rel=1e-5)


def test_what_is_kept_has_no_data_and_no_owner(towers, planted):
    method = towers(random_state=0).fit(planted(2000)[0])
    assert method.net_.owner is None and not hasattr(method.net_, "_good")
    assert len(pickle.dumps(method)) < 100_000
    assert not method.net_.module_.training


def test_mixed_precision_runs_on_the_cpu_too(towers, planted):
    views, _ = planted(60)
    exact = towers(random_state=0, max_epochs=8).fit(views)
    mixed = towers(random_state=0, max_epochs=8, amp=True).fit(views)
    assert exact.net_.amp is False and mixed.net_.amp is True
    Z = mixed.encode(views["image"], "image")
    assert Z.dtype == np.float64 and next(mixed.net_.module_.parameters()).dtype == torch.float32
    difference = np.abs(Z - exact.encode(views["image"], "image")).max()
    assert 0 < difference < 0.1


def test_mixed_precision_drops_units_in_float32(towers, planted):
    """In 16 bits, dropout on CUDA repeats half of the mask of the call before."""
    dtypes = set()

    class Draws(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ == "bernoulli_":
                dtypes.add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    method = towers(random_state=0, max_epochs=2, amp=True, module__dropout=0.5)
    with Draws():
        method.fit(planted(60)[0])
    assert dtypes == {torch.float32}
    layers = [part for part in method.net_.module_.modules() if isinstance(part, nn.Dropout)]
    assert layers and all("forward" not in vars(part) for part in layers)


def test_float32_dropout_changes_neither_masks_nor_dtypes():
    layer = nn.Dropout(0.25)
    x = torch.randn(50, 64)
    with float32_dropout(nn.Sequential(layer)):
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            found = layer(x.to(dtype))
            torch.manual_seed(0)
            expected = torch.nn.functional.dropout(x.to(dtype).float(), 0.25).to(dtype)
            assert found.dtype == dtype and torch.equal(found, expected)
        assert torch.equal(layer.eval()(x), x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_branches_of_one_width_drop_different_units_on_a_gpu(towers):
    """Nothing in common but the units that are dropped: the loss cannot fall below chance."""
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(4000, 32)), text=rng.normal(size=(4000, 32)))
    settings = {"hidden": 512, "width": 64, "dropout": 0.5}
    losses = {}
    for amp in (False, True):
        method = towers(
            random_state=0, device="cuda", amp=amp, max_epochs=4, batch_size=100,
            **{f"module__{name}": value for name, value in settings.items()},
        ).fit(views)  # fmt: skip
        losses[amp] = method.net_.history[-1]["train_loss"]
    assert losses[True] > 0.95 * losses[False], losses


def test_verbosity(towers, planted, capfd):
    views, _ = planted(30)
    towers(verbose=0).fit(views)
    towers(verbose="auto").fit(views)  # no terminal here
    assert capfd.readouterr() == ("", "")
    towers(verbose=1).fit(views)
    out, err = capfd.readouterr()
    assert out == "" and "Towers" in err and "/8" in err


def test_a_network_standardises_its_inputs_by_the_training_items(towers):
    rng = np.random.default_rng(0)
    images = 50 + 10 * rng.normal(size=(30, 5))
    lists = [3 + 2 * rng.normal(size=(1 + i % 4, 4)) for i in range(60)]
    views = Views.from_captions(images, Ragged.from_list(lists), np.repeat(np.arange(30), 2))

    class Scaled(towers):
        """With standardised inputs."""

        def _build_module(self, n_inputs, n_classes, **module):
            network = super()._build_module(n_inputs, n_classes, **module)
            network.scales = torch.nn.ModuleDict(
                {role: Standardize(n, role) for role, n in n_inputs.items()}
            )
            return network

        def _encode_batch(self, module, items, view):
            return module.encode(items._replace(values=module.scales[view](items.values)), view)

    method = Scaled(random_state=0, validation_fraction=0.2, max_epochs=2).fit(views)
    trained, _ = method._split(views, method._seed())
    scales = method.net_.module_.scales
    kept = images[np.unique(trained // 2)].astype(np.float32)
    np.testing.assert_allclose(scales["image"].mean, kept.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scales["image"].scale, kept.std(axis=0), rtol=1e-4)
    words = np.concatenate([lists[i] for i in trained])
    np.testing.assert_allclose(scales["text"].mean, words.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scales["text"].scale, words.std(axis=0), rtol=1e-4)
    again = clone(method)
    again.__crossfit_restore__(*method.__crossfit_state__())
    assert torch.equal(again.net_.module_.scales["image"].mean, scales["image"].mean)
    np.testing.assert_array_equal(again.encode(images, "image"), method.encode(images, "image"))


# ---- validation, callbacks, the listener -------------------------------------------------------


def _drawing(towers):
    class Drawing(towers):
        """Rank against one random negative; draw `extra` more numbers in validation."""

        extra = 0

        def _loss(self, outputs, batch):
            if not torch.is_grad_enabled():
                torch.rand(self.extra)
            scores = outputs["image"] @ outputs["text"].T
            return triplet_loss(
                scores, batch.positives, batch.negatives, margin=1.0, mining="random"
            )

    return Drawing


def test_validation_draws_the_same_negatives_at_every_epoch(planted, towers):
    views = planted(60)[0]
    settings = {"validation_fraction": 0.3, "random_state": 0, "max_epochs": 5}
    frozen = _drawing(towers)(lr=1e-12, **settings).fit(views).net_.history
    valid, train = ([row[f"{part}_loss"] for row in frozen] for part in ("valid", "train"))
    assert len(set(valid)) == 1
    assert len(set(train)) == 5
    # The only difference is that weights change.
    moving = _drawing(towers)(lr=0.02, **settings).fit(views).net_.history
    assert len({row["valid_loss"] for row in moving}) == 5


@pytest.mark.parametrize("policy", ["StepLR", "ExponentialLR", "CosineAnnealingLR", None])
@pytest.mark.parametrize("first", [True, False])
def test_the_rate_rises_over_the_first_updates_and_follows_the_schedule(
    planted, towers, policy, first
):
    settings = {"StepLR": {"step_size": 2}, "ExponentialLR": {"gamma": 0.5}}
    settings["CosineAnnealingLR"] = {"T_max": 6}
    schedule = [] if policy is None else [LRScheduler(policy, **settings[policy])]

    class Rates(Callback):
        def __init__(self):
            self.seen_ = []

        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            if training:
                self.seen_.append(net.optimizer_.param_groups[0]["lr"])

    class Scheduled(towers):
        """With a schedule of its own."""

        def _schedule(self):
            return [warm_up(6), *schedule] if first else schedule

    callbacks = [("rates", Rates()), *([] if first else [warm_up(6)])]
    method = Scheduled(max_epochs=6, lr=0.1, callbacks=callbacks, optimizer="RMSprop")
    found = dict(method.fit(planted(64)[0]).net_.callbacks_)["rates"].seen_
    plain = LRScheduler(policy, **settings[policy]).initialize() if policy else None
    by_epoch = plain.simulate(6, initial_lr=0.1) if plain else np.full(6, 0.1)
    expected = np.minimum(1, np.arange(1, 25) / 6) * np.repeat(by_epoch, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_validation_draws_does_not_reach_the_training(planted, towers, weights):
    fits = []
    for extra in (0, 7):
        method = _drawing(towers)(validation_fraction=0.3, random_state=0)
        method.extra = extra
        fits.append(method.fit(planted(60)[0]))
    assert torch.equal(weights(fits[0]), weights(fits[1]))
    losses = [[row["valid_loss"] for row in fit.net_.history] for fit in fits]
    assert losses[0] != losses[1]


def test_the_rows_held_out_never_divide_a_group(towers, planted):
    views = _captions(planted)
    method = towers(validation_fraction=0.25)
    for seed in range(5):
        rows, held_out = method._split(views, seed)
        assert sorted([*rows, *held_out]) == list(range(90))
        assert not set(views.groups[rows]) & set(views.groups[held_out])
        assert len(set(views.groups[held_out])) == 8
    assert not np.array_equal(method._split(views, 0)[1], method._split(views, 1)[1])


def test_two_groups_cannot_be_held_out(towers, planted):
    views, _ = planted(20)
    with pytest.raises(ValueError, match="at least 3 groups of rows, got 2"):
        towers(validation_fraction=0.5).fit(views.with_groups(np.arange(20) % 2))


class _AfterEpoch(Callback):
    def __init__(self, do):
        self.do = do

    def on_epoch_end(self, net, **kwargs):
        self.do(net)


def test_batches_that_are_held_out_know_the_progress_too(towers, planted):
    seen = {True: [], False: []}

    class Looks(towers):
        def _outputs(self, module, batch):
            seen[module.training].append(batch.progress)
            return super()._outputs(module, batch)

    Looks(validation_fraction=0.3, random_state=0).fit(planted(20)[0])
    assert sorted(set(seen[True])) == sorted(set(seen[False])) == [0.0, 0.25, 0.5, 0.75]


def test_early_stopping_ends_with_the_best_weights(towers, planted, weights):
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(60, 6)), text=rng.normal(size=(60, 5)))  # nothing to learn
    after = []
    recorder = _AfterEpoch(
        lambda net: after.append(
            torch.cat([w.flatten().clone() for w in net.module_.state_dict().values()])
        )
    )
    stopper = EarlyStopping(patience=3, load_best=True)
    method = towers(
        max_epochs=200, lr=0.02, validation_fraction=0.3, callbacks=[("stop", stopper), recorder],
        random_state=0,
    ).fit(views)  # fmt: skip
    losses = [row["valid_loss"] for row in method.net_.history]
    assert 4 <= len(losses) < 200 and np.argmin(losses) == len(losses) - 4
    assert torch.equal(weights(method), after[int(np.argmin(losses))])
    assert not hasattr(stopper, "best_epoch_")  # a parameter, which does not change


def test_control_c_in_a_batch_ends_the_program_and_not_only_the_fit(towers, planted):
    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        towers(callbacks=[Interrupt]).fit(planted(30)[0])


def test_the_listener_hears_every_epoch_from_a_method_that_answers(towers, planted):
    views, _ = planted(60)
    heard = []

    def listener(estimator, epoch, record):
        heard.append((epoch, record["valid_loss"], estimator.score(views)))

    plain = towers(random_state=0, validation_fraction=0.3)
    with listening(listener):
        method = clone(plain).fit(views)
    assert [epoch for epoch, _, _ in heard] == [1, 2, 3, 4]
    assert [loss for _, loss, _ in heard] == [row["valid_loss"] for row in method.net_.history]
    assert heard[-1][2] == method.score(views)
    # Listening changed nothing, and has ended.
    assert method.score(views) == plain.fit(views).score(views) and len(heard) == 4


def test_a_study_prunes_through_the_listener(towers, planted):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    views, _ = planted(60)

    def objective(trial):
        def report(estimator, epoch, record):
            trial.report(record["train_loss"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        lr = trial.suggest_categorical("lr", [0.01, 1e-6])
        with listening(report):
            return -clone(towers(lr=lr, random_state=0)).fit(views).score(views)

    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler({"lr": [0.01, 1e-6]}, seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1),
    )
    study.enqueue_trial({"lr": 0.01})
    study.optimize(objective, n_trials=3)
    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned and {t.params["lr"] for t in pruned} == {1e-6}
    assert max(pruned[0].intermediate_values) < 4


# ---- errors ------------------------------------------------------------------------------------


def test_nan_stops_the_fit_and_keeps_the_last_good_weights(towers, planted, weights):
    views, _ = planted(60)

    class Breaks(towers):
        def _loss(self, outputs, batch):
            nan = 1.0 if batch.progress < 0.5 else float("nan")
            return nan * sum(super()._loss(outputs, batch).values())

    method = Breaks(random_state=0)
    message = "Breaks: the train loss became nan in epoch 3 with lr 0.001.*after epoch 2"
    with pytest.raises(FloatingPointError, match=message):
        method.fit(views)

    class RunsTwo(Breaks):
        pass

    sound = RunsTwo(random_state=0, max_epochs=4)
    with listening(lambda estimator, epoch, record: _stop_at(epoch, 2)), pytest.raises(_StopError):
        sound.fit(views)
    assert torch.equal(weights(method), weights(sound))
    assert np.isfinite(method.similarity(views)).all()  # it can be used with these weights

    class NeverSound(towers):
        def _loss(self, outputs, batch):
            return float("nan") * sum(super()._loss(outputs, batch).values())

    with pytest.raises(FloatingPointError, match="epoch 1"):
        (never := NeverSound(random_state=0)).fit(views)
    assert not hasattr(never, "views_in_")


class _StopError(Exception):
    pass


def _stop_at(epoch, last):
    if epoch == last:
        raise _StopError


def test_weights_that_overflow_are_noticed_too(towers, planted, weights):
    method = towers(random_state=0, optimizer="SGD", lr=1e38, batch_size=60, module__dropout=0.0)
    with pytest.raises(FloatingPointError, match=r"epoch \d .*lr 1e\+38"):
        method.fit(planted(60)[0])
    assert torch.isfinite(weights(method)).all()


# ---- kinds of input ----------------------------------------------------------------------------


def test_sparse_memory_mapped_and_tensor_rows_give_the_weights_of_dense_ones(
    towers, planted, weights, tmp_path
):
    views, _ = planted(40)
    X, Y = views["image"].astype(np.float32), views["text"].astype(np.float32)
    expected = weights(towers(random_state=0).fit(X, Y))
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for given in (sp.csr_array(X), torch.tensor(X), mapped):
        method = towers(random_state=0).fit(given, Y)
        assert torch.equal(weights(method), expected)
        assert np.asarray(method.encode(given, "image")).shape == (40, 8)
    assert isinstance(method.encode(torch.tensor(X), "image"), torch.Tensor)


def test_regions_ragged_and_padded_tokens_and_channels(towers, planted):
    rng = np.random.default_rng(0)
    regions = rng.normal(size=(40, 3, 6))
    ragged = Ragged.from_list(list(regions))
    ids = rng.integers(2, 20, (40, 5))
    ids[:, 4] = np.where(rng.random(40) < 0.5, 0, ids[:, 4])
    tokens = Ragged.from_list([row[row > 0] for row in ids])

    class Words(towers):
        card = replace(towers.card, inputs={"image": ("regions",), "text": ("tokens",)})

    one = Words(random_state=0).fit(regions, ids)
    other = Words(random_state=0).fit(ragged, tokens)
    np.testing.assert_allclose(
        one.similarity(regions, ids), other.similarity(ragged, tokens), atol=1e-5
    )
    assert one.n_inputs_ == {"image": 6, "text": 20}
    # An id that is not in the fit is an unknown word.
    seen, unseen = one.encode(np.array([[3, 1]]), "text"), one.encode(np.array([[3, 99]]), "text")
    np.testing.assert_array_equal(seen, unseen)
    parts = {"whole": rng.normal(size=(40, 2)), "half": rng.normal(size=(40, 3))}
    channels = towers(random_state=0).fit(Views(image=parts, text=planted(40)[0]["text"]))
    assert channels.n_inputs_["image"] == {"whole": 2, "half": 3}
    assert channels.transform(Views(image=parts))["image"].shape == (40, 8)


def test_encoding_does_not_depend_on_padding_or_company(towers):
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(k, 6)) for k in rng.integers(1, 9, 40)]
    ragged = Ragged.from_list(rows)
    method = towers(random_state=0).fit(ragged, rng.normal(size=(40, 5)))
    whole = method.encode(ragged, "image")
    for i in (0, 7, 39):
        alone = method.encode(Ragged.from_list([rows[i]]), "image")
        np.testing.assert_allclose(alone[0], whole[i], rtol=1e-5, atol=1e-6)


def test_several_captions_of_an_image_are_no_negatives(towers):
    rng = np.random.default_rng(0)
    X, index = rng.normal(size=(20, 6)), np.repeat(np.arange(20), 4)
    texts = X[index] + 0.01 * rng.normal(size=(80, 6))
    params = {"random_state": 0, "max_epochs": 60, "lr": 0.02, "module__dropout": 0.0}
    method = towers(batch_size=80, **params).fit(Views.from_captions(X, texts, index))
    assert method.similarity(Views.from_captions(X, texts, index)).shape == (20, 80)
    assert method.net_.history[-1]["train_loss"] < 0.5
    # If rows were items, three wrong captions would be as near as the right one.
    rows = towers(batch_size=80, **params).fit(X[index], texts)
    assert rows.net_.history[-1]["train_loss"] > 1.5


def test_rows_that_are_not_labelled_get_minus_one(towers, planted):
    views, _ = planted(30)
    y = np.array([3, -1, 7] * 10)
    seen = []

    class Looks(towers):
        def _loss(self, outputs, batch):
            seen.append(batch.y)
            return super()._loss(outputs, batch)

    method = Looks(max_epochs=1, iterator_train__shuffle=False).fit(views, y)
    assert method.classes_.tolist() == [3, 7] and method.n_classes_ == 2
    assert torch.cat(seen).tolist() == [0, -1, 1] * 10
    assert Looks(max_epochs=1).fit(views, np.eye(3)[y % 3]).n_classes_ == 3
    assert seen[-1].dtype == torch.float32


# ---- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, ["b", "a"] * 15, [5, 9] * 15])
def test_state_goes_through_json_and_arrays(towers, planted, labels):
    views, _ = planted(30)
    method = towers(module__hidden=7, random_state=0).fit(views, labels)
    state, arrays = method.__crossfit_state__()
    assert all(isinstance(part, np.ndarray) and part.dtype.kind in "fi" for part in arrays.values())
    other = clone(method)
    other.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    np.testing.assert_array_equal(other.similarity(views), method.similarity(views))
    assert other.net_.history[2]["train_loss"] == method.net_.history[2]["train_loss"]
    assert other.views_in_ == method.views_in_ and other.n_features_in_ == method.n_features_in_
    if labels is not None:
        np.testing.assert_array_equal(other.classes_, method.classes_)


def test_what_a_gpu_trained_loads_without_one(towers, planted, monkeypatch):
    """Mark the storages as those of CUDA, as in a file that was written with a GPU."""
    if torch.cuda.is_available():
        views, _ = planted(30)
        method = towers(device="cuda", random_state=0).fit(views)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    else:
        views, _ = planted(30)
        method = towers(random_state=0).fit(views)
        method.net_.device = "cuda"
        method.device = "cuda"
        monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    expected = _on_cpu(method, views)
    written = pickle.dumps(method)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cpu")
    with pytest.warns(UserWarning):
        read = pickle.loads(written)
    np.testing.assert_array_equal(read.similarity(views), expected)
    state, arrays = method.__crossfit_state__()
    other = clone(method)
    other.__crossfit_restore__(state, arrays)
    np.testing.assert_array_equal(other.similarity(views), expected)


def _on_cpu(method, views):
    device, method.net_.device = method.net_.device, "cpu"
    try:
        return method.similarity(views)
    finally:
        method.net_.device = device


def test_conformance(towers):
    results = check_method(towers, {"max_epochs": 10, "lr": 0.05, "batch_size": 40})
    assert len(results) > 60
    failed = {r.name: r.message for r in results if r.status == "fail"}
    assert set(failed) == {"check_registered"}, failed


def test_importing_the_package_imports_no_torch():
    code = "import sys, crossfit.neural; print('torch' in sys.modules, 'skorch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_every_epoch_is_logged_for_those_who_look(towers, planted, caplog):
    with caplog.at_level(logging.DEBUG, "crossfit"):
        towers().fit(planted(30)[0])
    assert sum("train_loss" in message for message in caplog.messages) == 4


@pytest.mark.parametrize(
    "params, says",
    [
        ({"device": "meta"}, "device: 'meta' holds no numbers"),
        ({"device": "mps"}, "device: 'mps' cannot be used by torch"),
        ({"callbacks": [3]}, "callbacks of Towers must be callbacks of skorch"),
        ({"callbacks": ["a"]}, "must be callbacks of skorch"),
        ({"callbacks": [None]}, "must be callbacks of skorch"),
        ({"callbacks": [("a",)]}, "must be callbacks of skorch"),
        ({"optimizer__weight_decay": "x"}, "Towers: the optimizer rejects its settings .*'x'"),
        ({"optimizer__lr": "x"}, "Towers: the optimizer rejects its settings lr='x'"),
        ({"optimizer__betas": 3}, "Towers: the optimizer rejects its settings"),
        ({"optimizer__param_groups": 3}, "must be pairs .*pattern, settings"),
        ({"optimizer__param_groups": [("a",)]}, "must be pairs .*pattern, settings"),
        ({"iterator_train__shuffle": "no"}, "'iterator_train__shuffle' parameter of Towers"),
        ({"iterator_train__drop_last": 1.5}, "'iterator_train__drop_last' parameter of Towers"),
        ({"iterator_train__together": 0}, "'iterator_train__together' parameter of Towers"),
        ({"iterator_train__batch_size": 0}, "'iterator_train__batch_size' parameter of Towers"),
        ({"module__hidden": "x"}, "Towers: cannot build the network with module__hidden='x'"),
    ],
)
def test_what_goes_on_to_torch_and_skorch_is_refused_by_name(towers, planted, params, says):
    views, _ = planted(40)
    if params.get("device") == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one here")
    with pytest.raises(ValueError, match=says):
        towers(**{"max_epochs": 1, **params}).fit(views)


def test_a_listener_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="listening expects a function"), listening(3):
        pass


# ---- hostile bundles -----------------------------------------------------------------------------


@pytest.fixture
def bundle(towers, planted, tmp_path, monkeypatch):
    """Return a bundle of a neural method with a module and an array of its features."""

    class Featured(towers):
        def _fit_features(self, views, y):
            self.trunk_ = torch.nn.Linear(3, 2)
            self.words_ = ("a", "b")
            self.scale_ = np.ones(3)

        def _restore_features(self, state, arrays):
            self.trunk_ = torch.nn.Linear(3, 2)
            super()._restore_features(state, arrays)

    Featured.__qualname__ = "Featured"
    target = f"{Featured.__module__}:Featured"
    card = replace(towers.card, name="featured", target=target)
    entry = registry.Entry("crossfit.methods", card.name, "crossfit-custom", "1", "ok", card)
    found = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda group=None: (*found, entry))
    module = types.ModuleType(Featured.__module__)
    monkeypatch.setitem(sys.modules, Featured.__module__, module)
    monkeypatch.setattr(module, "Featured", Featured, raising=False)
    views, _ = planted(40)
    return save(Featured(max_epochs=1, random_state=0).fit(views), tmp_path / "bundle"), views


def _forged(folder, edit):
    content = json.loads((folder / "manifest.json").read_bytes())
    content.pop("sha256")
    edit(content["model"])
    (folder / "manifest.json").write_bytes(signed(content))
    return folder


def test_a_bundle_brings_its_features_back(bundle):
    folder, _ = bundle
    loaded = load(folder)
    assert loaded.words_ == ("a", "b") and loaded.scale_.tolist() == [1, 1, 1]
    assert isinstance(loaded.trunk_, torch.nn.Linear)


@pytest.mark.parametrize(
    "name",
    ["transform", "fit", "_encode", "_encode_batch", "card", "lr", "__class__", "callbacks",
     "net_", "views_in_", "trunk_", "_parameter_constraints", "a.b", ""],
)  # fmt: skip
@pytest.mark.parametrize("where", ["state", "arrays"])
def test_features_of_a_bundle_take_no_place_of_anything_else(bundle, name, where):
    folder, _ = bundle

    def edit(model):
        if where == "state":
            model["state"]["features"][name] = "x"
        else:
            model["arrays"][f"features.{name}"] = model["arrays"].pop("features.scale_")

    with pytest.raises(
        BundleError, match=r"fitted attribute of Featured|not a module|KeyError|no weights"
    ):
        load(_forged(folder, edit))


@pytest.mark.parametrize("name", ["net_.x", "__class__.x", "other_.weight", "trunk_.other"])
def test_weights_of_a_bundle_go_to_modules_of_the_features_alone(bundle, name):
    folder, _ = bundle

    def edit(model):
        model["arrays"][f"features.{name}"] = model["arrays"].pop("features.trunk_.bias")

    with pytest.raises(BundleError, match=r"not a module of a fitted Featured|trunk_|bias"):
        load(_forged(folder, edit))


@pytest.mark.parametrize("size", [10**8, 10**15])
def test_a_network_far_larger_than_its_weights_is_never_made(bundle, size):
    folder, _ = bundle

    def edit(model):
        model["state"]["n_inputs"]["image"] = size

    with pytest.raises(BundleError, match=r"far larger than the weights|overflow|exceed"):
        load(_forged(folder, edit))


def test_a_network_of_endless_layers_is_never_made(bundle):
    folder, _ = bundle
    loaded = load(folder)
    with (
        pytest.raises(ValueError, match="far larger than the weights"),
        estimator._no_larger_than([np.ones(2)]),
    ):
        for _ in range(10**5):
            torch.nn.Linear(1, 1)
    assert loaded.net_.module_ is not None


def test_what_networks_are_made_of_is_made_as_ever():
    def make():
        generator = torch.Generator().manual_seed(0)
        with seeded(3, CPU):
            layers = [
                torch.nn.LSTM(3, 4, bidirectional=True),
                torch.nn.TransformerEncoderLayer(8, 2),
                torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 3)),
                torch.nn.BatchNorm1d(4),
            ]
            torch.nn.init.orthogonal_(layers[0].weight_hh_l0)
            torch.nn.init.sparse_(layers[2].bias[None].expand(2, 3).clone(), 0.5)
            made = [
                torch.randn(3, generator=generator),
                torch.randperm(5, generator=generator),
                torch.tensor([1.0]).to(torch.float64),
            ]
        return [*made, *(part for layer in layers for part in layer.state_dict().values())]

    expected = make()
    with estimator._no_larger_than([np.ones(2)]):
        made = make()
    assert all(map(torch.equal, made, expected))
