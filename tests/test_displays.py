"""The values that displays draw, against counts made one by one and against scikit-learn."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crossfit import (
    Ragged,
    RetrievalScorer,
    Views,
    ViewTransformer,
    evaluate,
    registry,
    search,
    similarity,
)
from crossfit.datasets import Split, load
from crossfit.displays import (
    AttentionDisplay,
    ClassAPDisplay,
    GalleryDisplay,
    HubnessDisplay,
    PrecisionRecallDisplay,
    RecallDisplay,
    SpectrumDisplay,
)
from crossfit.methods import CCA
from crossfit.metrics import chance_level
from crossfit.plotting import plot_recall

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def problem():
    """Return a fitted method, held-out pairs with labels, and the method's scores for them."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    Z = rng.normal(size=(120, 6)) + 1.5 * np.eye(4, 6)[y]
    views = Views(
        image=Z @ rng.normal(size=(6, 9)) + rng.normal(size=(120, 9)),
        text=Z @ rng.normal(size=(6, 8)) + rng.normal(size=(120, 8)),
    )
    method = CCA(5).fit(views[:80])
    rest = views[80:]
    return method, rest, y[80:], similarity(method, rest)


def naive_recall(scores, k):
    """Return the share of rows whose own column is among the k best."""
    return np.mean([i in np.argsort(-row)[:k] for i, row in enumerate(scores)])


def test_recall_is_drawn_as_counted_one_by_one(problem):
    method, views, _, scores = problem
    display = RecallDisplay.from_estimator(method, views, ks=[1, 3, 10])
    forward, backward = display.lines_
    for line, turned in ((forward, scores), (backward, scores.T)):
        assert line.get_xdata().tolist() == [1, 3, 10]
        expected = [naive_recall(turned, k) for k in (1, 3, 10)]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert forward.get_label() == "CCA, image → text"
    assert backward.get_label() == "CCA, text → image"
    assert forward.get_color() != backward.get_color()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "CCA, image → text", "CCA, text → image",
    ]  # fmt: skip
    again = RecallDisplay.from_similarity(
        scores, np.eye(40), ks=[1, 3, 10], names=("image", "text")
    )
    np.testing.assert_array_equal(again.lines_[1].get_ydata(), backward.get_ydata())


def test_bands_of_recall_are_quantiles_of_resampled_queries(problem):
    *_, scores = problem
    display = RecallDisplay.from_similarity(scores, np.eye(40), ks=[1, 5], directions="forward")
    hits = np.array([[i in np.argsort(-row)[:k] for k in (1, 5)] for i, row in enumerate(scores)])
    draws = np.random.default_rng(1).integers(0, 40, size=(20_000, 40))
    low, high = np.quantile(hits[draws].mean(axis=1), [0.025, 0.975], axis=0)
    (band,) = display.bands_
    corners = band.get_paths()[0].vertices
    for k, a, b in zip((1, 5), low, high):
        drawn = corners[corners[:, 0] == k, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], [a, b], atol=0.026)
    assert not RecallDisplay.from_similarity(scores, np.eye(40), ci=None).bands_


def test_recall_has_the_values_of_plot_recall(problem):
    *_, scores = problem
    figure = plot_recall(evaluate(scores, np.eye(40), ["r@1", "r@5", "r@10"]))
    display = RecallDisplay.from_similarity(scores, np.eye(40), ks=[1, 5, 10])
    for axes, line in zip(figure.axes, display.lines_, strict=True):
        np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), line.get_ydata())


def test_precision_is_the_mean_of_the_curves_of_scikit_learn(problem):
    method, views, y, scores = problem
    display = PrecisionRecallDisplay.from_estimator(method, views, y, n_points=11)
    relevant = y[:, None] == y
    for line, turned in zip(display.lines_, (scores, scores.T), strict=True):
        curves = []
        for hits, row in zip(relevant, turned):
            precision, recall, _ = precision_recall_curve(hits, row)
            levels = np.linspace(0, 1, 11)
            curves.append([precision[recall >= level - 1e-9].max() for level in levels])
        # scikit-learn's curve has an added point of precision 1 at recall 0, so it is left out
        np.testing.assert_allclose(line.get_ydata()[1:], np.mean(curves, axis=0)[1:])
        np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 1, 11))


