"""`crossfit.diagnose` on planted pairs whose diagnosis is known, its result and its page."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import crossfit
from crossfit import Views, diagnose, registry
from crossfit.diagnosis import advice as advising
from crossfit.diagnosis import run
from crossfit.metrics import PairedTest
from crossfit.model_selection import PairKFold

HOSTILE = "</td><script>window.pwned = 1</script> & $x_1$"


def pairs(n=300, noise=0.3, seed=0, shared=20, p=40, q=30):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, shared))
    image = Z @ rng.normal(size=(shared, p)) + noise * rng.normal(size=(n, p))
    text = Z @ rng.normal(size=(shared, q)) + noise * rng.normal(size=(n, q))
    return Views(image=image, text=text)


def taken(views, rows):
    """Return rows, each in a group of its own."""
    return Views(image=views["image"][rows], text=views["text"][rows])


def on(found, topic):
    (advice,) = (each for each in found.advice if each.topic == topic)
    return advice


@pytest.fixture(scope="module")
def aligned():
    return diagnose(pairs())


# ---- recommendations -----------------------------------------------------------------------------


def test_aligned_pairs_are_as_they_should_be(aligned):
    assert on(aligned, "relation").level == on(aligned, "wrong pairs").level == "fine"
    assert on(aligned, "method").do.startswith("Align: begin with cca (a ridge of ")
    names = {entry.name for entry in registry.entries("crossfit.methods")}
    assert {
        "cca",
        "ridge-map",
        "reduced-rank",
        "identity",
    } <= names  # the methods that advice may name
    assert aligned.wrong.share < 0.05 and aligned.canonical.n_above == 20
    assert aligned.cka.above_chance and aligned.neighbours.above_chance
    assert aligned.notes == ()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unrelated_views_are_reported_first_and_nothing_is_recommended_for_them(seed):
    rng = np.random.default_rng(seed)
    found = diagnose(Views(image=rng.normal(size=(300, 20)), text=rng.normal(size=(300, 12))))
    assert found.advice[0].topic == "relation" and found.advice[0].level == "stop"
    assert {each.topic for each in found.advice} == {"relation", "duplicates"}
    assert found.wrong.share > 0.7


def test_rows_in_another_order_are_unrelated():
    views = pairs()
    order = np.random.default_rng(1).permutation(300)
    assert diagnose(views.replace(text=views["text"][order])).advice[0].level == "stop"


def test_swapped_pairs_are_counted_and_listed():
    views = pairs(400)
    wrong = np.random.default_rng(2).permutation(400)[:40]
    text = views["text"].copy()
    text[wrong] = text[np.roll(wrong, 1)]
    found = diagnose(views.replace(text=text))
    advice = on(found, "wrong pairs")
    assert advice.level == "do"
    k = int(
        re.search(r"Read the first (\d+) of the list: about as many of 400 pairs", advice.do)[1]
    )
    assert 30 <= k <= 55
    assert np.isin(found.suspicious[:40], wrong).mean() > 0.9
    assert [each["row"] for each in found.suspects(40)] == found.suspicious[:40].tolist()
    assert len(found.suspects()) == 400


def test_duplicates_are_offered_as_groups_that_the_splitters_keep_together():
    views = pairs()
    twice = taken(views, np.r_[0:300, 10:40])
    noise = 0.3 * np.random.default_rng(3).normal(size=(330, 40))
    twice = twice.replace(image=twice["image"] + noise)
    found = diagnose(twice)
    advice = on(found, "duplicates")
    assert advice.level == "do" and advice.do.startswith("Split by groups")
    assert "60 of 330 image items have a near-duplicate" in advice.reason
    assert found.n_groups == 300 and found.n_merged == 30
    assert np.array_equal(found.groups[300:], found.groups[10:40])
    assert len(np.unique(found.groups[:300])) == 300
    grouped = twice.with_groups(found.groups)
    for train, test in PairKFold(3).split(grouped):
        assert not set(found.groups[train]) & set(found.groups[test])
    strict = diagnose(twice, threshold={"image": 0.9999})
    assert on(strict, "duplicates").reason.startswith("0 of 330 image items")
    assert "60 of 330 text items" in on(strict, "duplicates").reason


def test_duplicates_across_splits_come_first_and_test_pairs_decide_nothing():
    views = pairs()
    views = taken(views, np.r_[0:300, 0:20])
    text = views["text"].copy()
    text[250:] = text[250:][::-1]  # pairs of the test split are wrong
    views = views.replace(text=text)
    splits = np.where(np.arange(320) < 250, "train", "test")
    found = diagnose(views, splits=splits)
    assert found.advice[0].topic == "duplicates" and found.advice[0].level == "stop"
    assert "20 image items of test in train" in found.advice[0].reason
    assert found.rows.tolist() == list(range(250)) and len(found.groups) == 320
    assert found.wrong.share < 0.05 and max(found.suspicious) < 250
    only = diagnose(views[:250])
    assert only.recovered["CCA"].value == pytest.approx(found.recovered["CCA"].value, abs=0.05)


def test_items_that_are_mostly_linked_are_not_used_for_groups():
    views = pairs()
    noise = 1e-3 * np.random.default_rng(4).normal(size=(300, 6))
    classes = np.repeat(np.eye(6), 50, axis=0) + noise
    found = diagnose(Views(image=views["image"], text=np.hstack([classes, classes])))
    assert found.indistinct == ("text",) and found.n_groups == 300
    assert "raise the threshold" in on(found, "duplicates").reason


def test_views_that_are_aligned_already_are_recommended_as_they_are():
    rng = np.random.default_rng(5)
    Z = rng.normal(size=(200, 150))
    found = diagnose(Views(image=Z, text=Z + 3 * rng.normal(size=Z.shape)))
    assert on(found, "method").do.startswith(
        "These views are aligned already: begin with identity, "
    )


def test_a_regression_is_recommended_where_it_recovers_more():
    way = diagnose(pairs(noise=15))
    ways = []
    for each in way.recoveries:
        if each.name == "regression image → text":  # as if it recovered every pair
            found = each.evaluation.per_query
            ones = {key: np.ones_like(values) for key, values in found.items()}
            perfect = replace(each.evaluation, per_query=found.holding(ones))
            each = replace(each, evaluation=perfect)
        ways.append(each)
    known = SimpleNamespace(recoveries=ways, recovered=way.recovered)
    (name,) = {each.method for each in ways if each.name == "regression image → text"}
    assert advising._method(known).do == f"Predict: begin with {name}, the regression image → text."


@pytest.mark.parametrize(
    ("low", "difference", "level", "words"),
    [(0.02, 0.05, "do", "More pairs help."), (-0.01, 0.05, "fine", "help little"),
     (0.001, 0.002, "fine", "help little")],
)  # fmt: skip
def test_more_pairs_are_recommended_by_their_gain(aligned, low, difference, level, words):
    gain = PairedTest(difference, low, 0.1, 0.01, 50)
    curve = replace(aligned.curve, gain=gain, sizes=(100, 200), estimates=aligned.curve.estimates)
    found = advising._pairs(SimpleNamespace(curve=curve))
    assert found.level == level and words in found.do


def test_the_curve_that_has_not_flattened_needs_more_pairs():
    steep = diagnose(pairs(400, noise=6.0, shared=30, p=150, q=100))
    assert on(steep, "pairs").do == "More pairs help."
    assert on(diagnose(pairs(100)), "pairs").do == "Collect more pairs, and diagnose them again."


# ---- the call ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_diagnosis_and_no_global_state_changes(aligned):
    before = str(np.random.get_state())  # noqa: NPY002
    again = diagnose(pairs(), random_state=0)
    assert before == str(np.random.get_state())  # noqa: NPY002
    assert repr(again.figures()) == repr(aligned.figures())
    assert np.array_equal(again.suspicious, aligned.suspicious)
    other = diagnose(pairs(), random_state=np.random.RandomState(3))
    assert repr(other.figures()) != repr(aligned.figures())


def test_many_pairs_are_drawn_with_a_note_and_all_of_them_are_ranked():
    views = pairs(400)
    found = diagnose(views, max_pairs=100)
    assert len(found.wrong.scores) == 400 and len(found.groups) == 400
    assert found.notes == (
        "Methods were fitted and compared on 100 of 400 pairs, drawn by whole groups with seed 0; "
        "near-duplicates are of all pairs, and all pairs are ranked.",
    )


def test_very_wide_and_sparse_views_are_projected_with_a_note(monkeypatch):
    import scipy.sparse as sp

    monkeypatch.setattr(run, "_WIDE", 50)
    monkeypatch.setattr(run, "_PROJECTED", 40)
    views = pairs()
    wide = np.hstack([views["text"], np.zeros((300, 60))])
    for values in (wide, sp.csr_array(wide)):
        found = diagnose(Views(image=views["image"], text=values))
        assert "The 90 columns of text were replaced by 40 random projections." in found.notes
        assert on(found, "relation").level == "fine"
    dense = diagnose(Views(image=views["image"], text=sp.csr_array(views["text"])))
    assert dense.recovered["CCA"].value > 0.5


def test_captions_and_groups_of_the_views():
    views = pairs(240)
    index = np.repeat(np.arange(80), 3)
    captioned = Views.from_captions(views["image"][::3], views["text"], index)
    found = diagnose(captioned)
    assert found.n_groups == 80 and found.duplicates["image"].clusters.shape == (80,)
    assert len(found.suspects()) == 240
    assert "80 image items" in found.facts["pairs"] and "240 text items" in found.facts["pairs"]


X = pairs()
TWICE = np.repeat(X["image"][:29], 10, axis=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagnose(X["image"]), "diagnose expects Views, got ndarray"),
        (lambda: diagnose(X.select("image")), "diagnose compares two views, got image"),
        (lambda: diagnose(X.replace(text=["a"] * 300)), "diagnose: view 'text' holds texts or obj"),
        (lambda: diagnose(X.replace(text=np.ones((300, 4, 4)))), "has shape .300, 4, 4"),
        (lambda: diagnose(X.replace(text=np.ones((300, 4)))), "diagnose: view 'text' is constant"),
        (lambda: diagnose(X.replace(text=np.full((300, 4), np.nan))), "view 'text' contains NaN"),
        (lambda: diagnose(X[:29]), "there are 29 groups of pairs, of which some"),
        (lambda: diagnose(X.with_groups(np.arange(300) // 20)), "there are 15 groups of pairs"),
        (lambda: diagnose(Views(image=TWICE, text=TWICE)), "only 29 groups of pairs; raise"),
        (lambda: diagnose(X, shown=X[:5]), "shown must have the rows of the views .300., got 5"),
        (lambda: diagnose(X, shown=X.select("text")), "shown has no view 'image'; its vie"),
        (lambda: diagnose(X, shown=5), "'shown' parameter of diagnose must be an instance of"),
        (lambda: diagnose(X, splits=["train"] * 3), "one entry per row, that is shape .300,., got"),
        (lambda: diagnose(X, splits=["a"] * 300), "train: no row is in the split 'train'; the spl"),
        (lambda: diagnose(X.with_groups(np.arange(300) // 2), splits=["train", "test"] * 150),
         "splits must not divide rows that share an item or a group"),
        (lambda: diagnose(X, threshold=1.5), "'threshold' parameter of diagnose must be"),
        (lambda: diagnose(X, threshold={"audio": 0.5}), "threshold names the view 'audio', but"),
        (lambda: diagnose(X, max_pairs=5), "'max_pairs' parameter of diagnose must be an int in"),
        (lambda: diagnose(X, random_state="a"), "'random_state' parameter of diagnose must be"),
        (lambda: diagnose(X, verbose="loud"), "verbose must be 'auto', True or False, got"),
        (lambda: diagnose(X, title=5), "'title' parameter of diagnose must be an inst"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


# ---- the result ----------------------------------------------------------------------------------


def test_figures_are_a_table(aligned):
    frame = aligned.to_frame()
    assert list(frame.columns) == [
        "question", "measure", "of", "value", "low", "high", "chance"
    ]  # fmt: skip
    assert set(frame["question"]) == {
        "relation", "dimension", "align or predict", "learning curve", "hubs", "duplicates",
        "wrong pairs",
    }  # fmt: skip
    assert frame["value"].notna().all()
    cka = frame[frame["measure"] == "linear CKA"].iloc[0]
    assert cka["value"] == aligned.cka.value and cka["of"] == "image and text"


def test_it_shows_itself(aligned):
    assert repr(aligned).startswith("Diagnosis of 300 pairs of image and text\n  ")
    shown = aligned._repr_html_()
    assert shown.startswith("<table>") and "The two views are related." in shown


class Page(HTMLParser):
    VOID = {"meta", "link", "img", "br", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.links, self.scripts, self.ids = [], [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.scripts += tag == "script"
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[key] for key in ("src", "href") if attributes.get(key)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_one_sound_file_with_pictures_and_texts(tmp_path):
    views = pairs(60)
    rng = np.random.default_rng(8)
    files = []
    for i in range(60):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(files[-1])
    texts = [f"caption {i} {HOSTILE}" for i in range(60)]
    found = diagnose(views, shown=Views(image=files, text=texts), title=f"<b>{HOSTILE}",
                     threshold=0.7)  # fmt: skip
    path = found.write_html(tmp_path / "new" / "page.html")
    text = path.read_text("utf-8")
    page = Page(text)
    assert not page.wrong and page.open == [] and page.scripts == 1
    assert len(page.ids) == len(set(page.ids))
    inside = {link for link in page.links if link.startswith("#")}
    assert {link[1:] for link in inside} <= set(page.ids)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "<script>window.pwned" not in text and "<b></td>" not in text
    worst = found.suspects(24)
    for each in worst:
        assert f"row {each['row']}<" in text and f"caption {each['row']} " in text
    assert text.count("data:image/") >= 24
    for each in found.advice:
        assert each.do.split("(")[0] in text
    assert str(tmp_path) not in text  # names of folders are not part of the page
    again = found.write_html(path).read_text("utf-8")
    assert again == text


def test_the_page_of_features_alone_and_of_few_pairs(tmp_path):
    page = diagnose(pairs(40)).write_html(tmp_path / "a.html").read_text("utf-8")
    assert "There are too few pairs for a learning curve." in page and "image 1" in page
    assert not Page(page).wrong


def test_an_interrupted_page_leaves_the_earlier_one(tmp_path, monkeypatch, aligned):
    path = aligned.write_html(tmp_path / "a.html")
    before = path.read_text("utf-8")
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(
        KeyboardInterrupt))  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        aligned.write_html(path)
    monkeypatch.undo()
    assert path.read_text("utf-8") == before and len(list(tmp_path.iterdir())) == 1


def test_progress_is_shown_only_where_it_is_asked_for(capsys):
    diagnose(pairs(60), verbose=True)
    assert "diagnose" in capsys.readouterr().err
    diagnose(pairs(60))
    assert capsys.readouterr().err == ""


def test_importing_crossfit_stays_light():
    assert crossfit.diagnose is diagnose


def test_real_pairs_that_were_swapped_are_found(data_root):
    file = data_root / "flickr8k" / "features_train_dev.npz"
    if not file.exists():
        pytest.skip(f"no flickr8k/features_train_dev.npz in {data_root}")
    stored = np.load(file)
    first = np.unique(stored["caption_image_index"], return_index=True)[1][:1500]
    image = stored["image_efficientnet_lite0"][:1500].astype(np.float32)
    text = stored["caption_minilm_l6"][first].astype(np.float32)
    wrong = np.random.default_rng(0).permutation(1500)[:150]
    text[wrong] = text[np.roll(wrong, 1)]
    found = diagnose(Views(image=image, text=text))
    assert np.isin(found.suspicious[:150], wrong).mean() > 0.65
    assert 0.07 < found.wrong.share < 0.16
    assert found.hubs.helps and on(found, "pairs").do == "More pairs help."
