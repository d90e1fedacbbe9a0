"""Bundles made to take the place of code, or to fill memory and time, all with correct hashes."""

import hashlib
import json
import re
import struct
import subprocess
import sys
import textwrap
import zipfile
from numbers import Integral
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils._param_validation import Interval

from crossfit import RetrievalScorer, registry
from crossfit._files import draft_of
from crossfit.cards import MethodCard
from crossfit.extraction import FisherVector, GridFeatures, Tokens
from crossfit.persistence import BundleError, files, load, save
from crossfit.retrieval import ApproximateIndex
from crossfit.views import Ragged


def holding(value):
    """Return an estimator with one additional fitted attribute, which is saved as it is."""
    model = RetrievalScorer()
    model.held_ = value
    return model


def forge(bundle, edit=None, arrays=None):
    """Change a bundle and compute its hashes again, as an attacker would."""
    content = json.loads((bundle / "manifest.json").read_bytes())
    content.pop("sha256")
    if edit is not None:
        edit(content)
    if arrays is not None:
        next(bundle.glob("*.npz")).unlink()
        digest = hashlib.sha256(arrays).hexdigest()
        name = f"arrays-{digest[:16]}.npz"
        (bundle / name).write_bytes(arrays)
        content["arrays"] = {"file": name, "size": len(arrays), "sha256": digest}
    (bundle / "manifest.json").write_bytes(files.signed(content))
    return bundle


def held(value):
    return lambda content: content["model"]["state"].update(held_=value)


def raw_manifest(bundle, find, put):
    """Insert a text into a manifest, because json would take long to write it."""
    content = json.loads((bundle / "manifest.json").read_bytes())
    content.pop("sha256")
    plain = json.dumps(content).replace(find, put)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    (bundle / "manifest.json").write_text(f'{{"sha256": "{digest}", {plain[1:]}\n')
    return bundle


def archive(path, members):
    with zipfile.ZipFile(path, "w") as made:
        for name, content in members:
            made.writestr(name, content)
    return path.read_bytes()