def test_the_spectrum_is_that_of_the_fit_and_of_other_pairs(problem):
    method, views, _, _ = problem
    display = SpectrumDisplay.from_estimator(method, views)
    fit, held_out = display.lines_
    np.testing.assert_array_equal(fit.get_ydata(), method.correlations_)
    images, texts = method.transform(views)["image"], method.transform(views)["text"]
    expected = [np.corrcoef(images[:, j], texts[:, j])[0, 1] for j in range(5)]
    np.testing.assert_allclose(held_out.get_ydata(), expected, rtol=1e-5)
    assert fit.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert len(SpectrumDisplay.from_estimator(method).lines_) == 1


def test_a_spectrum_of_a_pipeline_is_that_of_its_method(problem):
    _, views, _, _ = problem
    steps = [("image", StandardScaler()), ("text", StandardScaler())]
    pipe = make_pipeline(ViewTransformer(steps), CCA(3), RetrievalScorer("cosine")).fit(views)
    display = SpectrumDisplay.from_estimator(pipe, views)
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), pipe[1].correlations_)
    assert display.lines_[0].get_label() == "CCA, fit"
    with pytest.raises(ValueError, match="RetrievalScorer has no canonical correlations"):
        SpectrumDisplay.from_estimator(RetrievalScorer("cosine").fit(pipe[:2].transform(views)))


def test_heights_of_hubness_count_items_by_their_queries(problem):
    method, views, _, scores = problem
    for display, turned in (
        (HubnessDisplay.from_estimator(method, views, k=3), scores),
        (HubnessDisplay.from_similarity(scores, k=3, direction="backward"), scores.T),
    ):
        counts = [0] * 40
        for row in turned:
            for item in np.argsort(-row)[:3]:
                counts[item] += 1
        expected = [counts.count(n) for n in range(max(counts) + 1)]
        assert [bar.get_height() for bar in display.bars_] == expected
        centres = [bar.get_x() + bar.get_width() / 2 for bar in display.bars_]
        np.testing.assert_allclose(centres, range(len(expected)))
        assert display.ax_.get_lines()[0].get_xdata()[0] == 3


def test_bars_of_classes_are_means_of_scikit_learns_average_precision(problem):
    method, views, y, scores = problem
    names = ["cat", "dog", "$owl$", "bee"]
    display = ClassAPDisplay.from_estimator(method, views, y, target_names=names)
    each = np.array([average_precision_score(y == own, row) for own, row in zip(y, scores)])
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_allclose(widths, [each[y == k].mean() for k in range(4)])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == names
    np.testing.assert_allclose(display.ax_.get_lines()[0].get_xdata()[0], each.mean())
    assert display.ax_.get_title() == "CCA, image → text"
    display.figure_.canvas.draw()
    backward = ClassAPDisplay.from_similarity(scores, (y, y), direction="backward")
    turned = [average_precision_score(y == own, row) for own, row in zip(y, scores.T)]
    np.testing.assert_allclose(
        backward.average_precision, [np.array(turned)[y == k].mean() for k in range(4)]
    )


def made(problem):
    """Return a function for each display, which makes it in given Axes."""
    method, views, y, _ = problem
    return [
        lambda ax: RecallDisplay.from_estimator(method, views, ax=ax),
        lambda ax: PrecisionRecallDisplay.from_estimator(method, views, y, ax=ax),
        lambda ax: SpectrumDisplay.from_estimator(method, views, ax=ax),
        lambda ax: HubnessDisplay.from_estimator(method, views, ax=ax),
        lambda ax: ClassAPDisplay.from_estimator(method, views, y, ax=ax),
    ]


def test_displays_draw_where_they_are_asked_to(problem):
    for draw in made(problem):
        figure = Figure()
        left, right = figure.subplots(1, 2)
        display = draw(right)
        assert display.ax_ is right and display.figure_ is figure and not left.has_data()
        assert display.plot(left) is display and display.ax_ is left and left.has_data()
        new = draw(None)
        assert new.figure_ is not figure and new._repr_png_().startswith(PNG)
        with pytest.raises(TypeError, match="ax must be Axes of matplotlib, got 'axes'"):
            draw("axes")


