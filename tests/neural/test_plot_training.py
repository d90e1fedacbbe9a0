"""Training curves: the losses that are drawn, the epoch that is marked, what is rejected."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping

from crossfit import Views, ViewTransformer
from crossfit.displays import TrainingDisplay
from crossfit.methods import CCA
from crossfit.plotting import plot_training


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)).astype("float32")
    return Views({"image": X, "text": X[:, ::-1] + rng.normal(size=X.shape).astype("float32")})


def stopped(towers, pairs, **settings):
    early = EarlyStopping(patience=2, **settings)
    return towers(max_epochs=60, lr=1e-2, validation_fraction=0.3, callbacks=[early],
                  random_state=0).fit(pairs)  # fmt: skip


def test_losses_are_those_of_the_epochs_and_the_kept_one_is_marked(towers, pairs):
    method = stopped(towers, pairs, load_best=True)
    rows = list(method.net_.history)
    best, lowest = 0, np.inf  # as skorch counts: only a change of 1e-4 is better
    for row in rows:
        if row["valid_loss"] < lowest * (1 - 1e-4):
            best, lowest = row["epoch"], row["valid_loss"]
    assert best < len(rows) < 60
    figure = plot_training(method)
    training, validation, kept = figure.axes[0].get_lines()
    for line, name in ((training, "train_loss"), (validation, "valid_loss")):
        assert line.get_xdata().tolist() == list(range(1, len(rows) + 1))
        np.testing.assert_allclose(line.get_ydata(), [row[name] for row in rows])
    assert set(kept.get_xdata()) == {best}
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["training", "validation", f"weights kept, epoch {best}"]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_without_a_return_to_the_best_weights_no_epoch_is_marked(towers, pairs):
    labels = [
        line.get_label() for line in plot_training(stopped(towers, pairs)).axes[0].get_lines()
    ]
    assert labels == ["training", "validation"]
    plain = towers(max_epochs=1, random_state=0).fit(pairs)
    (line,) = plot_training(plain).axes[0].get_lines()
    assert line.get_label() == "training" and line.get_marker() == "."


def test_a_pipeline_has_the_losses_of_its_method(towers, pairs):
    scaler = ViewTransformer([("image", StandardScaler())])
    pipeline = make_pipeline(scaler, towers(max_epochs=3, random_state=0)).fit(pairs)
    own = Figure()
    axes = own.subplots()
    assert plot_training(pipeline, ax=axes) is own
    expected = [row["train_loss"] for row in pipeline[-1].net_.history]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), expected)


def test_the_display_has_the_lines_of_the_function(towers, pairs):
    method = stopped(towers, pairs, load_best=True)
    display = TrainingDisplay.from_estimator(method)
    figure = plot_training(method)
    for line, other in zip(display.ax_.get_lines(), figure.axes[0].get_lines(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    rows = list(method.net_.history)
    for line, name in zip(display.lines_, ("train_loss", "valid_loss"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), [row[name] for row in rows])
    own = Figure().subplots()
    assert display.plot(own) is display and display.ax_ is own and len(own.get_lines()) == 3
    for wrong, error, message in (
        ({}, TypeError, "losses must map names of lines"),
        ({"a": [1, 2]}, ValueError, r"must be epochs and losses of shape \(n, 2\), got \(2,\)"),
        ({"a": [[1, np.inf]]}, ValueError, "must be finite, got inf"),
    ):
        with pytest.raises(error, match=message):
            TrainingDisplay(wrong)


def test_a_restored_method_has_the_same_losses(towers, pairs):
    method = stopped(towers, pairs, load_best=True)
    again = towers(max_epochs=60, validation_fraction=0.3)
    again.__crossfit_restore__(*method.__crossfit_state__())
    *losses, _ = plot_training(method).axes[0].get_lines()
    for line, other in zip(losses, plot_training(again).axes[0].get_lines(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())


def test_what_has_no_losses_is_rejected(towers, pairs):
    with pytest.raises(NotFittedError, match="Towers instance is not fitted"):
        plot_training(towers())
    with pytest.raises(ValueError, match="method: CCA has no history of losses; pass a neural"):
        plot_training(CCA(1).fit(pairs))
    with pytest.raises(TypeError, match="expected a CrossModalEstimator"):
        plot_training("acln")
    with pytest.raises(ValueError, match=r"^ax must be 1 Axes, got 2$"):
        plot_training(towers(max_epochs=1).fit(pairs), ax=list(Figure().subplots(1, 2)))
