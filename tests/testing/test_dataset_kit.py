"""The kit of data sets: crossfit's own pass, and each check fails on one that violates it."""

import dataclasses
import sys
import types
from functools import partial
from itertools import count
from unittest import SkipTest

import numpy as np
import pytest
from click.testing import CliRunner

from crossfit import registry
from crossfit.cli.commands import cli
from crossfit.datasets.record import Dataset, Split
from crossfit.testing import cards, check_dataset, parametrize_with_checks
from crossfit.testing.bad_datasets import load_colours, make_files
from crossfit.testing.dataset_checks import CHECKS, DatasetSubject
from crossfit.views import Views

BUILT_IN = [entry.name for entry in registry.entries("crossfit.datasets") if entry.status == "ok"]


@parametrize_with_checks(BUILT_IN)
def test_built_in_data_sets_conform(check):
    check()


@pytest.mark.parametrize(
    ("card", "failing"),
    [
        (cards.COLOURS, {}),
        (cards.LEAKING, {"check_splits_share_nothing": "3 items of 'image' are both in 'train'"}),
        (
            cards.FORGETTING,
            {
                "check_missing_files": "an empty folder: expected FileNotFoundError, but no error",
                "check_revision": "the revision was '1' whichever file was changed",
            },
        ),
    ],
)
def test_bundled_data_sets(card, failing):
    results = {r.name: r for r in check_dataset(card)}
    found = {name for name, result in results.items() if result.status == "fail"}
    assert found == {*failing, "check_registered"}
    for name, message in failing.items():
        assert message in results[name].message
    assert "the files are those of make_files" in results["check_official_counts"].message


def test_what_is_given_may_be_a_name_a_loader_or_a_card(tmp_path):
    from crossfit.datasets import emoji

    for given in ("emoji", emoji.load, registry.get("emoji", "crossfit.datasets")):
        (result,) = check_dataset(given, {"subsets": ("val",)}, select="check_record")
        assert result.status == "pass"
    with pytest.raises(ValueError, match=r"add an entry point .* also pass the card"):
        check_dataset(load_colours)
    with pytest.raises(ValueError, match="no option 'size'; its options are: subsets, strict"):
        check_dataset(cards.COLOURS, {"size": 3})
    with pytest.raises(TypeError, match="expected a loader, its DatasetCard or its name, got 3"):
        check_dataset(3)
    # With a root the files are the official ones, and a missing file is a reason to skip.
    results = {r.name: r for r in check_dataset(cards.COLOURS, root=tmp_path)}
    assert (
        results["check_record"].status == "skip" and "train.csv" in results["check_record"].message
    )
    assert results["check_labels"].message == "as in check_record"
    make_files(tmp_path)
    results = check_dataset(cards.COLOURS, root=tmp_path, select="official")
    assert [result.status for result in results] == ["pass"]


def test_make_files_that_fails_is_named():
    wrong = dataclasses.replace(cards.COLOURS, make_files="crossfit.testing.bad_datasets:nowhere")
    with pytest.raises(ValueError, match=r"make_files of the card 'colours'.*AttributeError"):
        check_dataset(wrong)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("crossfit.testing.bad_datasets:load_colors", "AttributeError"),
        ("crossfit.testing.bad_dataset:load", "ModuleNotFoundError"),
        ("crossfit.testing.bad_datasets:cards.COLOURS.name", "function that loads a data set"),
    ],
)
def test_a_wrong_loader_in_a_card_is_found_before_anything_is_loaded(
    target, error, tmp_path, monkeypatch
):
    wrong = dataclasses.replace(cards.COLOURS, name="astray", target=target)
    with pytest.raises((ValueError, TypeError), match=error) as caught:
        check_dataset(wrong)
    assert "\n" not in str(caught.value)
    # By the name of an installed data set, as in `crossfit check astray`.
    monkeypatch.setattr(cards, "ASTRAY", wrong, raising=False)
    info = tmp_path / "astray-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: astray\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[crossfit.datasets]\nastray = crossfit.testing.cards:ASTRAY\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    try:
        done = CliRunner().invoke(cli, ["check", "astray"])
    finally:
        monkeypatch.undo()
        registry.refresh()
    assert done.exit_code != 0
    assert error in f"{done.output} {done.exception}"


# ---- every check can fail ---------------------------------------------------------------


def _mutant(change=None, card=None, made=True, loader=None):
    """Return a subject with a changed result of the correct loader, or with another loader."""
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))
    known = {"name": "mutant", "target": "crossfit_mutants:load", **(card or {})}
    if not made:
        known["make_files"] = None
    chosen = dataclasses.replace(cards.COLOURS, **known)

    def load(root, split="official", *, subsets=None, strict=True):
        found = load_colours(root, split, subsets=subsets, strict=strict)
        found = dataclasses.replace(found, card=chosen)
        return found if change is None else change(found)

    home.load = loader or load
    return DatasetSubject(home.load, chosen, {})


def _with(change=None, card=None, **options):
    return lambda: _mutant(change, card, **options)


def _splits(found, change):
    return dataclasses.replace(
        found, splits={name: change(split) for name, split in found.splits.items()}
    )


def _labelled(found, y):
    return _splits(found, lambda split: Split(split.views, y(len(split))))


_calls = count()


def _grouped(found):
    return _splits(found, lambda split: Split(split.views, None, {"group": np.arange(len(split))}))


def _noisy(found):
    return _splits(
        found,
        lambda split: Split(Views(image=split.views["image"] + next(_calls),
                                  text=split.views["text"])),
    )  # fmt: skip


