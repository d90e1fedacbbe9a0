"""The whole way of a user whose texts have no spaces: from the table to search and report."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import RetrievalScorer, ViewTransformer
from crossfit.cards import Float
from crossfit.datasets import from_csv
from crossfit.experiment import Experiment, run
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch
from crossfit.report import report_runs

COLOURS = {"红色": "red", "蓝色": "blue", "绿色": "green", "黄色": "yellow", "黑色": "black"}
SHAPES = {"圆形": "ellipse", "方形": "rectangle"}
PLACES = {"左上角": (3, 3), "右上角": (33, 3), "左下角": (3, 33), "右下角": (33, 33)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chinese")
    rows = []
    for i, (c, s, p, size) in enumerate(itertools.product(COLOURS, SHAPES, PLACES, (12, 26))):
        picture = Image.new("RGB", (64, 64), "white")
        x, y = PLACES[p]
        getattr(ImageDraw.Draw(picture), SHAPES[s])((x, y, x + size, y + size), fill=COLOURS[c])
        picture.save(folder / f"{i}.png")
        split = "test" if i % 4 == 3 - i // 16 % 4 else "train"
        rows.append((f"{i}.png", f"{p}有一个很{'大' if size > 20 else '小'}的{c}{s}。", c, split))
    for name, encoding, sep in (("pairs.csv", "utf-8", ","), ("old.csv", "gb18030", ";")):
        with open(folder / name, "w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=sep)
            writer.writerows([("image", "text", "label", "split"), *rows])
    return folder / "pairs.csv"


def test_search_and_bundle_of_chinese_pairs(table):
    old = from_csv(table.with_name("old.csv"), label="label", split="split", sep=";",
                   encoding="gb18030")  # fmt: skip
    ds = from_csv(table, label="label", split="split")
    assert list(old["train"].views["text"]) == list(ds["train"].views["text"])
    train, test = ds["train"], ds["test"]
    words = TfidfVectorizer(analyzer="char", ngram_range=(1, 2))
    text = make_pipeline(words, TruncatedSVD(20, random_state=0))
    features = ViewTransformer([("image", GridFeatures(grid=4)), ("text", text)])
    pipe = Pipeline([("features", features), ("cca", CCA(8)), ("scorer", RetrievalScorer())])
    space = {"cca__reg": Float(0.01, 1, log=True)}
    search = OptunaSearch(pipe, space, n_trials=2, cv=2, random_state=0).fit(train.views, train.y)
    assert search.score(test.views, test.y) > 0.4  # chance is 0.2
    model = search.best_estimator_
    gallery = crossfit.encode(model, test.views["image"], "image")
    model[-1].index(gallery, "image")
    restored = crossfit.load(crossfit.save(model, table.with_name("model")))
    queries = list(test.views["text"])
    found = crossfit.search(restored, queries, view="text", k=3)
    expected = crossfit.search(model, queries, view="text", k=3)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert (test.y[found.indices] == test.y[:, None]).mean() > 0.4  # chance is 0.2
    other = crossfit.search(restored, ["一个红色的圆形"], view="text", k=3)
    assert other.scores[0, 0] > other.scores[0, 2]


def test_experiment_and_report_of_chinese_pairs(table, tmp_path):
    (tmp_path / "chinese.yaml").write_text(
        "title: 中文\n"
        "metrics: [map@all, r@5]\n"
        "features:\n"
        "  image: {name: grid, params: {grid: 4}}\n"
        "  text:\n"
        "    - name: sklearn.feature_extraction.text.TfidfVectorizer\n"
        "      params: {analyzer: char, ngram_range: [1, 2]}\n"
        "    - {name: sklearn.decomposition.TruncatedSVD, params: {n_components: 20}}\n"
        "methods:\n"
        "  - {method: cca, params: {n_components: 8, reg: 0.1}}\n"
        "  - method: cca\n"
        "    label: topics\n"
        "    params: {n_components: 4, reg: 0.1}\n"
        "    features:\n"
        "      text: {name: lda, params: {n_topics: 8, no_below: 2, no_above: 0.7}}\n",
        encoding="utf-8",
    )
    experiment = Experiment.find(str(tmp_path / "chinese.yaml"), (), "pairs")
    record = run(experiment, tmp_path / "store", data=table)
    for cell in record.cells:
        assert cell.status == "done", cell.problem
        assert cell.results["text2image"]["map@all"]["mean"] > 0.3  # chance is 0.2
    page = report_runs([record.name], tmp_path / "store", tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    gallery = text[text.index("Gallery") :]
    assert "角有一个很" in gallery and "红色" in gallery
    # A picture is shown with its own text and its class.
    assert 'class="tile' in gallery and "。, " in gallery