def header(shape, descr):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def outcome(bundle, more=2**29, imports="", timeout=60):
    """Load in a separate process with a limit of memory, and return its output."""
    code = f"""
        import resource, sys
        import numpy, scipy.sparse, sklearn.pipeline, sklearn.multiclass, sklearn.linear_model
        from crossfit import registry, persistence
        {imports}
        registry.entries()
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + {more},) * 2)
        try:
            print("loaded", type(persistence.load({str(bundle)!r})).__name__)
        except persistence.BundleError as error:
            print("BundleError", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout) < 3000
    return done.stdout.strip()


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")

# ---- time and memory -----------------------------------------------------------------------------

SAME = [(2**61 - 1) * i for i in range(60_000)]  # all of them have the hash 0


@linux
@pytest.mark.parametrize(
    "value",
    [
        {"$": "set", "items": SAME},
        {"$": "frozenset", "items": [{"$": "tuple", "items": [0, i]} for i in SAME]},
        {"$": "dict", "items": [[i, 0] for i in SAME]},
    ],
    ids=lambda value: value["$"],
)
def test_keys_that_share_their_hash_are_refused(tmp_path, value):
    bundle = forge(save(holding(1), tmp_path / "bundle"), held(value))
    assert "60000 keys of a set or dict have the same hash" in outcome(bundle)


def test_keys_that_share_their_hash_are_refused_on_saving_and_others_are_not(tmp_path):
    with pytest.raises(BundleError, match="65 keys of a set or dict have the same hash"):
        save(holding({"a": set(SAME[:65])}), tmp_path / "bundle")
    many = {-1, -2, *range(50_000), *map(str, range(50_000)), *(i / 7 for i in range(50_000))}
    assert load(save(holding(many), tmp_path / "many")).held_ == many


@linux
@pytest.mark.parametrize("wrong", [False, True])
def test_long_keys_around_many_values_cost_no_more_than_they_are(tmp_path, wrong):
    bundle = save(holding("HERE"), tmp_path / "bundle")
    keys = [f"{i}" * 5000 for i in range(10, 95)]
    last = '{"$": "nothing"}' if wrong else "0"
    nested = "".join(f'{{"{key}": ' for key in keys) + f"[{'0, ' * 10**6}{last}]" + "}" * len(keys)
    said = outcome(raw_manifest(bundle, '"HERE"', nested))
    assert said == "loaded RetrievalScorer" if not wrong else "not a kind of value" in said


@linux
@pytest.mark.parametrize(
    "unit, says",
    [
        ("[]", "16666668 lists and objects"),
        ("{}", "16666668 lists and objects"),
        ('{"$": "tuple", "items": []}', "lists and objects"),
        ("0", "values"),
        ('""', "values"),
    ],
)
def test_manifests_of_small_things_are_refused_before_they_are_read(tmp_path, unit, says):
    bundle = save(holding("HERE"), tmp_path / "bundle")
    many = ", ".join([unit] * (50 * 10**6 // (len(unit) + 1)))
    said = outcome(raw_manifest(bundle, '"HERE"', f"[{many}]"))
    assert said.startswith("BundleError") and says.split()[-1] in said


@linux
@pytest.mark.parametrize("name", ["manifest.json", "arrays"])
@pytest.mark.parametrize("honest", [False, True])
def test_huge_sparse_files_are_refused_before_they_are_read(tmp_path, name, honest):
    bundle = save(holding(np.ones(3)), tmp_path / "bundle")
    path = next(bundle.glob(f"{name}*"))
    with open(path, "r+b") as stream:
        stream.truncate(2**36)
    if honest and name == "arrays":
        forge(bundle, lambda content: content["arrays"].update(size=2**36))
    said = outcome(bundle, timeout=30)
    assert said.startswith("BundleError")
    if honest:
        assert str(2**36) in said


def test_max_bytes_is_the_callers_word(tmp_path):
    bundle = save(holding(np.ones(1000)), tmp_path / "bundle")
    with pytest.raises(BundleError, match="max_bytes is 4000; increase it if you trust"):
        load(bundle, max_bytes=4000)
    assert load(bundle, max_bytes=10_000).held_.sum() == 1000
    with pytest.raises(ValueError, match="max_bytes"):
        load(bundle, max_bytes="1 GB")


@linux
@pytest.mark.parametrize(
    "shape, descr",
    [("(4611686018427387904,)", "<U0"), ("(3,)", "|S0"), ("(4611686018427387904, 0)", "<f8")],
)
def test_arrays_of_no_bytes_and_endless_rows_are_refused(tmp_path, shape, descr):
    bundle = save(holding(np.ones(3)), tmp_path / "bundle")
    made = archive(tmp_path / "forged.npz", [("arr_0.npy", header(shape, descr))])
    assert "BundleError" in outcome(forge(bundle, arrays=made))


@pytest.mark.parametrize("shape", [[2**62, 0], [0, 2**62], [-1], [2, -1], [3]])
def test_shapes_of_objects_are_held_against_them(tmp_path, shape):
    items = ["a", "b"] if 0 not in shape else []
    bundle = save(holding(1), tmp_path / "bundle")
    forge(bundle, held({"$": "objects", "shape": shape, "items": items}))
    with pytest.raises(BundleError, match=r"held_'\]"):
        load(bundle)


def test_strings_of_no_length_and_empty_arrays_are_kept(tmp_path):
    none = np.zeros(3, np.dtype([("a", "U0")]))["a"]
    assert none.dtype.itemsize == 0
    model = holding([none, np.zeros((0, 7)), np.zeros((10**6, 0)), np.empty((0, 2), object)])
    strings, *empty = load(save(model, tmp_path / "bundle")).held_
    assert strings.tolist() == ["", "", ""]
    assert [part.shape for part in empty] == [(0, 7), (10**6, 0), (0, 2)]
    with pytest.raises(BundleError, match="too many rows"):
        save(holding(np.zeros((2**40, 0))), tmp_path / "endless")


def test_a_sparse_matrix_wider_than_any_is_refused(tmp_path):
    import scipy.sparse as sp

    bundle = save(holding(sp.csr_array(np.eye(3))), tmp_path / "bundle")
    forge(bundle, lambda content: content["model"]["state"]["held_"].update(shape=[3, 2**50]))
    with pytest.raises(BundleError, match="too wide"):
        load(bundle)


@linux
def test_a_directory_of_too_many_arrays_is_refused(tmp_path):
    bundle = save(holding(1), tmp_path / "bundle")
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", *[0] * 18)
    many = entry * 400_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(many), 0, 0)
    assert "too many arrays" in outcome(forge(bundle, arrays=many + end), more=2**28)
    # The same behind a record for files of more than two gigabytes, and one that leads elsewhere.
    for at in (len(many), 0):
        large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 0, 0, len(many), 0)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
        said = outcome(forge(bundle, arrays=many + large + locator + short), more=2**28)
        assert ("too many arrays" if at else "not written by crossfit") in said


def test_files_of_more_than_two_gigabytes_have_another_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    bundle = save(holding([np.ones(5), np.zeros(2)]), tmp_path / "bundle")
    assert b"PK\6\6" in next(bundle.glob("*.npz")).read_bytes()
    assert load(bundle).held_[0].sum() == 5


@linux
def test_a_crowd_of_estimators_is_refused(tmp_path):
    bundle = save(holding(RetrievalScorer()), tmp_path / "bundle")

    def edit(content):
        state = content["model"]["state"]
        state["held_"] = [state["held_"]] * 20_000

    assert "more than 8192 estimators" in outcome(forge(bundle, edit))
    with pytest.raises(BundleError, match="more than 8192 estimators"):
        save(
            holding([OneVsRestClassifier(RetrievalScorer()) for _ in range(9000)]),
            tmp_path / "crowd",
        )


def test_a_manifest_beyond_the_limits_is_refused_on_saving(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CONTAINERS", 1000)
    with pytest.raises(BundleError, match=r"the model cannot be saved: its manifest has .* lists"):
        save(holding([[]] * 1000), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_types_that_are_no_list_of_types_are_refused(tmp_path):
    bundle = save(holding(1), tmp_path / "bundle")
    for types in ([], {f"a:{i}": {"distribution": "a", "version": "1"} for i in range(10**4)}):
        forge(bundle, lambda content, types=types: content.update(types=types))
        with pytest.raises(BundleError, match="does not list the types"):
            load(bundle)


# ---- parameters ----------------------------------------------------------------------------------


class Crashes(BaseEstimator):
    """Return values that compiled code would use without a check."""

    _parameter_constraints = {"n_links": [Interval(Integral, 2, 100, closed="both")]}

    def __init__(self, n_links=2):
        self.n_links = n_links

    def __crossfit_state__(self):
        return {}, {"rows": np.ones(2)}

    def __crossfit_restore__(self, state, arrays):
        raise AssertionError(f"{self.n_links} came as far as this")


@pytest.fixture
def registered(monkeypatch):
    def register(cls):
        target = f"{cls.__module__}:{cls.__qualname__}"
        card = MethodCard(api=1, name=cls.__name__.lower(), target=target, summary="for a test")
        entry = registry.Entry("crossfit.methods", card.name, "crossfit-custom", "1", "ok", card)
        found = registry.entries()
        monkeypatch.setattr(registry, "entries", lambda group=None: (*found, entry))
        monkeypatch.setitem(sys.modules, cls.__module__, sys.modules[__name__])
        return cls

    return register


@pytest.mark.parametrize("n_links", [1, 0, -1, 10**9, "2", None, 2.5])
def test_a_parameter_that_its_class_refuses_is_refused_before_anything_is_made_of_it(
    tmp_path, registered, n_links
):
    registered(Crashes)
    bundle = save(Crashes(), tmp_path / "bundle")
    forge(bundle, lambda content: content["model"]["params"].update(n_links=n_links))
    with pytest.raises(BundleError, match=r"model: The 'n_links' parameter of Crashes must be"):
        load(bundle)
    with pytest.raises(BundleError, match="cannot be saved: model: The 'n_links' parameter"):
        save(Crashes(n_links), tmp_path / "new")


@linux
@pytest.mark.parametrize("change", [{"n_links": n} for n in (1, 0, -1, 10**9)]
                         + [{"ef_construction": -1}, {"ef_search": 2**40}])  # fmt: skip
def test_an_index_that_would_end_the_process_is_refused(tmp_path, change):
    pytest.importorskip("faiss")
    index = ApproximateIndex().add(np.random.default_rng(0).normal(size=(20, 4)))
    bundle = save(index, tmp_path / "bundle")
    forge(bundle, lambda content: content["model"]["params"].update(change))
    said = outcome(bundle, imports="import faiss, crossfit.retrieval")
    assert f"BundleError the bundle {bundle} is rejected: model: " in said


# ---- drafts ----


def of_a_process_that_has_ended(draft):
    return draft.with_name(re.sub(r"-\d+-\d+-(\w{16})$", r"-999999999-1-\1", draft.name))


def test_what_killed_savings_left_goes_and_what_living_ones_write_stays(tmp_path):
    bundle = tmp_path / "bundle"
    (tmp_path / ".bundle-notes").mkdir()
    with draft_of(bundle, Path.mkdir) as living:
        dead = of_a_process_that_has_ended(living)
        dead.mkdir()
        (dead / "arrays.npz").write_bytes(b"half")
        save(holding(1), bundle)
        assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / ".bundle-notes", bundle])
    for name in ("arrays", "manifest.json"):
        with draft_of(bundle / name, Path.touch) as draft:
            of_a_process_that_has_ended(draft).write_bytes(b"half")
    save(holding(np.ones(3)), bundle, overwrite=True)
    assert len(list(bundle.iterdir())) == 3 and load(bundle).held_.sum() == 3


def test_a_full_disk_is_one_sentence(tmp_path):
    resource = pytest.importorskip("resource")
    bundle = save(holding(np.ones(3)), tmp_path / "bundle")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        for folder, overwrite in ((tmp_path / "new", False), (bundle, True)):
            with pytest.raises(OSError, match=r"^cannot write the bundle to '.*': the file is"):
                save(holding(np.ones(5000)), folder, overwrite=overwrite)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert len(list(bundle.iterdir())) == 3 and load(bundle).held_.sum() == 3


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_parameter_constraints", "card", "fit", "_repr_html_", "__x"])
def test_no_value_takes_the_place_of_what_a_class_declares(tmp_path, name):
    bundle = save(GridFeatures(grid=2, size=16), tmp_path / "bundle")
    forge(bundle, lambda content: content["model"]["state"].update({name: {}}))
    with pytest.raises(BundleError, match=f"'{name}' is (no name|not the name) of a fitted"):
        load(bundle)


@pytest.mark.parametrize("name", ["batch", "grid", "_extract", "n.b_", "", "_x_"])
def test_an_extractor_takes_back_fitted_attributes_alone(tmp_path, name):
    tokens = save(Tokens(min_count=1).fit(["a b", "b c"]), tmp_path / "bundle")
    forge(tokens, lambda content: content["model"]["state"].update({name: 10**9}))
    with pytest.raises(BundleError, match=r"the name of a fitted attribute|no name of a fitted"):
        load(tokens)


@pytest.mark.parametrize("name", ["predict_proba", "_standardised", "n_features_in_", "other_"])
def test_the_mixture_of_a_fisher_vector_takes_its_own_arrays_alone(tmp_path, name):
    rng = np.random.default_rng(0)
    words = Ragged(rng.normal(size=(60, 3)), np.arange(0, 61, 6), {})
    fitted = FisherVector(n_components=2, max_iter=2).fit(words)
    bundle = save(fitted, tmp_path / "bundle")
    np.testing.assert_array_equal(load(bundle).transform(words), fitted.transform(words))

    def edit(content):
        arrays = content["model"]["arrays"]
        arrays[f"mixture_{name}"] = arrays.pop("mixture_weights_")

    with pytest.raises(BundleError, match="FisherVector expects the arrays mean_"):
        load(forge(bundle, edit))
