"""Batches against plain indexing, for every kind of features."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from crossfit import Ragged, Views
from crossfit.neural import batching
from crossfit.neural.batching import Batches, PairData, batches_of, cut_tokens, store

CPU = torch.device("cpu")


def _take(values, at, n_ids=None):
    return store(values, n_ids).take(torch.tensor(at))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_dense_and_sparse_rows_are_taken_as_float32(rng):
    X = rng.normal(size=(7, 5))
    for given in (X, sp.csr_array(X), torch.tensor(X), np.asfortranarray(X)):
        held = store(given)
        values, mask = held.take(torch.tensor([3, 0, 3]))
        assert mask is None and values.dtype == torch.float32 and held.n_inputs == 5
        np.testing.assert_allclose(values, X[[3, 0, 3]].astype(np.float32))


def test_ragged_rows_are_padded_and_masked(rng):
    rows = [rng.normal(size=(k, 3)) for k in (2, 0, 5, 1)]
    ragged = Ragged.from_list(rows)
    expected, mask = ragged[[3, 0, 1]].padded()
    values, found = _take(ragged, [3, 0, 1])
    np.testing.assert_allclose(values, expected.astype(np.float32))
    np.testing.assert_array_equal(found, mask)
    assert _take(ragged, [1]).values.shape == (1, 1, 3)
    assert not _take(ragged, [1]).mask.any()
    assert store(ragged).n_inputs == 3


def test_token_ids_ragged_and_padded_are_the_same():
    padded = np.array([[4, 2, 0, 0], [0, 0, 0, 0], [7, 1, 5, 3], [2, 0, 0, 0]])
    ragged = Ragged.from_list([row[row > 0] for row in padded])
    for given in (padded, ragged, torch.tensor(padded), padded.astype(np.int32)):
        held = store(given)
        assert held.n_inputs == 8
        values, mask = held.take(torch.tensor([0, 1, 3]))
        # A text without words becomes one unknown word.
        assert values.tolist() == [[4, 2], [1, 0], [2, 0]] and values.dtype == torch.int64
        assert mask.tolist() == [[True, True], [True, False], [True, False]]


def test_unknown_ids_become_one_and_vocabularies_count():
    ids = np.array([[9, 2], [3, 0]])
    assert _take(ids, [0, 1], n_ids=4).values.tolist() == [[1, 2], [3, 0]]
    ragged = Ragged.from_list([[2], [3]], info={"vocabulary": ("<pad>", "<unk>", *"abcdefgh")})
    assert store(ragged).n_inputs == 10
    with pytest.raises(ValueError, match="at least 0, got -1"):
        store(np.array([[1, -1]]))


def test_pixels_stay_bytes_and_channels_are_taken_together(rng):
    pixels = rng.integers(0, 256, (4, 2, 2, 3), dtype=np.uint8)
    assert _take(pixels, [2]).values.dtype == torch.uint8
    views = Views(image={"map": rng.normal(size=(4, 3)), "objects": np.ones((4, 2, 6))})
    held = store(views["image"])
    taken = held.take(torch.tensor([1, 3]))
    assert list(taken) == ["map", "objects"] and taken["objects"].values.shape == (2, 2, 6)
    assert len(held) == 4 and held.nbytes == 4 * 4 * (3 + 12)


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="numbers"):
        store(np.array(["a", "b"], dtype=object))


def test_memory_mapped_features_are_not_copied(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.normal(size=(5, 3)).astype(np.float32))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    held = store(X)
    assert held.values.data_ptr() == X.__array_interface__["data"][0]


@pytest.mark.parametrize("kind", ["ragged", "tokens", "channels", "dense", "sparse"])
def test_batches_of_items_keep_to_their_size(rng, monkeypatch, kind):
    monkeypatch.setattr(batching, "_BATCH_NUMBERS", 200)
    rows = [rng.normal(size=(k, 5)) for k in (1, *[10] * 11)]
    ragged = Ragged.from_list(rows)
    given = {
        "ragged": ragged,
        "tokens": Ragged.from_list([np.arange(1, 1 + 50 * min(k, 1)) for k in range(12)]),
        "channels": Views(x={"a": ragged, "b": np.ones((12, 50))})["x"],
        "dense": rng.normal(size=(12, 10, 5)),
        "sparse": sp.csr_array(np.eye(12, 50)),
    }[kind]
    found = [
        list(each.values()) if isinstance(each, dict) else [each]
        for each in batches_of(store(given), CPU)
    ]
    assert {len(parts[0].values) for parts in found} == {2 if kind == "channels" else 4}
    assert all(sum(part.values.numel() for part in parts) <= 200 for parts in found)


@pytest.fixture
def captions(rng):
    images, texts = rng.normal(size=(4, 3)), rng.normal(size=(6, 2))
    views = Views.from_captions(images, texts, [0, 0, 1, 2, 2, 3])
    return views.with_groups([0, 0, 1, 2, 2, 1])


def test_batches_hold_every_row_once_with_its_items_groups_and_labels(captions):
    y = np.array([5, 5, 6, 7, 7, 8])
    data = PairData({n: store(captions.distinct(n)[0]) for n in captions.names}, captions, y, CPU)
    generator = torch.Generator().manual_seed(0)
    batches = Batches(data, 4, shuffle=True, generator=generator)
    seen = {"first": [], "second": []}
    for turn in seen:
        for batch in batches:
            for i in range(len(batch)):
                row = np.flatnonzero(
                    (
                        captions["text"].astype(np.float32) == batch.views["text"].values[i].numpy()
                    ).all(axis=1)
                )[0]
                seen[turn].append(row)
                image = batch.views["image"].values[i]
                np.testing.assert_allclose(image, captions["image"][row].astype(np.float32))
                assert batch.y[i] == y[row] and batch.groups[i] == captions.groups[row]
    assert sorted(seen["first"]) == sorted(seen["second"]) == list(range(6))
    assert seen["first"] != seen["second"]


def test_a_caption_of_the_same_image_is_a_positive_and_never_a_negative(captions):
    data = PairData(
        {n: store(captions.distinct(n)[0]) for n in captions.names}, captions, None, CPU
    )
    batch = data.batch(torch.arange(6))
    image = [0, 0, 1, 2, 2, 3]
    group = [0, 0, 1, 2, 2, 1]
    for i in range(6):
        for j in range(6):
            assert batch.positives[i, j] == (image[i] == image[j])
            # Rows 2 and 5 are in one group and share no item: neither.
            assert batch.negatives[i, j] == (group[i] != group[j])
    assert not (batch.positives & batch.negatives).any()


def test_a_last_batch_of_one_row_joins_the_one_before(rng):
    views = Views(image=rng.normal(size=(9, 2)), text=rng.normal(size=(9, 2)))
    data = PairData({n: store(views[n]) for n in views.names}, views, None, CPU)

    def sizes(**params):
        batches = Batches(data, **params)
        assert len(batches) == len(list(batches))
        return [len(batch) for batch in batches]

    assert sizes(batch_size=4) == [4, 5]
    assert sizes(batch_size=4, drop_last=True) == [4, 4]
    assert sizes(batch_size=5) == [5, 4]
    assert sizes(batch_size=9) == sizes(batch_size=100) == [9]
    assert sizes(batch_size=100, drop_last=True) == [9]
    assert sizes(batch_size=1) == [1] * 7 + [2]


@pytest.mark.parametrize("together", [2, 3, 9])
def test_captions_of_an_image_may_follow_each_other(rng, together):
    image = rng.permutation(np.repeat(np.arange(30), np.arange(30) % 5 + 1))
    views = Views.from_captions(rng.normal(size=(30, 2)), rng.normal(size=(len(image), 2)), image)
    data = PairData({n: store(views.distinct(n)[0]) for n in views.names}, views, None, CPU)
    rows = np.flatnonzero(image != 7)
    data = data.subset(rows)
    generator = torch.Generator().manual_seed(0)
    batches = Batches(data, len(rows), shuffle=True, together=together, generator=generator)
    orders = []
    for _ in range(2):
        (batch,) = batches
        orders.append(batch.item["text"].tolist())
        assert sorted(orders[-1]) == rows.tolist()
        given, owner = image[orders[-1]], batch.item["image"].numpy()
        _, sizes = np.unique(given, return_counts=True)
        runs = np.split(owner, np.flatnonzero(np.diff(owner)) + 1)
        # Two runs of one image may meet by chance.
        least = sum(-(-size // together) for size in sizes)
        assert 0.9 * least < len(runs) <= least
        assert len(owner) > len(runs)
    assert orders[0] != orders[1]
    generator.manual_seed(0)
    assert next(iter(batches)).item["text"].tolist() == orders[0]
    in_order = next(iter(Batches(data, len(rows), together=together)))
    assert in_order.item["text"].tolist() == rows.tolist()


# ---- one item that is much longer than the others ------------------------------------------------


def _ragged(lengths, rng):
    ids = rng.integers(1, 50, sum(lengths))
    return Ragged(ids, np.concatenate([[0], np.cumsum(lengths)]), {})


def test_one_long_item_does_not_lengthen_all_others():
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(5, 9, 3000), 3000, *rng.integers(5, 9, 3000)]
    items = store(_ragged(lengths, rng))
    batches = list(batches_of(items, CPU))
    padded = [part.values.shape[0] * part.values.shape[1] for part in batches]
    assert sum(padded) < 2 * sum(lengths) + 2**16 and max(padded) <= 2**16
    assert max(len(part.values) for part in batches) == 1024
    # In order, each exactly once.
    np.testing.assert_array_equal(
        np.concatenate([part.values[part.mask].numpy() for part in batches]), items.values.numpy()
    )


@pytest.mark.parametrize("longest", [8, 20])
def test_items_of_about_equal_length_come_in_the_batches_that_they_did(longest):
    rng = np.random.default_rng(0)
    lengths = rng.integers(longest // 2, longest + 1, 2500).tolist()
    sizes = [len(part.values) for part in batches_of(store(_ragged(lengths, rng)), CPU)]
    assert sizes == [1024, 1024, 452]


def test_wide_elements_of_one_long_item_leave_the_others_together():
    rng = np.random.default_rng(0)
    lengths = [4] * 200 + [3000] + [4] * 200
    regions = Ragged(
        rng.normal(size=(sum(lengths), 512)), np.concatenate([[0], np.cumsum(lengths)])
    )
    views = Views(
        image={"map": regions, "whole": rng.normal(size=(401, 3))}, text=np.ones((401, 2))
    )
    for values in (regions, views["image"]):
        sizes = [len(part["map"][0] if isinstance(part, dict) else part.values)
                 for part in batches_of(store(values), CPU)]  # fmt: skip
        assert sum(sizes) == 401 and len(sizes) < 6


@pytest.mark.parametrize("kind", ["ragged", "padded", "tensor"])
def test_texts_beyond_the_limit_are_cut_with_a_warning(kind):
    rng = np.random.default_rng(0)
    ragged = _ragged([3, 12, 5, 30], rng)
    given = ragged
    if kind != "ragged":
        given = ragged.padded()[0]
        given = torch.from_numpy(given) if kind == "tensor" else given
    with pytest.warns(
        UserWarning, match="^here: 2 of 4 texts have more than 5 words, the longest 30"
    ):
        cut = cut_tokens(given, 5, "here")
    items = store(cut)
    expected = [ragged.values[start : start + min(length, 5)]
                for start, length in zip(ragged.offsets, ragged.lengths)]  # fmt: skip
    np.testing.assert_array_equal(items.values.numpy(), np.concatenate(expected))
    assert items.lengths.tolist() == [3, 5, 5, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cut_tokens(ragged, 30, "here") is ragged