def test_a_second_method_has_another_colour(problem):
    *_, scores = problem
    first = RecallDisplay.from_similarity(scores, np.eye(40), directions="forward", name="a")
    second = RecallDisplay.from_similarity(
        scores.T, np.eye(40), directions="forward", name="b", ax=first.ax_
    )
    lines = first.ax_.get_lines()
    assert len(lines) == 2 and len({line.get_color() for line in lines}) == 2
    labels = [text.get_text() for text in second.ax_.get_legend().get_texts()]
    assert labels == ["a, query → gallery", "b, query → gallery"]


def test_chance_is_beside_random_scores():
    rng = np.random.default_rng(0)
    relevance, ks = np.eye(400), [1, 10, 100]
    display = RecallDisplay.from_similarity(rng.normal(size=(400, 400)), relevance, ks=ks)
    chance = chance_level(relevance, [f"r@{k}" for k in ks])
    for line, direction in zip(display.lines_, ("forward", "backward")):
        expected = [chance.mean(direction, f"r@{k}") for k in ks]
        np.testing.assert_allclose(line.get_ydata(), expected, atol=0.06)


def test_the_pipeline_of_a_winner_is_drawn(problem):
    from crossfit.winners import Winner

    method, views, y, _ = problem
    for display in (RecallDisplay, HubnessDisplay, ClassAPDisplay, SpectrumDisplay):
        more = (y,) if display is ClassAPDisplay else ()
        own = display.from_estimator(method, views, *more)
        same = display.from_estimator(Winner(method), views, *more)
        assert own.name == same.name and own.name.startswith("CCA")
        for one, other in zip(own.ax_.get_lines(), same.ax_.get_lines(), strict=True):
            np.testing.assert_array_equal(one.get_ydata(), other.get_ydata())


def test_docstrings_name_each_shared_parameter(problem):
    assert "ax : Axes, optional\n" in inspect.getdoc(HubnessDisplay.from_similarity)
    assert "ax_, figure_ : Axes and Figure\n" in inspect.getdoc(RecallDisplay)
    assert "Return" in inspect.getdoc(RecallDisplay.plot)


