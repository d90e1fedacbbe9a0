"""Training curves of reports, and whether they had levelled off."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from crossfit.metrics import Direction, Evaluation, Repeats
from crossfit.metrics.evaluation import PerQuery
from crossfit.report import plots
from crossfit.report.leaderboard import Board, Row
from crossfit.report.levelling import LEVELLED, final_fall, unfinished
from crossfit.report.page import Part, write_page


def _row(label, histories):
    rng = np.random.default_rng(len(label))
    directions = Direction.between(("a", "b"))
    values = {(d, "map@all"): rng.random(12) for d in directions}
    groups = {direction: np.arange(12) for direction in directions}
    found = Evaluation(PerQuery(values), directions, ("map@all",), "expected", 0.95, 0, groups)
    return Row(label, Repeats([found]), histories=histories)


def _losses(function, n=40, **more):
    return [{"epoch": i + 1, "train_loss": function(i), **more} for i in range(n)]


def _texts(svg):
    root = ElementTree.fromstring(svg)
    return [" ".join("".join(t.itertext()).split()) for t in root.iter() if t.tag.endswith("text")]


@pytest.mark.parametrize("n", [8, 40, 100])
@pytest.mark.parametrize("scale, offset", [(1, 0), (5, 100), (0.1, -3)])
def test_a_line_falls_by_the_share_of_its_last_quarter(n, scale, offset):
    fall = final_fall(_losses(lambda i: offset - scale * i, n))
    last = n // 4
    # From the first epoch to the middle of the last quarter.
    assert fall == pytest.approx(last / (n - 1 - (last - 1) / 2))


def test_a_decay_levels_off_after_three_time_constants():
    def fall(constants):
        return final_fall(_losses(lambda i: math.exp(-i * constants / 1000), 1000))

    x = np.arange(750, 1000)
    y = np.exp(-x * 3 / 1000)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert fall(3) == pytest.approx(-slope * 250 / (1 - y.mean()))
    assert fall(2.8) > LEVELLED > fall(3.4)


def test_the_validation_loss_is_used_if_there_is_one():
    history = _losses(lambda i: -i)
    for row in history:
        row["valid_loss"] = 1.0
    assert final_fall(history) == 0
    for i, row in enumerate(history):
        row["valid_loss"] = float(i)  # it rises
    assert final_fall(history) == 0
    assert final_fall(_losses(lambda i: 1.0 / (i + 1), 3)) is None
    assert final_fall([]) is None and final_fall([{"train_loss": None}] * 9) is None


def test_noise_around_a_level_is_not_a_fall():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200)
    history = _losses(lambda i: math.exp(-i / 10) + 0.02 * noise[i], 200)
    assert final_fall(history) < LEVELLED


def test_the_report_names_methods_that_had_not_levelled_off(tmp_path):
    falling, flat = _losses(lambda i: 1 - i / 40), _losses(lambda i: 0.5**i)
    rows = [
        _row("still <falling>", {0: flat, 1: falling}),
        _row("flat", {0: flat}),
        _row("closed form", {}),
    ]
    board = Board("planted", rows, ("map@all",))
    said = unfinished(board)
    assert said.startswith("Training had not levelled off for still <falling> (29%): ")
    assert "flat" not in said and "5%" in said
    write_page(tmp_path / "page.html", title="t", lead="l", parts=[Part(board)])
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "Training had not levelled off for still &lt;falling&gt; (29%)" in text
    assert text.count('aria-label="Training of') == 4  # two methods, for two widths of the page
    level = Board("planted", rows[1:], ("map@all",))
    assert unfinished(level) == ""
    write_page(tmp_path / "level.html", title="t", lead="l", parts=[Part(level)])
    assert "levelled" not in (tmp_path / "level.html").read_text("utf-8")


@pytest.mark.parametrize("narrow", [False, True])
def test_curves_have_every_sign_of_failure(narrow):
    history = [
        {
            "epoch": i + 1, "train_loss": 1 / (i + 1), "valid_loss": None if i == 3 else 1.0,
            "train_forward": 0.4, "train_backward": 0.6, "train_active_hinges": 0.5,
            "valid_forward": 1.0, "train_batch_count": 7, "train_loss_best": True, "dur": 0.1,
        }
        for i in range(12)
    ]  # fmt: skip
    for row in history[3::4]:
        row |= {"dead_units": 0.1, "cosine_image": 0.2, "cosine_text": -0.1,
                "checked_loss": 0.5, "constant_loss": 2.0}  # fmt: skip
    texts = _texts(plots.training(_row("net", {0: history, 1: history}), narrow=narrow))
    for words in ("training", "validation", "forward", "backward", "active hinges", "dead units",
                  "cosine, image", "cosine, text", "loss / loss of equal outputs"):  # fmt: skip
        assert texts.count(words) == 1, words
    assert {"loss", "fraction"} <= set(texts)
    assert not any("batch" in words or "best" in words for words in texts)


def test_older_histories_have_the_loss_alone():
    old = _losses(lambda i: 1 / (i + 1), dur=0.1)
    texts = _texts(plots.training(_row("net", {0: old})))
    assert "loss" in texts and "fraction" not in texts
    assert plots.training(_row("cca", {0: []})) is None
    assert plots.training(_row("cca", {})) is None


@pytest.mark.parametrize("epochs", [2, 8])
def test_only_the_last_stage_of_a_training_counts(epochs):
    """A term that is added raises the loss: the fall from before it has no meaning."""
    first = [{"train_loss": 5.0 - i, "train_image": 5.0 - i} for i in range(4)]
    last = [
        {"train_loss": 9 * 0.1**i, "train_image": 1.0, "train_ranking": 9 * 0.1**i}
        for i in range(epochs)
    ]
    alone = final_fall(last)
    assert final_fall([*first, *last]) == alone
    assert (alone is None) == (epochs < 4)
