"""The linear probe, alone and on a synthetic tree of VOC2007's layout."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

import crossfit
from crossfit import Views
from crossfit.compose import ViewTransformer
from crossfit.datasets.voc2007 import CLASSES
from crossfit.extraction import ImageExtractor
from crossfit.methods import CCA
from crossfit.metrics import voc_mean_average_precision
from crossfit_topicnet.estimator import TextTopicNet
from crossfit_topicnet.probe import COSTS, linear_probe

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(10, 3))

    def part(n):
        X = 5 + 3 * rng.normal(size=(n, 10))
        return X, ((X - 5) @ W + 2 * rng.normal(size=(n, 3)) > 2).astype(int)

    return part(120), part(100), part(80)


def test_the_probe_is_scikit_learns_svm_class_by_class(parts):
    found = linear_probe(*parts, interpolation="none")
    (X, y), (V, v), (T, t) = parts
    scaler = StandardScaler().fit(np.vstack([X, V]))
    for k in range(3):
        reached = []
        for C in COSTS:
            svm = LinearSVC(C=C, random_state=0).fit(scaler.transform(X), y[:, k])
            reached.append(
                average_precision_score(v[:, k], svm.decision_function(scaler.transform(V)))
            )
        best = COSTS[int(np.argmax(reached))]
        assert found.C[k] == best
        whole = make_pipeline(StandardScaler(), LinearSVC(C=best, random_state=0))
        whole.fit(np.vstack([X, V]), np.concatenate([y, v])[:, k])
        np.testing.assert_allclose(found.scores[:, k], whole.decision_function(T), rtol=1e-4)
        expected = average_precision_score(t[:, k], found.scores[:, k])
        assert found.average_precision[k] == pytest.approx(expected)
    official = linear_probe(*parts)
    assert official.mean_average_precision == pytest.approx(
        voc_mean_average_precision(parts[2][1], official.scores, interpolation="11")
    )


def test_difficult_images_count_neither_way(parts):
    hard = tuple(np.random.default_rng(1).random(y.shape) < 0.2 for _, y in parts)
    found = linear_probe(*parts, difficult=hard)
    flipped = [(X, np.where(h, 1 - y, y)) for (X, y), h in zip(parts, hard)]
    other = linear_probe(*flipped, difficult=hard)
    np.testing.assert_array_equal(found.scores, other.scores)
    np.testing.assert_array_equal(found.average_precision, other.average_precision)
    assert np.abs(found.scores - linear_probe(*parts).scores).max() > 0


def test_test_labels_change_no_score(parts):
    train, val, (T, t) = parts
    other = linear_probe(train, val, (T, np.random.default_rng(0).permutation(t)))
    np.testing.assert_array_equal(linear_probe(*parts).scores, other.scores)


def test_the_probe_says_what_is_wrong(parts):
    train, val, test = parts
    with pytest.raises(ValueError, match=r"test must be features \(n, d\) and labels"):
        linear_probe(train, val, (test[0], test[1][:, 0]))
    with pytest.raises(ValueError, match="class 1 needs images with and without it in val"):
        linear_probe(train, (val[0], val[1] * [1, 0, 1]), test)
    with pytest.raises(ValueError, match=r"of val must have shape \(n, 3\)"):
        linear_probe(train, (val[0], val[1][:, :2]), test)
    with pytest.raises(ValueError, match="costs"):
        linear_probe(*parts, costs=())


@pytest.fixture
def voc(tmp_path):
    """Write a tree with VOC2007's layout and pictures whose colour depends on their first class."""
    rng = np.random.default_rng(0)
    kit = tmp_path / "VOCdevkit" / "VOC2007"
    lists, pictures = kit / "ImageSets" / "Main", kit / "JPEGImages"
    lists.mkdir(parents=True)
    pictures.mkdir()
    for split, first in (("train", 1), ("val", 101), ("test", 201)):
        labels = rng.choice([-1, 1], p=[0.7, 0.3], size=(30, 20))
        labels[:2] = 1
        labels[2:4] = -1
        labels[4] = 0
        for i, row in enumerate(labels):
            colour = (220, 30, 30) if row[0] == 1 else (30, 30, 220)
            Image.new("RGB", (40, 30), colour).save(pictures / f"{first + i:06d}.jpg")
        for k, name in enumerate(CLASSES):
            lines = [f"{first + i:06d} {label:2d}" for i, label in enumerate(labels[:, k])]
            (lists / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("topicnet_probe", EXPERIMENTS / "probe.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


class Colour(ImageExtractor):
    """Mean colour of a picture, twice."""

    def _extract(self, batch):
        return np.stack([np.tile(picture.mean(axis=(0, 1)), (2, 1)) for picture in batch])


def test_whatever_encodes_pictures_can_be_probed(script, voc):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 1, 1, 3)) + np.zeros((1, 8, 8, 1), int)
    views = Views(photo=pictures.astype(np.uint8), text=pictures[:, 0, 0] + rng.normal(size=3))
    flat = FunctionTransformer(lambda features: features.reshape(len(features), -1))
    colour = make_pipeline(Colour(), flat)
    pipeline = make_pipeline(ViewTransformer([("photo", colour)]), CCA(n_components=3, reg=1e-3))
    for model, name, options in (
        (pipeline.fit(views), "encoding", {"view": "photo"}),
        (Colour().fit(list(views["photo"])), "features", {}),
    ):
        found = script.voc2007(model, voc, strict=False, **options)
        assert list(found) == [name]
        assert found[name].average_precision[0] > 0.95  # the class that the colour shows
        assert found[name].average_precision[1:].mean() < 0.8
        table = script.published_table({"mine": found}).splitlines()
        assert table[0] == f"| features | mAP | max5 | pool5 | fc6 | fc7 | {name} |"
        assert table[-1].startswith("| mine | here |  |  |  |  | ")
    with pytest.raises(ValueError, match="'image'"):
        script.voc2007(pipeline, voc, strict=False)
    with pytest.raises(TypeError, match="expected a method with a common space"):
        script.voc2007(LinearSVC(), voc, strict=False)


