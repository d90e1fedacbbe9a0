"""Detectors: Faster R-CNN against torchvision, ONNX against a plain loop."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.base import clone

from crossfit.cache import FeatureCache
from crossfit.extraction import (
    Backbone,
    Detections,
    Detector,
    FasterRCNN,
    GridFeatures,
    LdaTopics,
    OnnxDetector,
    detectors,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(n=2, height=48, width=72, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((width, height))) for c in coarse]


# -- the format ------------------------------------------------------------------------------------


NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


def faster(**changes):
    fixed = {"min_size": 64, "device": "cpu", "cache": False, "top_k": 4, "score_threshold": 0.0}
    return FasterRCNN(**{"name": NAME, "weights": None, **fixed, **changes})


@pytest.fixture(scope="module")
def official():
    """Return torchvision's own network with seven classes and its own suppression."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.get_model(
            NAME, weights=None, weights_backbone=None, num_classes=7, min_size=64,
            box_detections_per_img=4, box_score_thresh=0.0,
        )  # fmt: skip
        # With random weights all boxes have nearly the same score; these differ.
        torch.nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=3)
    return network.eval()


def test_faster_rcnn_is_torchvisions(official, tmp_path):
    images, names = pictures(3), ["ground", *"abcdef"]
    torch.save(official.state_dict(), tmp_path / "seven.pth")
    detector = faster(weights=tmp_path / "seven.pth", label_names=names, batch_size=2)
    found = detector.fit_transform(images)
    assert found.info["label_names"] == tuple(names)
    caught = []
    hook = official.roi_heads.box_head.register_forward_hook(lambda *given: caught.append(given[2]))
    for row, image in zip(range(3), images):
        one, caught[:] = found[[row]], []
        with torch.no_grad():
            x = torch.tensor(image).permute(2, 0, 1) / 255
            (expected,) = official([x])
            np.testing.assert_allclose(
                one.info["boxes"] * [72, 48, 72, 48], expected["boxes"], atol=1e-3
            )
            np.testing.assert_allclose(one.info["scores"], expected["scores"], rtol=1e-5)
            np.testing.assert_array_equal(one.info["labels"], expected["labels"])
            # The network's own head, given these boxes as its proposals.
            resized, _ = official.transform([x])
            (height, width), maps = resized.image_sizes[0], official.backbone(resized.tensors)
            boxes = torch.tensor(one.info["boxes"]) * torch.tensor([width, height] * 2)
            official.roi_heads(maps, [boxes], resized.image_sizes)
        assert one[0].shape == (4, 1024)
        np.testing.assert_allclose(one[0], caught[-1], atol=1e-4)
    hook.remove()
    assert detector.n_features_out_ == 1024
    with pytest.raises(ValueError, match=r"must name the 7 classes of the weights, .* got 91"):
        clone(detector).set_params(label_names=None).fit_transform(images)


def test_faster_rcnn_alone_and_in_company():
    images = pictures(3)
    wide = pictures(1, 40, 160, seed=5)
    expected = faster().fit_transform(images)
    # A picture with another shape would change the padding of a batch.
    mixed = faster(batch_size=4).transform([*wide, *images])[[1, 2, 3]]
    np.testing.assert_array_equal(mixed.values, expected.values)
    np.testing.assert_array_equal(mixed.info["boxes"], expected.info["boxes"])
    for copy in (clone(faster()), pickle.loads(pickle.dumps(faster()))):
        np.testing.assert_array_equal(copy.fit(images).transform(images).values, expected.values)
    assert expected.info["label_names"][18] == "dog"


def test_faster_rcnn_finds_nothing_and_takes_the_whole_image():
    found = faster(score_threshold=0.99).fit_transform(pictures())
    assert found.lengths.tolist() == [1, 1]
    np.testing.assert_array_equal(found.info["boxes"], [[0, 0, 1, 1]] * 2)
    assert found.info["scores"].tolist() == [0, 0]
    assert found.info["labels"].tolist() == [-1, -1]
    assert not np.array_equal(found[0], found[1])
    # A later call with a larger limit finds more: the shared network keeps no settings.
    assert faster().fit_transform(pictures()).lengths.tolist() == [4, 4]


