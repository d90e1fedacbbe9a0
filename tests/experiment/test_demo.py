"""The demo and its report, with the features that need no weights."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from crossfit import Views
from crossfit.datasets import Split
from crossfit.experiment.comparison import chance, fit_and_evaluate
from crossfit.experiment.demo import answer, run_demo
from crossfit.report.from_results import write_report
from crossfit.report.page import write_text
from crossfit.subspace import CCA


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    patch = pytest.MonkeyPatch()
    patch.setenv("CROSSFIT_CACHE", str(folder / "cache"))
    results = run_demo(folder, "plain")
    yield results, folder / "report.html"
    patch.undo()


def test_the_tuned_method_is_far_above_chance_and_the_ridge_matters(demo):
    results, _ = demo
    by_name = {result.name: result for result in results}
    for direction in ("image2text", "text2image"):
        low, _ = by_name["CCA"].by_label.interval(direction, "map@all")
        at_random = by_name["chance"].by_label.mean(direction, "map@all")
        assert low > 2 * at_random
        assert by_name["CCA"].by_pair.mean(direction, "medr") < 60
        bare = by_name["CCA without a ridge"].by_label.mean(direction, "map@all")
        assert bare < by_name["CCA"].by_label.mean(direction, "map@all")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.open, self.images = [], [], 0

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.images += tag == "img"
        self.links += [attributes[key] for key in ("src", "href") if attributes.get(key)]
        if tag not in ("img", "meta", "br", "link", "path", "use", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_report_is_one_self_contained_well_formed_page(demo):
    _, path = demo
    page = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.images == 6 * 9 + 6  # six text queries with nine pictures, six picture queries
    outside = [link for link in tags.links if not link.startswith(("data:", "#"))]
    assert outside == []
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower().split()
    assert "CC-BY 4.0" in page
    assert 50_000 < path.stat().st_size < 2_000_000


def test_figures_of_the_report_are_those_of_the_results(demo):
    results, path = demo
    page = path.read_text(encoding="utf-8")
    for result in results:
        for direction in ("image2text", "text2image"):
            assert f"{result.by_label.mean(direction, 'map@all'):.3f}" in page
            assert f"{result.by_pair.mean(direction, 'r@10'):.3f}" in page


def test_search_by_picture_finds_texts(tmp_path, monkeypatch):
    from PIL import Image

    from crossfit.datasets import load

    test = load("emoji")["test"]
    at = int(np.flatnonzero(test.info["short_name"] == "palm_tree")[0])
    path = tmp_path / "palm.png"
    Image.fromarray(test.views["image"][at]).save(path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    found = answer(None, str(path), 3, "plain")
    assert len(found) == 3
    assert all(set(row) == {"score", "character", "name", "text"} for row in found)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def planted(rng, n, d=8):
    shared = rng.normal(size=(n, 3))
    return Views(
        image=shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)),
        text=shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)),
    )


def test_without_labels_a_report_has_pairs_only(tmp_path):
    rng = np.random.default_rng(0)
    views = planted(rng, 80)
    train, test = Split(views[:50]), Split(views[50:])
    result = fit_and_evaluate("CCA", CCA(2), train, test)
    assert result.by_label is None
    write_report(
        tmp_path / "r.html",
        title="<pairs>",
        lead="",
        results=[result, chance(test.views)],
        views=test.views,
    )
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "&lt;pairs&gt;" in page
    assert "mAP</th>" not in page
