"""The kit of extractors: crossfit's own pass, and each check fails on one that violates it."""

# Some of the bad extractors here do what an extractor must not: touch the global random state.
# ruff: noqa: NPY002

import dataclasses
import inspect
import sys
import types
from itertools import count
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest

from crossfit import registry
from crossfit.cards import Float
from crossfit.extraction import ImageExtractor, TextExtractor
from crossfit.testing import cards, check_extractor, parametrize_with_checks
from crossfit.testing.bad_extractors import LetterCounts
from crossfit.testing.extractor_checks import CHECKS, ExtractorSubject
from crossfit.testing.items import planted_items
from crossfit.views import Ragged


def needs_a_file(entry):
    parameters = inspect.signature(registry.load(entry.name, entry.group)).parameters
    return not {"model", "path"}.isdisjoint(parameters) and not entry.card.test_params


BUILT_IN = [
    entry.name
    for entry in registry.entries("crossfit.extractors")
    # Others need a file or a folder of the user.
    if entry.status == "ok" and not needs_a_file(entry)
]


@parametrize_with_checks(BUILT_IN)
def test_built_in_extractors_conform(check):
    check()


@pytest.mark.parametrize(
    ("card", "failing"),
    [
        (cards.LETTER_COUNTS, set()),
        (cards.CENTRES_BATCH, {"check_items", "check_neutral_parameters"}),
        (
            cards.UNSEEDED_NOISE,
            {
                "check_cache",
                "check_forms",
                "check_items",
                "check_neutral_parameters",
                "check_parameters",
                "check_pickle",
                "check_repeatable",
                "check_transform_learns_nothing",
            },
        ),
    ],
)
def test_bundled_extractors(card, failing):
    results = check_extractor(card)
    assert {r.name for r in results if r.status == "fail"} == failing | {"check_registered"}
    for result in results:
        assert result.description and len(result.description) <= 90
        assert bool(result.message) == (result.status != "pass")


def test_what_is_given_may_be_a_name_a_class_or_a_card():
    from crossfit.extraction import Characters

    for given in ("characters", Characters, registry.get("characters", "crossfit.extractors")):
        results = check_extractor(given, {"length": 9}, raise_on_failure=True, select="numbers")
        assert [result.status for result in results] == ["pass"]
    with pytest.raises(ValueError, match=r"add an entry point .* also pass the card"):
        check_extractor(LetterCounts)
    with pytest.raises(ValueError, match=r"LetterCounts cannot be constructed with \{'depth': 3\}"):
        check_extractor(cards.LETTER_COUNTS, {"depth": 3})
    with pytest.raises(TypeError, match="expected an extractor's class, its ExtractorCard or its"):
        check_extractor(3)


# ---- every check can fail ---------------------------------------------------------------


def _mutant(base=LetterCounts, card=None, **changes):
    """Return a subject whose class has replaced methods, and its card."""
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))
    made = type("Mutant", (base,), {"__module__": home.__name__, **changes})
    home.Mutant = made
    known = {"name": "mutant", "target": "crossfit_mutants:Mutant", **(card or {})}
    return ExtractorSubject(made, dataclasses.replace(cards.LETTER_COUNTS, **known), {})


def _with(card=None, **changes):
    return lambda: _mutant(LetterCounts, card, **changes)


def _counts(self, batch):
    return LetterCounts._extract(self, batch)


_calls = count()


def _drifts(self, X):
    return LetterCounts.transform(self, X) + np.float32(next(_calls))


def _seeds(self, batch):
    np.random.seed(0)
    return _counts(self, batch)


def _remembers(self, X):
    self.seen = getattr(self, "seen", 0) + len(X)
    return LetterCounts.transform(self, X) + np.float32(self.seen > 9)


def _wide(self):
    return 25


def _learns(self, items, y):
    self.mean_ = np.mean([len(item) for item in items])


def _answers_anyway(self):
    return True


def _writes(self, X):
    if isinstance(X, list):
        X[0] = X[0].upper()
    return LetterCounts.transform(self, X)