def test_the_first_weights_of_torchvision_have_no_eps(tmp_path):
    """The weights are found by the hash of torchvision's file, whatever its name."""
    with torch.random.fork_rng(devices=[]):
        network = torchvision.models.get_model(NAME, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    for identity, eps in (("258fb6c6" + "0" * 56, 0.0), ("0" * 64, 1e-5)):
        made = detectors._faster_rcnn(NAME, str(tmp_path / "w.pth"), identity, 0, "cpu", 64)
        found = {m.eps for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)}
        assert found == {eps}
    detectors._faster_rcnn.cache_clear()


def test_faster_rcnn_with_resnet():
    for name in ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"):
        found = faster(name=name, top_k=2).fit_transform(pictures(1))
        assert found[0].shape == (2, 1024)
    detectors._faster_rcnn.cache_clear()


def test_faster_rcnn_refuses():
    with pytest.raises(ValueError, match=r"name must be one of fasterrcnn_.*, got 'yolo'"):
        faster(name="yolo").fit(pictures())
    with pytest.raises(FileNotFoundError, match=r"COCO_V1, DEFAULT or a file, got 'absent'"):
        faster(weights="absent").fit(pictures())


# -- ONNX ------------------------------------------------------------------------------------------


def field(number, value):
    """Encode one field of a protocol buffer: a number, or bytes."""

    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_of_a_convolution(weight, shape):
    """Write an ONNX file with one convolution of stride 2, without the package onnx."""

    def value_info(name, dims):
        dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    tensor = b"".join(field(1, n) for n in weight.shape) + field(2, 1) + field(8, "w")
    tensor += field(9, weight.astype("<f4").tobytes())
    stride = field(1, "strides") + field(8, 2) + field(8, 2) + field(20, 7)
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Conv") + field(5, stride)
    graph = field(1, node) + field(2, "g") + field(5, tensor)
    graph += field(11, value_info("x", shape)) + field(
        12, value_info("y", (1, 8, "rows", "columns"))
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


NAMES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return a detector of three classes on 4 x 6 cells, and the weights of its convolution."""
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 3, 2, 2))
    # From 0 to 1: the objectness, and the classes, each of which detects one colour.
    weight[[0, 5, 6, 7]] = rng.random((4, 3, 2, 2)) / 12
    weight[5:] = 3 * weight[5:] * np.eye(3)[:, :, None, None]
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    path.write_bytes(onnx_of_a_convolution(weight, (1, 3, 8, 12)))
    return path, weight.astype(np.float32)


def detector(path, **changes):
    fixed = {"label_names": NAMES, "cache": False, "score_threshold": 0.3}
    return OnnxDetector(path, **{**fixed, **changes})


def by_hand(image, weight, threshold, nms_threshold, top_k):
    """Follow the authors' recipe, cell by cell and box by box."""
    small = np.asarray(Image.fromarray(image).resize((12, 8), Image.Resampling.BILINEAR))
    x = small[:, :, ::-1].astype(np.float64) / 255
    boxes = []
    for row in range(4):
        for column in range(6):
            patch = x[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].transpose(2, 0, 1)
            out = (weight * patch).sum((1, 2, 3))
            score = out[0] ** 0.6 * max(out[5:]) ** 0.4
            cx, cy = (column + np.tanh(out[1])) / 6, (row + np.tanh(out[2])) / 4
            w, h = 1 / (1 + np.exp(-out[3])), 1 / (1 + np.exp(-out[4]))
            box = [min(max(v, 0), 1) for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]
            if score >= threshold:
                boxes.append((score, int(np.argmax(out[5:])), box, out[5:]))
    boxes.sort(key=lambda b: -b[0])
    kept = []
    for one in boxes:
        overlaps = [overlap(one[2], other[2]) for other in kept if other[1] == one[1]]
        if max(overlaps, default=0) <= nms_threshold:
            kept.append(one)
    return kept[:top_k]


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (area - both)


def test_decoding_against_a_plain_loop(tiny):
    path, weight = tiny
    images = pictures(5, seed=3)
    for top_k, nms_threshold in ((24, 0.3), (24, 1.0), (3, 0.5)):
        found = detector(path, top_k=top_k, nms_threshold=nms_threshold).fit_transform(images)
        assert found.values.dtype == np.float32
        for row, image in enumerate(images):
            one, expected = found[[row]], by_hand(image, weight, 0.3, nms_threshold, top_k)
            assert len(one[0]) == len(expected) > 1
            for name, part in (("scores", 0), ("labels", 1), ("boxes", 2)):
                np.testing.assert_allclose(
                    one.info[name], [box[part] for box in expected], atol=1e-5
                )
            np.testing.assert_allclose(one[0], [box[3] for box in expected], atol=1e-5)
    # The figures above are a test only if boxes of the same and of other classes overlap.
    sizes = [[len(by_hand(i, weight, 0.3, t, 24)) for i in images] for t in (0.3, 1.0)]
    assert sizes[0] != sizes[1]
    assert len({label for i in images for _, label, *_ in by_hand(i, weight, 0.3, 1.0, 24)}) > 1


def test_nothing_found_is_the_whole_image(tiny):
    path, _ = tiny
    found = detector(path, score_threshold=0.999).fit_transform(pictures())
    assert found.lengths.tolist() == [1, 1]
    np.testing.assert_array_equal(found.info["boxes"], [[0, 0, 1, 1]] * 2)
    assert found.info["scores"].tolist() == [0, 0]
    assert found.info["labels"].tolist() == [-1, -1]
    assert np.isfinite(found.values).all()
    black = detector(path).fit_transform(np.zeros((1, 8, 12, 3), np.uint8))  # all scores are 0
    assert black.values.tolist() == [[0, 0, 0]]


def test_boxes_are_described_by_any_extractor(tiny):
    path, _ = tiny
    images = pictures(3, seed=3)
    describe = GridFeatures(2, size=8, output="pooled")
    extractor = detector(path, describe=describe, batch_size=2).fit(images)
    found = extractor.transform(images)
    assert found.values.shape[1] == extractor.n_features_out_ == 9 + 8 + 6
    at = 0
    for image, count in zip(images, found.lengths):
        for left, top, right, bottom in found.info["boxes"][at : at + count] * [72, 48, 72, 48]:
            crop = image[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
            np.testing.assert_allclose(found.values[at], describe.transform([crop])[0], atol=1e-5)
            at += 1
    plain = detector(path).fit_transform(images)
    np.testing.assert_array_equal(plain.info["boxes"], found.info["boxes"])
    whole = detector(path, describe=describe, score_threshold=0.999).fit_transform(images)
    np.testing.assert_allclose(whole.values, describe.transform(images), atol=1e-6)


def test_what_describes_counts_for_the_cache(tiny, monkeypatch):
    path, _ = tiny
    images = pictures()

    def run(**changes):
        before = FeatureCache().info()["entries"]
        describe = GridFeatures(2, size=8, output="pooled", **changes)
        found = detector(path, describe=describe, cache=True).fit_transform(images)
        # The features of the boxes are in the entries of the detector, and are not stored twice.
        assert set(FeatureCache().info()["extractors"]) == {"OnnxDetector"}
        return found, FeatureCache().info()["entries"] - before

    first, new = run()
    assert new == 2
    again, new = run(batch_size=3, cache=False)  # neither of them changes the output
    assert new == 0
    np.testing.assert_array_equal(again.values, first.values)
    np.testing.assert_array_equal(again.info["boxes"], first.info["boxes"])
    assert again.info["label_names"] == NAMES
    assert run(orientations=5)[1] == 2
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "_weights_id", lambda self: "one")
        on = detector(path, describe=Backbone(weights=None), cache=True)
        one = on._cache_prefix()
        patch.setattr(Backbone, "_weights_id", lambda self: "two")
        assert one != on._cache_prefix() != ""


def test_onnx_copies_and_bundles(tiny):
    path, _ = tiny
    images = pictures()
    extractor = detector(path, describe=GridFeatures(2, size=8, output="pooled")).fit(images)
    expected = extractor.transform(images)
    for copy in (clone(extractor).fit(images), pickle.loads(pickle.dumps(extractor))):
        np.testing.assert_array_equal(copy.transform(images).values, expected.values)
    twin = clone(extractor)
    state, arrays = extractor.__crossfit_state__()
    twin.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    np.testing.assert_array_equal(twin.transform(images).values, expected.values)
    assert clone(extractor).set_params(describe__size=16).describe.size == 16


def test_onnx_refuses(tiny, tmp_path, monkeypatch):
    path, _ = tiny
    images = pictures()
    with pytest.raises(FileNotFoundError, match=r"there is no file 'absent\.onnx'"):
        detector("absent.onnx").fit(images)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(
        ValueError, match=r"text\.onnx' is not an ONNX network that onnxruntime can"
    ):
        detector(tmp_path / "text.onnx").fit_transform(images)
    with pytest.raises(ValueError, match=r"5 \+ 80 channels .* got shape \(8, 4, 6\)"):
        detector(path, label_names=None).fit_transform(images)
    with pytest.raises(ValueError, match="describe must be an extractor that does not need a fit"):
        Needy = type("Needy", (GridFeatures,), {"_fit": lambda self, items, y: None})
        detector(path, describe=Needy()).fit(images)
    with pytest.raises(ValueError, match="'describe' parameter of OnnxDetector"):
        detector(path, describe=LdaTopics()).fit(images)
    with pytest.raises(ValueError, match=r"one vector per image, got an array of shape \(\d+, 4, "):
        describe = GridFeatures(2, size=8, output="regions")
        detector(path, describe=describe).fit_transform(images)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    detectors._session.cache_clear()
    with pytest.raises(ImportError, match=r"onnxruntime: `pip install crossfit-retrieval\[onnx\]`"):
        detector(path).fit_transform(images)


def test_an_input_of_changing_size_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "free.onnx"
    path.write_bytes(onnx_of_a_convolution(np.ones((8, 3, 2, 2)), (1, 3, 8, "width")))
    with pytest.raises(ValueError, match=r"a fixed height and width, got \[\[1, 3, 8, 'width'\]\]"):
        detector(path).fit_transform(pictures())


def test_a_detector_of_ones_own():
    class Halves(Detector):
        def _detect(self, batch):
            boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
            return [
                Detections(
                    boxes,
                    np.array([0.9, 0.8]),
                    np.array([0, 1]),
                    np.stack([half.mean((0, 1)) for half in np.split(image, 2, axis=1)]),
                )
                for image in batch
            ]

        def _label_names(self):
            return "left", "right"

    images = pictures(3)
    found = Halves().fit_transform(images)
    assert found.lengths.tolist() == [2, 2, 2]
    np.testing.assert_allclose(found[2][1], images[2][:, 36:].mean((0, 1)), rtol=1e-5)
    with pytest.raises(NotImplementedError, match="Detector must implement _detect"):
        Detector().transform(images)


@pytest.mark.data
def test_fastestdet_sees_people_and_dogs(data_root):
    """Captions with a dog or a person belong to pictures in which one is found."""
    pytest.importorskip("onnxruntime")
    file, folder = data_root / "fastestdet" / "FastestDet.onnx", data_root / "flickr8k"
    if not file.exists() or not (folder / "Flicker8k_Dataset").is_dir():
        pytest.skip(f"needs fastestdet/FastestDet.onnx and flickr8k/ in {data_root}")
    captions: dict[str, str] = {}
    for line in (folder / "Flickr8k_text" / "Flickr8k.token.txt").read_text().splitlines():
        name, text = line.lower().split("\t")
        name = line.partition("#")[0]
        captions[name] = captions.get(name, "") + " " + text
    there = sorted(path.name for path in (folder / "Flicker8k_Dataset").iterdir())[:150]
    found = OnnxDetector(file, cache=False).fit_transform(
        [folder / "Flicker8k_Dataset" / name for name in there]
    )
    assert found.info["label_names"] == detectors.COCO
    rates = {}
    for label, words in {0: r"\b(man|woman|boy|girl|people)\b", 16: r"\bdogs?\b"}.items():
        named = np.array([len(re.findall(words, captions[name])) >= 3 for name in there])
        seen = np.array([label in found[[row]].info["labels"] for row in range(len(there))])
        rates[label] = seen[named].mean(), seen[~named].mean()
    assert rates[0][0] > 0.8 > rates[0][1] + 0.2
    assert rates[16][0] > 0.6 > rates[16][1] + 0.4


@pytest.mark.data
def test_vectors_from_the_wheel(data_root):
    """Crops are described by a network of another distribution."""
    pytest.importorskip("onnxruntime")
    efficientnet = pytest.importorskip("crossfit_wheels.efficientnet")
    pytest.importorskip("efficientnet_lite_pytorch")
    file, folder = data_root / "fastestdet" / "FastestDet.onnx", data_root / "flickr8k"
    if not file.exists() or not (folder / "Flicker8k_Dataset").is_dir():
        pytest.skip(f"needs fastestdet/FastestDet.onnx and flickr8k/ in {data_root}")
    paths = sorted((folder / "Flicker8k_Dataset").iterdir())[:3]
    describe = efficientnet.EfficientNetLite0(size=64, device="cpu")
    found = OnnxDetector(file, describe=describe, cache=False).fit_transform(paths)
    assert found.values.shape[1] == 1280
    assert (found.values >= 0).all()


# -- drawing ---------------------------------------------------------------------------------------
