"""
Sound and text
==============

The sounds of this example are synthesised: high and low tones that rise, fall, pulse or are steady.
A text describes each. CCA is fitted on mel spectra and TF-IDF of the words, as it would be on
pictures. This example needs ``pip install 'crossfit-retrieval[audio]'``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import Views, ViewTransformer
from crossfit.extraction import LogMel
from crossfit.methods import CCA

RATE = 16_000
rng = np.random.default_rng(0)
SHAPES = {"rising": (0.5, 1.5), "falling": (1.5, 0.5), "steady": (1.0, 1.0), "pulsing": (1.0, 1.0)}
PITCHES = {"low": 250.0, "high": 2000.0}


def tone(shape, pitch):
    """Return one second of a tone with some noise."""
    time = np.arange(RATE) / RATE
    start, stop = SHAPES[shape]
    frequency = PITCHES[pitch] * rng.uniform(0.8, 1.25) * np.linspace(start, stop, RATE)
    sound = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    if shape == "pulsing":
        sound *= np.sin(2 * np.pi * rng.uniform(3, 6) * time) > 0
    return (0.3 * sound + 0.02 * rng.normal(size=RATE)).astype(np.float32)


kinds = [(shape, pitch) for shape in SHAPES for pitch in PITCHES] * 25
sounds = [tone(*kind) for kind in kinds]
texts = [f"a {pitch} {shape} tone" for shape, pitch in kinds]
views = Views(sound=np.stack(sounds), text=texts)
train, test = views[:160], views[160:]

# %%
# The views have the roles of CCA in order, whatever their names are.

mel = LogMel(rate=RATE, duration=1.0, n_mels=32, output="flat", cache=False)
pipe = Pipeline(
    [
        ("features", ViewTransformer([("sound", mel), ("text", TfidfVectorizer())])),
        ("cca", CCA(n_components=4, reg=1.0)),
    ]
)
pipe.fit(train)
queries = ["a low rising tone", "a high falling tone", "something pulsing"]
found = crossfit.search(pipe, queries, view="text", gallery=test["sound"], k=3)

# %%
# Each row shows the spectra of the three sounds that were found for a text.

figure, axes = plt.subplots(3, 3, figsize=(7.5, 5.4), layout="constrained")
for row, query, hits in zip(axes, queries, found.indices):
    for ax, hit in zip(row, hits):
        ax.specgram(sounds[160 + hit], NFFT=512, Fs=RATE, noverlap=256, vmin=-120, cmap="magma")
        ax.set(ylim=(0, 4000), xticks=[], yticks=[], title=test["text"][hit])
    row[0].set_ylabel(query.replace(" tone", "\ntone"), fontsize=11)
plt.show()
