"""The Dataset record, the look-up by name and the helpers of loaders."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from crossfit import registry
from crossfit.cards import API, DatasetCard
from crossfit.datasets import Dataset, Split, available, load
from crossfit.datasets.cards import EMOJI, FLICKR8K, WIKIPEDIA
from crossfit.datasets.record import check_counts, choose_subsets, content_hash, require
from crossfit.views import Views

CARDS = {card.name: card for card in (EMOJI, WIKIPEDIA, FLICKR8K)}


def small(n=3):
    return Split(Views(image=np.zeros((n, 2)), text=["a"] * n), np.arange(n))


def test_record_is_read_by_name_and_says_what_it_holds():
    ds = Dataset(EMOJI, {"train": small(4)}, ("a", "b"), "abc123")
    assert ds.name == "emoji" and ds["train"] is ds.splits["train"]
    assert len(ds["train"]) == 4
    np.testing.assert_array_equal(ds["train"].groups, np.arange(4))
    assert "train" in ds and "test" not in ds
    for word in ("'emoji'", "abc123", "2 classes", "train", "n=4", "with labels"):
        assert word in repr(ds)
    with pytest.raises(KeyError, match="has the splits train, not 'dev'"):
        ds["dev"]
    with pytest.raises(TypeError):
        iter(ds)


def test_record_survives_pickling():
    ds = pickle.loads(pickle.dumps(Dataset(EMOJI, {"train": small()}, ("a",), "r")))
    np.testing.assert_array_equal(ds["train"].y, np.arange(3))
    assert ds.card == EMOJI


def test_split_refuses_misaligned_labels_and_info():
    views = Views(image=np.zeros((3, 2)), text=["a"] * 3)
    with pytest.raises(ValueError, match=r"y must have one entry per row \(3\), got 2"):
        Split(views, np.arange(2))
    with pytest.raises(ValueError, match=r"name must have one entry per row \(3\), got 4"):
        Split(views, info={"name": np.arange(4)})


def test_content_hash_depends_on_every_part_and_its_boundaries(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"ab")
    assert content_hash(file) == content_hash(b"ab") == content_hash("ab")
    assert len({content_hash("ab"), content_hash("a", "b"), content_hash("b", "a")}) == 3
    assert len(content_hash("x")) == 12


def test_require_names_the_missing_file_and_the_source(tmp_path):
    (tmp_path / "here").touch()
    assert require(tmp_path, "here", card=WIKIPEDIA) == [tmp_path / "here"]
    with pytest.raises(FileNotFoundError) as caught:
        require(tmp_path, "here", "a", "b", "c", "d", card=WIKIPEDIA)
    message = str(caught.value)
    for part in ("a, b, c and 1 more", str(tmp_path), WIKIPEDIA.url, "CROSSFIT_DATA"):
        assert part in message
    assert "here," not in message


def test_choose_subsets():
    offered = {"train": 1, "dev": 2, "test": 3}
    assert choose_subsets(None, offered, FLICKR8K) == ("train", "dev", "test")
    assert choose_subsets(["test", "train"], offered, FLICKR8K) == ("train", "test")
    assert choose_subsets("dev", offered, FLICKR8K) == ("dev",)
    with pytest.raises(ValueError, match="must be some of train, dev, test, got 'val'"):
        choose_subsets(["val"], offered, FLICKR8K)
    with pytest.raises(ValueError, match="got none"):
        choose_subsets([], offered, FLICKR8K)


def test_check_counts():
    check_counts({"dev": 2}, {"train": 1, "dev": 2}, FLICKR8K)
    with pytest.raises(ValueError, match=r"train has 5, not 1 \(strict=False"):
        check_counts({"train": 5, "dev": 2}, {"train": 1, "dev": 2}, FLICKR8K)


def toy_loader(root, split, *, size=2):
    card = DatasetCard(api=API, name="toy", target="x:y", summary="", url="http://toy.org")
    return Dataset(card, {"train": small(size)}, revision=f"{root}|{split}")


def greedy_loader(root, split, **options):
    return toy_loader(root, f"{split} {sorted(options)}")


@pytest.fixture
def toy(monkeypatch):
    """Return a registry with the built-in data sets and one of a plugin."""
    made = DatasetCard(
        api=API,
        name="toy",
        target="somewhere:load",
        summary="toy",
        url="http://toy.org",
        splits=("standard", "hard"),
    )
    cards, loaders = CARDS | {"toy": made}, {"toy": toy_loader}
    monkeypatch.setattr(registry, "get", lambda name, group: cards[name])
    monkeypatch.setattr(
        registry,
        "load",
        lambda name, group: loaders.get(name) or registry.resolve_target(cards[name].target),
    )
    return loaders


def test_load_resolves_the_root(toy, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    inside = str(tmp_path / "toy")
    assert load("toy", tmp_path).revision == f"{inside}|standard"
    assert load("toy", inside).revision == f"{inside}|standard"
    assert load("toy", inside, split="hard").revision == f"{inside}|hard"
    monkeypatch.setenv("CROSSFIT_DATA", str(tmp_path))
    assert load("toy").revision == f"{inside}|standard"
    assert len(load("toy", size=5)["train"]) == 5


def test_load_says_what_is_wrong(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSFIT_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"http://toy\.org .* CROSSFIT_DATA"):
        load("toy")
    with pytest.raises(FileNotFoundError, match=r"root is .*absent"):
        load("toy", tmp_path / "absent")
    monkeypatch.setenv("CROSSFIT_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"CROSSFIT_DATA is .*absent"):
        load("toy")
    with pytest.raises(ValueError, match="can be split as standard, hard, got 'soft'"):
        load("toy", tmp_path, split="soft")
    with pytest.raises(TypeError, match="takes the options size, got sise"):
        load("toy", tmp_path, sise=3)
    toy["toy"] = greedy_loader
    assert load("toy", tmp_path, anything=1).revision.endswith("['anything']")


def test_load_needs_no_root_for_the_embedded_set(toy, monkeypatch):
    monkeypatch.setenv("CROSSFIT_DATA", "/nowhere at all")
    assert load("emoji", subsets="val").splits.keys() == {"val"}
    with pytest.raises(TypeError, match="takes the options subsets, got strict"):
        load("emoji", strict=False)


def test_targets_and_counts_of_the_cards():
    for card in CARDS.values():
        assert callable(registry.resolve_target(card.target))
        assert card.citation and card.licence and card.url.startswith("http")
    assert sum(EMOJI.counts.values()) == 1636
    assert sum(WIKIPEDIA.counts.values()) == 2866
    assert sum(FLICKR8K.counts.values()) == 8000


def test_built_in_sets_are_registered():
    names = {card.name for card in available()}
    assert names >= set(CARDS)
    assert list(load("emoji", subsets=["val"]).splits) == ["val"]


def test_listing_imports_no_array_library():
    code = (
        "import sys, crossfit.datasets, crossfit.datasets.cards\n"
        "assert not {'numpy', 'scipy', 'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_data_set_of_crossfit_is_in_the_tables_of_the_documentation():
    from pathlib import Path

    from crossfit import registry

    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for entry in registry.entries("crossfit.datasets"):
        if entry.distribution == registry.CORE:
            assert entry.card.url in page or not entry.card.url
            assert page.count(f"| `{entry.name}` | ") >= 1
            for split in entry.card.splits:
                assert f"`{split}`" in page