def test_the_probe_of_voc2007_runs_on_its_layout(script, voc, tmp_path):
    rng = np.random.default_rng(0)
    red = np.arange(12) % 2
    pixels = np.where(red[:, None, None, None], (220, 30, 30), (30, 30, 220)).astype(np.uint8)
    pixels = np.repeat(np.repeat(pixels, 30, axis=1), 30, axis=2)
    model = TextTopicNet(
        hidden=(16, 16), dropout=0, init="kaiming", lr=0.01, batch_size=6, max_epochs=8,
        image_size=67, module__channels=(8,) * 5, device="cpu", random_state=0,
    ).fit(pixels, np.eye(2)[red] + 0.01 * rng.random((12, 2)))  # fmt: skip
    crossfit.save(model, tmp_path / "bundle")
    found = script.voc2007(crossfit.load(tmp_path / "bundle"), voc, strict=False)
    assert list(found) == ["max5", "pool5", "fc6", "fc7"]
    for probe in found.values():
        assert probe.scores.shape == (30, 20)
        assert probe.average_precision[0] > 0.95  # the class that the colour shows
        assert probe.average_precision[1:].mean() < 0.8
    lines = script.published_table({"SSVR": found}).splitlines()
    assert lines[2] == "| SSVR | published |  | 53.8 | 54.9 | 56.8 |"
    assert lines[3].startswith("| SSVR | here | ")
    assert {"here", "published"} == {line.split(" | ")[1] for line in lines[2:4]}
    rest = [line.split(" | ")[1] for line in lines[4:]]
    assert rest == ["published, not computed here"] * (len(script.PUBLISHED) - 1)


def test_rows_by_the_layers_of_alexnet(script):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    ways = script.alexnet(None)
    found = {name: script.flat(features(pictures)) for name, features in ways.items()}
    assert {name: row.shape[1] for name, row in found.items()} == {
        "max5": 256, "pool5": 9216, "fc6": 4096, "fc7": 4096
    }  # fmt: skip
    # The windows of pool5 cover all positions of conv5.
    np.testing.assert_allclose(found["max5"], found["pool5"].reshape(2, 36, 256).max(axis=1))
    assert script.named("Places=a=b.pth") == ("Places", "a=b.pth")
    with pytest.raises(Exception, match="must have the form ROW=FILE, got 'Places'"):
        script.named("Places")


def test_the_published_rows_are_those_of_table_1_of_ssvr(script):
    printed = """
        SSVR                     -    53.8 54.9 56.8
        TextTopicNet (Wikipedia) -    51.9 54.2 55.8
        TextTopicNet (ImageCLEF) -    47.4 48.1 48.5
        Sound                    39.4 46.7 47.1 47.4
        Texton-CNN               28.9 37.5 35.3 32.5
        K-means                  27.5 34.8 33.9 32.1
        Tracking                 33.5 42.2 42.4 40.2
        Patch position           26.8 46.1 -    -
        Egomotion                22.7 31.1 -    -
        ImageNet                 63.6 65.6 69.6 73.6
        Places                   59.0 63.2 65.3 66.2
    """
    rows = [line.split() for line in filter(None, map(str.strip, printed.splitlines()))]
    expected = {
        " ".join(row[:-4]): {
            layer: float(cell)
            for layer, cell in zip(script.LAYERS, row[-4:], strict=True)
            if cell != "-"
        }
        for row in rows
    }
    assert expected == script.PUBLISHED