def _raw(root, split="official", *, subsets=None, strict=True):
    found = {}
    for name in (subsets,) if isinstance(subsets, str) else subsets or ("train", "test"):
        if not root.joinpath("train.csv").exists():
            raise FileNotFoundError(f"get it from {cards.COLOURS.url}")
        text = (root / f"{name}.csv").read_text()
        if not text:
            raise ValueError("nothing")
        found[name] = Split(Views(image=np.zeros((2, 2)), text=[text, text]))
    return Dataset(cards.COLOURS, found, None, "1")


def _raises_key(root, split="official", *, subsets=None, strict=True):
    if not (root / "test.csv").exists() and (root / "train.csv").exists():
        raise KeyError("test.csv")
    return load_colours(root, split, subsets=subsets, strict=strict)


def _ignores_subsets(root, split="official", *, subsets=None, strict=True):
    return load_colours(root, split, strict=strict)


def _takes_any_subset(root, split="official", *, subsets=None, strict=True):
    known = None if subsets and "no-such-split" in subsets else subsets
    return load_colours(root, split, subsets=known, strict=strict)


def _seeds(found):
    np.random.seed(0)  # noqa: NPY002
    return found


def _touches(root, split="official", *, subsets=None, strict=True):
    (root / "index").write_text(str(next(_calls)))
    return load_colours(root, split, subsets=subsets, strict=strict)


MUTANTS = [
    ("check_card", _with(card={"name": "Mutant_Two"}), "not normalised"),
    ("check_registered", _with(), "no installed card"),
    ("check_record", _with(lambda found: found["train"]), "must return a Dataset"),
    (
        "check_record",
        _with(lambda found: dataclasses.replace(found, card=cards.COLOURS)),
        "has a card other than",
    ),
    ("check_record", _with(lambda found: dataclasses.replace(found, splits={})), "no split"),
    ("check_record", _with(card={"modalities": ("audio", "text")}), r"the views \('image'"),
    ("check_labels", _with(card={"labels": "single"}), "split 'train' has none"),
    ("check_labels", _with(partial(_labelled, y=np.arange)), "labels='none', but"),
    (
        "check_labels",
        _with(partial(_labelled, y=lambda n: np.ones((n, 2), int)), {"labels": "single"}),
        "labels='single' requires 1-D arrays",
    ),
    (
        "check_labels",
        _with(
            lambda found: dataclasses.replace(_labelled(found, np.arange), target_names=("a", "b")),
            {"labels": "single"},
        ),
        "indices of the 2 target_names",
    ),
    ("check_splits_share_nothing", _with(_grouped), "group 0 is both in 'train' and in 'test'"),
    ("check_subsets", _with(loader=_ignores_subsets), "loaded train, test"),
    ("check_subsets", _with(loader=_takes_any_subset), "unknown split in subsets: expected"),
    ("check_repeatable", _with(_noisy), "split 'train' differs"),
    ("check_repeatable", _with(_seeds), "changed: numpy.random"),
    ("check_repeatable", _with(loader=_touches), "wrote to the folder"),
    (
        "check_repeatable",
        _with(lambda found: dataclasses.replace(found, revision=str(next(_calls)))),
        "the revision changed from",
    ),
    ("check_revision", _with(card={"splits": ("official", "other")}), "two ways to split"),
    ("check_revision", _with(loader=_raw), "the revision was '1' whichever file"),
    ("check_missing_files", _with(loader=_raises_key), "without 'test.csv': the loader must raise"),
    ("check_missing_files", _with(loader=_raw), "without 'train.csv': the message must name"),
    ("check_missing_files", _with(card={"url": ""}), "the card has no url"),
]


@pytest.mark.parametrize(("name", "mutant", "message"), MUTANTS)
def test_every_check_fails_on_a_data_set_that_breaks_it(name, mutant, message):
    (check,) = [check for check in CHECKS if check.__name__ == name]
    with pytest.raises(Exception, match=message) as caught:
        check(mutant())
    assert not isinstance(caught.value, SkipTest)


def test_official_counts_are_compared(tmp_path):
    make_files(tmp_path)
    chosen = dataclasses.replace(cards.COLOURS, counts={"train": 11, "test": 2})
    loader = partial(load_colours, strict=False)

    def load(root, split="official", *, subsets=None):
        return dataclasses.replace(loader(root, split, subsets=subsets), card=chosen)

    (check,) = [check for check in CHECKS if check.__name__ == "check_official_counts"]
    with pytest.raises(AssertionError, match="'train': counts of the card has 11, got 10 rows, 10"):
        check(DatasetSubject(load, chosen, {}, tmp_path))


def test_every_check_has_a_data_set_that_breaks_it():
    broken = {name for name, _, _ in MUTANTS}
    # The first has its own test; slow plugins are tested in test_kit.py.
    others = {"check_official_counts", "check_listing"}
    assert broken | others == {check.__name__ for check in CHECKS}


def test_of_a_large_official_set_a_few_items_may_come_twice():
    def split(start, stop):
        return Split(Views(image=np.arange(start, stop)[:, None] * [1.0, 2.0], text=["a"] * 300))

    def load(root, split_name="official", *, subsets=None, strict=True):
        chosen = {"train": split(0, 300), "test": split(300 - shared, 600 - shared)}
        return Dataset(cards.COLOURS, chosen, None, "1")

    (check,) = [check for check in CHECKS if check.__name__ == "check_splits_share_nothing"]
    shared = 3
    check(DatasetSubject(load, cards.COLOURS, {}))
    shared = 4
    with pytest.raises(AssertionError, match="4 items of 'image'"):
        check(DatasetSubject(load, cards.COLOURS, {}))