def test_displays_load_neither_matplotlib_nor_scikit_learn():
    code = (
        "import crossfit.displays, sys; "
        "print([name for name in ('matplotlib', 'sklearn', 'torch') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: RecallDisplay([1, 5], {"a": [1]}), ValueError, r"recall of 'a' must be of shape"),
        (lambda: RecallDisplay([5, 1], {"a": [0, 1]}), ValueError, "ks must ascend"),
        (lambda: RecallDisplay([1], [0.5]), TypeError, "recall must map names of directions"),
        (lambda: RecallDisplay([1], {"a": [np.nan]}), ValueError, "must be finite, got nan"),
        (
            lambda: RecallDisplay([1], {"a": [1]}, intervals={"b": [[1], [1]]}),
            ValueError, "intervals must be of a, got b",
        ),
        (lambda: RecallDisplay([1], {"a": [1]}, name=3), TypeError, "name must be a string, got 3"),
        (lambda: PrecisionRecallDisplay([1, 0], {"a": [0, 1]}), ValueError, "recall must ascend"),
        (lambda: SpectrumDisplay([]), ValueError, "at least one entry, got none"),
        (lambda: SpectrumDisplay([1], held_out=[1, 2]), ValueError, "must have 1 corr.*got 2"),
        (lambda: HubnessDisplay([[5]], 5), ValueError, "numbers of items from 0 to 4"),
        (lambda: HubnessDisplay.from_similarity(np.ones(3)), ValueError, "must have 2 axes"),
        (lambda: ClassAPDisplay(["a"], [1, 2]), ValueError, "must have 1 values.*got 2"),
        (lambda: ClassAPDisplay("ab", [1, 2]), TypeError, "classes must be a list of names"),
        (lambda: RecallDisplay.from_estimator(CCA(), 3), Exception, "not fitted"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_rejected_in_one_sentence(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_what_does_not_fit_the_estimator_is_rejected(problem):
    method, views, _, _ = problem
    for draw, error, message in (
        (lambda: RecallDisplay.from_estimator(method, np.eye(3)), TypeError, "Views"),
        (lambda: RecallDisplay.from_estimator("cca", views), TypeError, "got str"),
        (lambda: HubnessDisplay.from_estimator(method, views, query="a"), ValueError, "no view"),
        (lambda: HubnessDisplay.from_estimator(method, views, k=0), ValueError, "'k' parameter"),
        (lambda: ClassAPDisplay.from_estimator(method, views, None), TypeError, "needs y"),
        (
            lambda: PrecisionRecallDisplay.from_estimator(
                method, views, query="text", gallery="text"
            ),
            ValueError, "must be two views, got 'text' twice",
        ),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            draw()


@pytest.fixture(scope="module")
def shown(problem):
    """Return the held-out pairs as they were before extraction: pictures and texts."""
    rng = np.random.default_rng(1)
    n = len(problem[1])
    return Views(
        image=rng.integers(0, 256, (n, 12, 16, 3), dtype=np.uint8),
        text=[f"text {i}" for i in range(n)],
    )


SIGNS = {"pair": "✓", "relevant": "≈", "wrong": "×"}


def test_a_gallery_shows_the_best_items_and_marks_them(problem, shown):
    method, views, y, scores = problem
    display = GalleryDisplay.from_estimator(
        method, views, y, raw=shown, rows=[3, 17], k=5, target_names=["cat", "dog", "owl", "bee"]
    )
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    for at, q in enumerate((3, 17)):
        assert (display.queries[at] == shown["image"][q]).all()
        assert display.found[at] == [f"text {i}" for i in best[q]]
        expected = ["pair" if i == q else "relevant" if y[i] == y[q] else "wrong" for i in best[q]]
        assert display.verdicts[at] == expected
        assert [mark.get_text() for mark in display.marks_[at]] == [SIGNS[v] for v in expected]
        assert display.captions[at] == [["cat", "dog", "owl", "bee"][y[i]] for i in best[q]]
    # The frame of a picture does not change its shape, and all of it is inside the Axes.
    left, right, bottom, top = display.images_[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(16 / 12)
    turned = GalleryDisplay.from_estimator(
        method, views, raw=shown, query="text", gallery="image", rows=[3], k=3
    )
    best = np.argsort(-scores.T[3], kind="stable")[:3]
    drawn = [np.asarray(image.get_array()) for image in turned.images_]
    for pixels, item in zip(drawn, best, strict=True):
        np.testing.assert_array_equal(pixels, shown["image"][item])
    assert turned.verdicts == [["pair" if item == 3 else "wrong" for item in best]]


def test_a_gallery_of_a_pipeline_shows_its_inputs_and_a_split_has_its_labels(problem, shown):
    _, views, y, _ = problem
    given = {"image": views["image"], "text": views["text"]}
    pipe = make_pipeline(ViewTransformer([(name, StandardScaler()) for name in given]), CCA(3))
    pipe.fit(views)
    split = Split(views, y)
    one = GalleryDisplay.from_estimator(pipe, split, raw=shown, n_queries=3)
    other = GalleryDisplay.from_estimator(pipe, views, y, raw=shown, n_queries=3)
    assert one.verdicts == other.verdicts and one.name == "CCA, image → text"
    assert len(one.queries) == 3
    # Without pictures and texts, vectors are drawn as curves.
    assert len(GalleryDisplay.from_estimator(pipe, split, n_queries=2, k=4).waves_) == 10


def test_a_data_set_stands_for_its_test_split():
    emoji = load("emoji")
    few = emoji["train"].views[:60]
    pixels = few["image"].reshape(60, -1)[:, ::97].astype(float)
    method = CCA(2, reg=1.0).fit(Views(image=pixels, text=pixels[:, ::-1]))
    own = emoji["test"].views["image"]
    pixels = own.reshape(len(own), -1)[:, ::97].astype(float)
    views = Views(image=pixels, text=pixels[:, ::-1])
    display = GalleryDisplay.from_estimator(method, views, raw=emoji, n_queries=1, k=2)
    assert display.found[0][0] in list(emoji["test"].views["text"])
    with pytest.raises(ValueError, match="raw must have the 60 pairs of views, got"):
        GalleryDisplay.from_estimator(method, few, raw=emoji)


def test_results_of_a_search_are_drawn_with_their_scores(problem, shown):
    method, views, y, _ = problem
    found = search(method, views["image"][:5], view="image", gallery=views["text"], k=4)
    relevance = y[:5, None] == y
    display = GalleryDisplay.from_results(
        found, shown["image"][:5], relevance, gallery=shown["text"], rows=[4, 0]
    )
    for at, q in enumerate((4, 0)):
        assert display.found[at] == [f"text {i}" for i in found.indices[q]]
        assert display.captions[at] == [f"{score:.3f}" for score in found.scores[q]]
        expected = ["relevant" if relevance[q, i] else "wrong" for i in found.indices[q]]
        assert display.verdicts[at] == expected
    plain = GalleryDisplay.from_results(found, shown["image"][:5])
    assert plain.found[0][0] == f"item {found.indices[0, 0]}" and len(plain.queries) == 4
    assert plain.marks_ == [[], [], [], []]
    with pytest.raises(ValueError, match="queries must be the 5 of the results, got 2"):
        GalleryDisplay.from_results(found, shown["image"][:2])
    with pytest.raises(ValueError, match=r"relevance must be of 5 queries and at least \d+ items"):
        GalleryDisplay.from_results(found, shown["image"][:5], np.eye(5, 2))


def test_sounds_are_drawn_as_their_envelope():
    samples = np.zeros(1000, np.float32)
    samples[500:505] = [0.5, -0.25, 0, 0, 0]
    display = GalleryDisplay(["a click"], [[(samples, 8000)]]).plot()
    (wave,) = display.waves_
    edges = wave.get_paths()[0].vertices
    middle = np.median(edges[:, 1])
    up, down = middle - edges[:, 1].min(), edges[:, 1].max() - middle
    assert up == pytest.approx(2 * down) and up > 0.4
    at = edges[edges[:, 1].argmin(), 0] - edges[:, 0].min()
    assert at / np.ptp(edges[:, 0]) == pytest.approx(0.5, abs=0.01)


def test_a_gallery_in_small_axes_has_small_texts_inside_its_bounds():
    figure = Figure(figsize=(5, 3), layout="constrained")
    ax = figure.subplots(1, 2)[1]
    words = "words that are longer than a line of the gallery can be in a figure " * 3
    display = GalleryDisplay(["$5 query"], [[words, "short"]], name="title").plot(ax)
    figure.draw_without_rendering()
    bounds = figure.bbox
    for text in display.ax_.texts:
        box = text.get_window_extent()
        assert bounds.x0 <= box.x0 and box.x1 <= bounds.x1 and text.get_fontsize() < 6


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: GalleryDisplay("query", [["a"]]), TypeError, "queries must be a list or an array"),
        (lambda: GalleryDisplay([], []), ValueError, "queries must have at least one entry"),
        (lambda: GalleryDisplay(["a"], [["b"], ["c"]]), ValueError, "must have 1 entries.*got 2"),
        (
            lambda: GalleryDisplay(["a"], [["b"]], verdicts=[["good"]]),
            ValueError, "verdicts must be pair, relevant, wrong, got 'good'",
        ),
        (
            lambda: GalleryDisplay(["a"], [["b"]], captions=[["c", "d"]]),
            ValueError, "captions must have one entry for each item of found",
        ),
        (lambda: GalleryDisplay.from_results(3, ["a"]), TypeError, "must be a SearchResult"),
        (lambda: AttentionDisplay(np.zeros((3, 3, 3), np.uint8)), ValueError, "got neither"),
    ],
)  # fmt: skip
def test_what_a_gallery_cannot_show_is_rejected_in_one_sentence(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_wrong_rows_of_a_gallery_are_rejected(problem, shown):
    method, views, _, _ = problem
    for rows in ([40], [-1], [True], [0.5]):
        with pytest.raises(ValueError, match="rows must be numbers of queries from 0 to 39"):
            GalleryDisplay.from_estimator(method, views, raw=shown, rows=rows)
    with pytest.raises(ValueError, match="must have the view 'text'"):
        GalleryDisplay.from_estimator(method, views, raw=shown.select("image"))


class Attentive(CCA):
    """A method that attends to what it is given."""

    def explain(self, X, Y=None):
        return self.answer


PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
BOXES = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            Views(image=Ragged.from_list([[0.7, 0.1, 0.1, 0.1]]),
                  text=Ragged.from_list([[0.6, 0.4]], {"words": np.array(["a", "dog"])})),
            {"word_to_region": [[0.7, 0.1, 0.1, 0.1]], "object_to_word": [[0.6, 0.4]],
             "words": ["a", "dog"]},
        ),
        (  # words by regions, whose boxes another view has
            Views(alignment=Ragged.from_list([[[1, 0], [0, 1]]], {"words": np.array(["a", "b"])}),
                  image=Ragged.from_list([[0.5, 0.5]], {"boxes": BOXES})),
            {"word_to_region": [[1, 0], [0, 1]], "object_to_word": None, "words": ["a", "b"]},
        ),
        (  # objects by words, which are those of the text
            Views(o2w=Ragged.from_list([[[0.2, 0.8], [0.9, 0.1]]],
                                       {"boxes": BOXES, "labels": np.array([3, 4])})),
            {"word_to_region": None, "object_to_word": [[0.2, 0.8], [0.9, 0.1]],
             "words": ["brown", "dog"], "labels": ["3", "4"]},
        ),
        (  # regions by words, of which nothing is known but the number of words
            Views(i2t=Ragged.from_list([np.full((9, 2), 0.5)])),
            {"word_to_region": None, "words": ["brown", "dog"]},
        ),
        (
            Views(text=Ragged.from_list([[0.5, 0.25, 0.25]])),
            {"object_to_word": [[0.5, 0.25, 0.25]], "words": ["1", "2", "3"]},
        ),
    ],
)  # fmt: skip
def test_attention_is_read_in_all_its_forms(answer, expected):
    Z = np.random.default_rng(0).normal(size=(10, 3))
    method = Attentive(1).fit(Views(image=Z, text=Z))
    method.answer = answer
    raw = Views(image=PICTURE[None], text=["brown dog"])
    display = AttentionDisplay.from_estimator(method, Views(image=Z[:1], text=Z[:1]), raw=raw)
    for name, value in expected.items():
        held = getattr(display, name)
        if value is None or name in ("words", "labels"):
            assert held == value
        else:
            np.testing.assert_allclose(held, value)
    assert display.figure_._repr_png_().startswith(PNG) and display.axes_


