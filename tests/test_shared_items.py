"""Views of three modalities whose items several rows share, against rows that repeat them."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from crossfit import Channels, Views, evaluate
from crossfit.datasets import from_table
from crossfit.model_selection import PairKFold
from crossfit.scoring import relevance_of
from crossfit.subspace import CCA3V, GCCA, TCCA


def some(n=60, seed=0):
    """Return items of three views and the item of each row for the first two."""
    rng = np.random.default_rng(seed)
    pictures, sounds = rng.integers(0, 20, n), rng.integers(0, 30, n)
    pictures[:20], sounds[20:50] = np.arange(20), np.arange(30)  # every item is used
    Z = rng.normal(size=(20, 3))
    image = Z @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(20, 6))
    audio = rng.normal(size=(30, 5))
    text = Z[pictures] @ rng.normal(size=(3, 4)) + 0.1 * rng.normal(size=(n, 4))
    return {"image": image, "audio": audio, "text": text}, {"image": pictures, "audio": sounds}


def repeated(items, index):
    rows = {name: index.get(name, np.arange(part.shape[0])) for name, part in items.items()}
    return Views({name: part[rows[name]] for name, part in items.items()})


def partition(groups):
    return np.equal.outer(groups, groups).tolist()


# ---- construction ----------------------------------------------------------------------------


def test_rows_have_the_values_of_their_items():
    items, index = some()
    views = Views.from_items(items, index=index)
    naive = repeated(items, index)
    for name in views.names:
        np.testing.assert_array_equal(views[name], naive[name])
        values, row_to_item = views.distinct(name)
        assert len(values) == {"image": 20, "audio": 30, "text": 60}[name]
        np.testing.assert_array_equal(values[row_to_item], naive[name])
        # In order of first appearance.
        np.testing.assert_array_equal(views.first_rows(name), np.unique(row_to_item, True)[1])
        assert np.all(np.diff(views.first_rows(name)) > 0)
    part = views[[3, 4, 3]]
    np.testing.assert_array_equal(part["audio"], naive["audio"][[3, 4, 3]])


@given(
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=25),
)
def test_groups_are_the_connected_rows(pairs):
    a, b = np.array(pairs).T
    if not ((a >= 0).any() and (b >= 0).any()):
        return
    given_index = {}
    for name, codes in (("a", a), ("b", b)):  # -1 is the first of the sorted numbers
        given_index[name] = np.unique(codes, return_inverse=True)[1] - (codes < 0).any()
    items = {name: np.arange(index.max() + 1.0)[:, None] for name, index in given_index.items()}
    views = Views.from_items(items, text=np.arange(len(a)), index=given_index)
    # The naive way: merge groups until nothing changes.
    group = list(range(len(a)))
    changed = True
    while changed:
        changed = False
        for i in range(len(a)):
            for j in range(i):
                same = any(codes[i] == codes[j] >= 0 for codes in (a, b))
                if same and group[i] != group[j]:
                    group[i] = group[j] = min(group[i], group[j])
                    changed = True
    assert partition(views.groups) == partition(group)
    np.testing.assert_array_equal(views.present("a"), a >= 0)


def test_pairs_are_those_of_from_captions():
    texts, index = ["a", "b", "c", "d"], [1, 1, 0, 1]
    one = Views.from_items(image=np.eye(2), text=texts, index={"image": index})
    other = Views.from_captions(np.eye(2), texts, index)
    for name in one.names:
        assert [part.tolist() for part in one.distinct(name)] == [
            part.tolist() for part in other.distinct(name)
        ]
    assert partition(one.groups) == partition(other.groups)


def test_an_item_of_each_row_is_not_shared():
    views = Views.from_items(a=np.eye(3), b=np.eye(3), index={"a": [2, 0, 1]})
    np.testing.assert_array_equal(views["a"], np.eye(3)[[2, 0, 1]])
    assert repr(views) == repr(Views(a=np.eye(3), b=np.eye(3)))
    assert views.groups.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "index, error, message",
    [
        ([0, 1], TypeError, "index must be a mapping of view names to the item of each row"),
        ({"c": [0, 1, 1]}, ValueError, "index has an entry for 'c', but the views are a, b"),
        ({"a": [0, 1]}, ValueError, "the same number of rows, got a: 2, b: 3"),
        ({"a": [0, 1, 2]}, ValueError, r"index\['a'\] must lie between -1 and 1 for 2 items"),
        ({"a": [0.0, 1, 1]}, ValueError, "must be one integer per row.*float64"),
        ({"a": [-1, -1, -1]}, ValueError, "view 'a' is missing in every row"),
        ({"a": [-1, 0, 1], "b": [-1, 0, 1]}, ValueError, "row 0 lacks every view"),
    ],
)
def test_bad_indices(index, error, message):
    with pytest.raises(error, match=message):
        Views.from_items(a=np.eye(2), b=np.eye(3), index=index)


def test_items_without_a_row_are_left_out():
    with pytest.warns(UserWarning, match="1 of 3 items of view 'a' belong to no row"):
        views = Views.from_items(a=np.eye(3), b=np.eye(2), index={"a": [2, 0]})
    np.testing.assert_array_equal(views["a"], np.eye(3)[[2, 0]])


# ---- use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("method", [GCCA(3), TCCA(3), CCA3V(3, semantics=None)], ids=repr)
def test_a_fit_is_that_on_repeated_rows_and_items_are_scored_once(method, form):
    items, index = some()
    items = {name: form(part) for name, part in items.items()}
    views, naive = Views.from_items(items, index=index), repeated(items, index)
    shared, rows = method.fit(views).similarity, method.__class__(**method.get_params()).fit(naive)
    for query in views.names:
        for gallery in views.names:
            if query == gallery:
                continue
            found = shared(views, query=query, gallery=gallery)
            whole = rows.similarity(naive, query=query, gallery=gallery)
            at = np.ix_(views.first_rows(query), views.first_rows(gallery))
            np.testing.assert_allclose(found, whole[at], atol=1e-5)
            relevant = np.zeros(found.shape)
            for i, j in zip(views.distinct(query)[1], views.distinct(gallery)[1]):
                relevant[i, j] = 1
            np.testing.assert_array_equal(
                relevance_of(views, query, gallery, None).toarray(), relevant
            )
            by_items = evaluate(found, relevant, "mrr", ci=None).mean(None, "mrr")
            relevance = views.relevance(query, gallery)
            assert by_items == evaluate(found, relevance, "mrr", ci=None).mean(None, "mrr")


def test_folds_keep_linked_rows_together():
    items, index = some()
    index["audio"] = index["image"] // 2  # sounds link two pictures each
    items["audio"] = items["audio"][:10]
    views = Views.from_items(items, index=index)
    assert len(set(views.groups)) == 10
    for train, test in PairKFold(5).split(views):
        for name in index:
            assert not set(index[name][train]) & set(index[name][test])


# ---- channels ----------------------------------------------------------------------------------


def test_views_become_channels_of_one():
    items, index = some()
    views = Views.from_items(items, index=index)
    made = views.with_channels(scene=("image", "audio"))
    assert made.names == ("scene", "text") and made["scene"].names == ("image", "audio")
    for name in ("image", "audio"):
        np.testing.assert_array_equal(made["scene"][name], views[name])
    pairs = set(zip(index["image"], index["audio"], strict=True))
    assert len(made.distinct("scene")[0]) == len(pairs) < len(views)
    np.testing.assert_array_equal(made.groups, views.groups)
    other = views.with_channels(words=("text", "image"))
    assert other.names == ("words", "audio") and len(other.distinct("words")[0]) == 60
    assert isinstance(other["words"], Channels)


def test_channels_of_rows_that_lack_a_view():
    has = np.array([True, False, True])
    views = Views(a=np.eye(3), b=np.eye(3), c=np.eye(3), present={"a": has, "b": has})
    made = views.with_channels(both=("a", "b"))
    np.testing.assert_array_equal(made.present("both"), has)
    np.testing.assert_array_equal(made.complete()["both"]["b"], np.eye(3)[[0, 2]])
    with pytest.raises(ValueError, match=r"channels of 'x' must be present in the same rows; take"):
        views.with_channels(x=("a", "c"))


@pytest.mark.parametrize(
    "names, error, message",
    [
        ({"x": ("a", "q")}, ValueError, "no view 'q': the views are a, b, c"),
        ({"x": ("a", "a")}, ValueError, "a view can become one channel only, got a, a"),
        ({"c": ("a", "b")}, ValueError, "views must have different names"),
        ({"x": "ab"}, TypeError, r"expects names of views for 'x', such as .*, got 'ab'"),
        ({"x": ()}, TypeError, "expects names of views"),
    ],
)
def test_bad_channels(names, error, message):
    with pytest.raises(error, match=message):
        Views(a=np.eye(2), b=np.eye(2), c=np.eye(2)).with_channels(**names)


# ---- tables ------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    for name in ("p", "q"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
        (tmp_path / f"{name}.wav").write_bytes(name.encode() * 2)
    return tmp_path


def table(**columns):
    return {"file": ["p.png", "q.png", "p.png"], "en": ["cat", "dog", "tomcat"],
            "fr": ["chat", "chien", "matou"], **columns}  # fmt: skip


THREE = {"image": "file", "en": "en", "fr": "fr"}


def test_a_picture_of_several_rows_is_one_item_in_a_table_of_three_views(pictures):
    views = from_table(table(), views=THREE, root=pictures)["all"].views
    assert len(views) == 3 and views.groups.tolist() == [0, 1, 0]
    values, rows = views.distinct("image")
    assert [str(path).rsplit("/")[-1] for path in values] == ["p.png", "q.png"]
    assert rows.tolist() == [0, 1, 0]
    assert views["fr"].tolist() == ["chat", "chien", "matou"]


def test_several_captions_of_a_row_share_all_other_entries(pictures):
    given = table(en=[["cat", "feline"], ["dog"], ["tomcat"]])
    views = from_table(given, views=THREE, root=pictures)["all"].views
    assert views["en"].tolist() == ["cat", "feline", "dog", "tomcat"]
    assert views.distinct("fr")[0].tolist() == ["chat", "chien", "matou"]
    assert views.distinct("fr")[1].tolist() == [0, 0, 1, 2]
    assert views.distinct("image")[1].tolist() == [0, 0, 1, 0]
    assert views.groups.tolist() == [0, 0, 1, 0]


def test_pictures_and_sounds_of_a_table_are_both_shared(pictures):
    given = table(sound=["p.wav", "q.wav", "q.wav"])
    columns = {"image": "file", "audio": "sound", "text": "en"}
    views = from_table(given, views=columns, root=pictures)["all"].views
    assert views.distinct("audio")[1].tolist() == [0, 1, 1]
    assert views.groups.tolist() == [0, 0, 0]  # linked through the third row
    with pytest.raises(ValueError, match="groups must not split an item"):
        from_table({**given, "g": ["1", "2", "3"]}, views=columns, root=pictures, group="g")


def test_a_key_identifies_the_items_of_a_table_of_three_views():
    given = {"id": ["1", "2", "1"], "v": [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]],
             "en": ["cat", "dog", "tomcat"], "fr": ["chat", "chien", "matou"]}  # fmt: skip
    views = from_table(given, views={"image": "v", "en": "en", "fr": "fr"}, key="id")["all"].views
    assert views.distinct("image")[1].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="rows with the same 'id' must have the same image"):
        from_table({**given, "v": [[0.0], [1.0], [2.0]]}, key="id",
                   views={"image": "v", "en": "en", "fr": "fr"})  # fmt: skip


def test_two_columns_of_a_table_become_channels(pictures):
    columns = {"image": "file", "words": {"english": "en", "french": "fr"}}
    dataset = from_table(table(), views=columns, root=pictures)
    views = dataset["all"].views
    assert views.names == ("image", "words") and dataset.card.modalities == ("image", "words")
    assert views["words"].names == ("english", "french")
    assert views["words"]["french"].tolist() == ["chat", "chien", "matou"]
    assert views.distinct("image")[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "views, message",
    [
        ({"image": "file", "words": {"en": "en"}}, "view 'words' must have two channels or more"),
        ({"image": "file", "words": {"en": "en", "fr": 3}}, "each with the name of a column"),
        ({"words": {"en": "en", "fr": "fr"}}, "a pair needs two views or more, got words"),
        ({"image": "file", "w": {"en": "en", "x": "nein"}}, "the table has no column 'nein'"),
    ],
)
def test_bad_channels_of_a_table(pictures, views, message):
    with pytest.raises(ValueError, match=message):
        from_table(table(), views=views, root=pictures)


def test_an_empty_entry_of_a_channel_is_an_error(pictures):
    columns = {"image": "file", "words": {"english": "en", "french": "fr"}}
    with pytest.raises(ValueError, match="column 'fr' is empty in 1 of 3 rows"):
        from_table(table(fr=["chat", "", "matou"]), views=columns, root=pictures)


def test_a_file_in_two_splits_of_a_table_of_three_views(pictures):
    with pytest.raises(ValueError, match="is in the splits"):
        from_table(table(s=["train", "train", "test"]), views=THREE, root=pictures, split="s")
