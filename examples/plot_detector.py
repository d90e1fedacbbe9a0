"""
A pipeline with a detector
==========================

A detector is an extractor that returns a set of regions for each picture. This one finds everything
that is not background, and describes each object by its colours and gradients; a network such as
:class:`~crossfit.extraction.OnnxDetector` can be used in its place.
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import crossfit
from crossfit import Views, ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import Detections, Detector, GridFeatures, draw_boxes
from crossfit.methods import CCA


class Blobs(Detector):
    """Find connected parts that are not white."""

    def __init__(self, batch_size=32, cache=False):
        self.batch_size = batch_size
        self.cache = cache

    def _label_names(self):
        return ("thing",)

    def _detect(self, batch):
        return [self._find(image) for image in batch]

    def _find(self, image):
        height, width = image.shape[:2]
        thing = ndimage.binary_dilation((image < 245).any(axis=2), iterations=3)
        places = ndimage.find_objects(ndimage.label(thing)[0])
        crops = [Image.fromarray(image[place]).resize((64, 64)) for place in places]
        boxes = [(c.start / width, r.start / height, c.stop / width, r.stop / height)
                 for r, c in places]  # fmt: skip
        vectors = GridFeatures(4, cache=False).fit_transform(crops)
        return Detections(boxes, np.ones(len(boxes)), np.zeros(len(boxes)), vectors)


# %%
# A scene has an animal, some food and a vehicle or place on a white ground, and a text that names
# them.

rng = np.random.default_rng(0)
emoji = load("emoji")["train"]
pool = [np.flatnonzero(emoji.y == label)[:20] for label in (2, 3, 4)]  # animals, food, travel


def scene():
    """Return a picture of three things, and their names."""
    ground = Image.new("RGB", (240, 160), "white")
    chosen = [rng.choice(rows) for rows in pool]
    for place, row in enumerate(rng.permutation(chosen)):
        corner = (80 * place + int(rng.integers(16)), int(rng.integers(96)))
        ground.paste(Image.fromarray(emoji.views["image"][row]), corner)
    return ground, ", ".join(emoji.info["short_name"][row] for row in chosen)


pictures, texts = zip(*(scene() for _ in range(500)))
views = Views(image=list(pictures), text=list(texts))
mean = FunctionTransformer(lambda found: np.stack([row.mean(axis=0) for row in found]))
pipe = Pipeline(
    [
        (
            "features",
            ViewTransformer([("image", make_pipeline(Blobs(), mean)), ("text", TfidfVectorizer())]),
        ),
        ("cca", CCA(n_components=32, reg=1.0)),
    ]
)
pipe.fit(views[:400])

# %%
# Each row shows the scenes that were found for a text, with the boxes of the detector.

test = views[400:]
found = crossfit.search(pipe, test["text"][:3], view="text", gallery=test["image"], k=2)
figure, axes = plt.subplots(3, 2, figsize=(7, 7), layout="constrained")
for row, query, hits in zip(axes, test["text"], found.indices):
    for ax, hit in zip(row, hits):
        boxes = Blobs().fit_transform([test["image"][hit]]).info["boxes"]
        ax.imshow(draw_boxes(test["image"][hit], boxes))
        ax.set(xticks=[], yticks=[], xlabel="its own picture" if test["text"][hit] == query else "")
    row[0].set_title(query, loc="left", fontsize=10)
plt.show()