def test_attention_that_cannot_be_drawn_is_rejected():
    Z = np.random.default_rng(0).normal(size=(10, 3))
    views, raw = Views(image=Z[:1], text=Z[:1]), Views(image=PICTURE[None], text=["brown dog"])
    method = Attentive(1).fit(Views(image=Z, text=Z))
    for answer, message in (
        (Views(image=Ragged.from_list([[0.3]], {"quantity": "variance"})), "not have attention"),
        (Views(image=Ragged.from_list([[0.3, 0.3, 0.4]])), "places of the 3 regions are unknown"),
    ):
        method.answer = answer
        with pytest.raises(ValueError, match=message):
            AttentionDisplay.from_estimator(method, views, raw=raw)
    with pytest.raises(ValueError, match="pass raw=, the views before their features"):
        AttentionDisplay.from_estimator(method, views)
    with pytest.raises(ValueError, match="row must be the number of a pair from 0 to 0, got 1"):
        AttentionDisplay.from_estimator(method, views, 1, raw=raw)
    with pytest.raises(ValueError, match="CCA does not have attention"):
        AttentionDisplay.from_estimator(CCA(1).fit(Views(image=Z, text=Z)), views, raw=raw)


def test_the_attention_of_every_method_is_drawn():
    pytest.importorskip("torch")
    drawn = {}
    for entry in registry.entries("crossfit.methods"):
        cls = registry.load(entry.name)
        if not hasattr(cls, "explain"):
            continue
        card = registry.get(entry.name)
        views, y = registry.resolve_target(card.make_inputs)(np.random.default_rng(0), 24)
        roles = dict(zip(card.roles, views.names))
        image = views[roles["image"]]
        if entry.name == "bssan":  # six regions are not a grid
            image = {"map": image["map"][:, :4], "objects": image["objects"]}
        elif getattr(image, "ndim", 0) == 3:
            image = image[:, :4]
        views = views.replace(**{roles["image"]: image})
        method = cls(**card.test_params)
        method.fit(views, y=y) if card.labels in ("single", "optional") else method.fit(views)
        raw = Views({
            name: np.repeat(PICTURE[None], 24, 0) if role == "image" else ["some words"] * 24
            for role, name in roles.items()
        })  # fmt: skip
        try:
            display = AttentionDisplay.from_estimator(method, views, 2, raw=raw)
        except ValueError as error:
            assert "does not have attention over regions or words" in str(error)
            continue
        display.figure_.draw_without_rendering()
        drawn[entry.name] = display
    assert {"acln", "bssan", "cran", "dan", "dvsa", "maxsim", "scan"} <= set(drawn)
    for display in drawn.values():
        for weights in (display.word_to_region, display.object_to_word):
            if weights is not None:
                np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-4)
