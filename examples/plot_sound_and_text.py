"""
Sound and text
==============

Recordings and their titles are pairs like any others. The recordings are those of ESC-10 if the
folder that ``CROSSFIT_DATA`` names has them; otherwise they are synthesised: high and low tones
that rise, fall, pulse or are steady, with a text for each. This example needs
``pip install 'crossfit-retrieval[audio]'``.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import Views, ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import LogMel
from crossfit.methods import CCA
from crossfit.metrics import chance_level

RATE = 16_000
SHAPES = {"rising": (0.5, 1.5), "falling": (1.5, 0.5), "steady": (1.0, 1.0), "pulsing": (1.0, 1.0)}
PITCHES = {"low": 250.0, "high": 2000.0}
WORDS = {"rising": ("rising", "climbing"), "falling": ("falling", "sinking"),
         "steady": ("steady", "constant"), "pulsing": ("pulsing", "beeping"),
         "low": ("low", "deep"), "high": ("high", "shrill")}  # fmt: skip


def tone(shape, pitch, rng):
    """Return one second of a tone with some noise."""
    time = np.arange(RATE) / RATE
    start, stop = SHAPES[shape]
    frequency = PITCHES[pitch] * rng.uniform(0.8, 1.25) * np.linspace(start, stop, RATE)
    sound = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    if shape == "pulsing":
        sound *= np.sin(2 * np.pi * rng.uniform(3, 6) * time) > 0
    return (0.3 * sound + 0.02 * rng.normal(size=RATE)).astype(np.float32)


def synthesised():
    """Return sounds with texts, and the kind of each."""
    rng = np.random.default_rng(0)
    kinds = [(shape, pitch) for shape in SHAPES for pitch in PITCHES] * 25
    sounds = np.stack([tone(*kind, rng) for kind in kinds])
    words = [[rng.choice(WORDS[word]) for word in kind] for kind in kinds]
    views = Views(audio=sounds, text=[f"a {pitch} {shape} tone" for shape, pitch in words])
    y = np.arange(200) % 8
    return (views[:160], y[:160]), (views[160:], y[160:])


def recorded():
    """Return clips of ESC-10 with their full titles, and the class of each."""
    esc10 = load("esc10")
    return [
        (split.views.replace(text=list(split.info["title"])), split.y)
        for split in (esc10["train"], esc10["test"])
    ]


has_esc10 = (Path(os.environ.get("CROSSFIT_DATA", "")) / "esc10").is_dir()
(train, y_train), (test, y_test) = recorded() if has_esc10 else synthesised()

# %%
# A sound becomes its mel spectrum, a text the weights of its words. A rising tone differs from a
# falling one in the order of its spectra only; of a recording, the means and deviations of the
# bands are enough. The views are called ``audio`` and ``text`` and have the roles of CCA in order.

if has_esc10:
    mel = LogMel(rate=RATE, duration=5.0, n_mels=64, output="moments", cache=False)
else:
    mel = LogMel(rate=RATE, duration=1.0, n_mels=32, output="flat", cache=False)
words = TfidfVectorizer(stop_words="english")
features = ViewTransformer([("audio", mel), ("text", words)])
pipe = Pipeline([("features", features), ("cca", CCA())]).fit(train)

# %%
# Both directions are evaluated; a sound is right for a text if both are of the same kind.

scores = crossfit.similarity(pipe, test, query="audio", gallery="text")
labels = (test.item_labels("audio", y_test), test.item_labels("text", y_test))
found = crossfit.evaluate(scores, labels, "map@all", names=("audio", "text"), ci=None)
chance = chance_level(labels, "map@all", names=("audio", "text"))
print("direction   MAP   in a random order")
for name in found.directions:
    print(f"{name:11} {found.mean(name, 'map@all'):.2f}  {chance.mean(name, 'map@all'):.2f}")

# %%
# Three texts that nobody wrote in the data, and the sounds that are found for them.

queries = ["dog", "rain", "clock"] if has_esc10 else ["deep climbing", "shrill sinking", "beeping"]
gallery = test.distinct("audio")[0]
hits = crossfit.search(pipe, queries, view="text", gallery=gallery, k=3).indices
spectra = LogMel(rate=RATE, duration=mel.duration, n_mels=64, cache=False).fit_transform(gallery)
titles = dict(zip(test.distinct("audio")[1].tolist(), test["text"], strict=True))

figure, axes = plt.subplots(3, 3, figsize=(7.5, 5.4), layout="constrained")
for row, query, own in zip(axes, queries, hits):
    for ax, hit in zip(row, own):
        ax.imshow(np.squeeze(spectra[hit]), aspect="auto", origin="lower", cmap="magma")
        ax.set(xticks=[], yticks=[])
        ax.set_title(titles[hit][:26], fontsize=10)
    row[0].set_ylabel(query, fontsize=11)
plt.show()