def _derives(self, scale=1.0, batch_size=4, cache=True):
    self.scale, self.batch_size, self.cache = 2 * scale, batch_size, cache


def _lambda(self, X, y=None):
    self.rule_ = lambda value: value
    return self


def _list_only(self, X):
    if isinstance(X, tuple):
        X = list(reversed(X))
    return LetterCounts.transform(self, X)


def _takes_anything(self, X):
    found = X if isinstance(X, (list, tuple)) else [X]
    return [str(item) for item in found] or [""]


def _another_key(self):
    return str(next(_calls))


def _batch_counts(self, batch):
    return _counts(self, batch) + np.float32(self.batch_size == 3)


def _infinite(self, batch):
    return _counts(self, batch) / np.float32(0)


class _Colour(ImageExtractor):
    """Mean colour of a picture."""

    def __init__(self, batch_size=4):
        self.batch_size = batch_size

    def _extract(self, batch):
        return np.stack([image.mean((0, 1)) for image in batch]).astype(np.float32)


def _ignores_files(self, item):
    return np.zeros((2, 2, 3), np.uint8) if Path(item).suffix == ".png" else item


def _no_content(self, item):
    return str(item).encode()


OF_FILES = {"modality": "image", "inputs": ("paths",)}
MUTANTS = [
    ("check_card", _with({"name": "Mutant_Two"}), "not normalised"),
    ("check_registered", _with(), "no installed card"),
    ("check_what_it_takes_and_gives", _with({"needs_fit": True}), "requires_fit is False"),
    ("check_what_it_takes_and_gives", _with({"outputs": ("regions",)}), "strings gave vectors"),
    ("check_what_it_takes_and_gives", _with({"inputs": ("strings", "samples")}), "expects texts"),
    ("check_numbers", _with(_extract=_infinite), "finite"),
    ("check_numbers", _with(_n_outputs=_wide), "n_features_out_ is 25"),
    ("check_search_space", _with({"search_space": {"depth": Float(0, 1)}}), "search_space: .*dep"),
    ("check_parameters", _with(__init__=_derives), "does not set or modifies|gives|differs"),
    ("check_not_fitted", _with({"needs_fit": True}, _fit=_learns,
                               __sklearn_is_fitted__=_answers_anyway), "no error was raised"),
    ("check_pickle", _with(fit=_lambda), None),
    ("check_repeatable", _with(transform=_drifts), "a second transform"),
    ("check_repeatable", _with(_extract=_seeds), "numpy.random"),
    ("check_transform_learns_nothing", _with(transform=_remembers), "after others"),
    ("check_inputs_unchanged", _with(transform=_writes), "were modified"),
    ("check_forms", _with(transform=_list_only), "a tuple"),
    ("check_cache", _with(_weights_id=_another_key), None),
    ("check_neutral_parameters", _with(_extract=_batch_counts), "batch_size=3"),
    ("check_wrong_items", _with(_as_items=_takes_anything), "no error was raised"),
    (
        "check_wrong_files",
        lambda: _mutant(_Colour, OF_FILES, _load=_ignores_files, _content=_no_content),
        "a missing file: expected FileNotFoundError or ValueError, but no error was raised",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mutant", "message"), MUTANTS)
def test_every_check_fails_on_an_extractor_that_breaks_it(name, mutant, message):
    (check,) = [check for check in CHECKS if check.__name__ == name]
    with pytest.raises(Exception, match=message) as caught:
        check(mutant())
    assert not isinstance(caught.value, SkipTest)


def test_every_check_has_an_extractor_that_breaks_it():
    broken = {name for name, _, _ in MUTANTS}
    # CentresBatch fails the first; slow plugins are tested in test_kit.py.
    others = {"check_items", "check_listing", "check_bundle"}
    assert broken | others == {check.__name__ for check in CHECKS}


def test_a_cache_key_of_one_process_fails(tmp_path, monkeypatch):
    text = (
        "from crossfit.testing.bad_extractors import LetterCounts\n"
        "class Salted(LetterCounts):\n"
        "    def fingerprint(self):\n"
        "        return str(hash('text'))  # of another seed in another process\n"
    )
    (tmp_path / "crossfit_salted.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    card = dataclasses.replace(cards.LETTER_COUNTS, target="crossfit_salted:Salted")
    (result,) = check_extractor(card, select="check_cache")
    assert result.message == "the cache key differs in another process"


def test_a_bundle_that_forgets_fails(monkeypatch):
    from crossfit.extraction import Tokens

    subject = ExtractorSubject(Tokens, registry.get("tokens", "crossfit.extractors"), {})
    (check,) = [check for check in CHECKS if check.__name__ == "check_bundle"]
    check(subject)
    restore = Tokens.__crossfit_restore__

    def forgets(self, state, arrays):
        restore(self, {**state, "vocabulary_": state["vocabulary_"][:4]}, arrays)

    monkeypatch.setattr(Tokens, "__crossfit_restore__", forgets)
    with pytest.raises(AssertionError, match="features of a bundle"):
        check(subject)


# ---- items ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "modality"),
    [
        ("pixels", "image"),
        ("paths", "image"),
        ("paths", "audio"),
        ("paths", "text"),
        ("strings", "text"),
        ("samples", "audio"),
        ("sequence", "text"),
    ],
)
def test_planted_items_differ_and_come_back(kind, modality, tmp_path):
    made = [
        planted_items(kind, modality, 32, np.random.default_rng(0), tmp_path / str(i))
        for i in range(2)
    ]
    for items in made:
        assert len(items) == 32
    contents = [
        [Path(item).read_bytes() if kind == "paths" else np.asarray(item).tobytes() for item in m]
        if kind != "strings"
        else m
        for m in made
    ]
    assert contents[0] == contents[1] and len(set(contents[0])) == 32
    assert isinstance(made[0], Ragged) == (kind == "sequence")


def test_files_that_the_kit_cannot_make_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"files for .* not 'smell'; set make_inputs of the card"):
        planted_items("paths", "smell", 3, np.random.default_rng(0), tmp_path)


def test_make_inputs_of_an_extractor(monkeypatch):
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))

    def make(rng, n):
        return [f"text {i} of {rng.integers(1000)}" for i in range(n)]

    monkeypatch.setattr(home, "texts", make, raising=False)
    monkeypatch.setattr(home, "few", lambda rng, n: ["one"], raising=False)
    card = dataclasses.replace(cards.LETTER_COUNTS, inputs=(), make_inputs="crossfit_mutants:texts")
    subject = ExtractorSubject(LetterCounts, card, {})
    assert len(subject.train) == 24 and subject.test[0].startswith("text 24")
    results = check_extractor(card)
    assert {r.name for r in results if r.status == "fail"} == {"check_registered"}
    wrong = dataclasses.replace(card, make_inputs="crossfit_mutants:few")
    with pytest.raises(ValueError, match=r"make_inputs of the card 'letter-c.*32 items, got 1"):
        check_extractor(wrong)
    with pytest.raises(ValueError, match=r"'letter-counts' must name .* but inputs is empty"):
        check_extractor(dataclasses.replace(card, make_inputs=None))


class Words(TextExtractor):
    """Return the ids of the words of the training texts, ragged."""

    def _fit(self, items, y):
        self.words_ = tuple(sorted({word for item in items for word in item.split()}))

    def _extract(self, batch):
        return [
            np.array([1 + self.words_.index(w) if w in self.words_ else 0 for w in t.split()])
            for t in batch
        ]

    def _collect(self, rows):
        return Ragged.from_list(rows)


def test_an_extractor_that_learns_and_is_ragged_passes():
    card = {"needs_fit": True, "outputs": ("tokens",)}
    results = check_extractor(_mutant(Words, card).card)
    assert {r.name for r in results if r.status == "fail"} == {"check_registered"}
    assert {"check_not_fitted", "check_items"} <= {r.name for r in results if r.status == "pass"}
