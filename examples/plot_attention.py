"""
Attention over a picture and its keywords
=========================================

ACLN (plugin ``crossfit-acln``) weights the regions of a picture and the words of a text. Its
``explain`` returns these weights, and :class:`crossfit.displays.AttentionDisplay` draws them.
"""

import matplotlib.pyplot as plt
import numpy as np

from crossfit import ViewTransformer
from crossfit.datasets import load
from crossfit.displays import AttentionDisplay
from crossfit.extraction import GridFeatures
from crossfit.methods import ACLN

# %%
# Each picture is one emoji at a random place on a white ground, so we know where the attention
# should be.

rng = np.random.default_rng(0)
emoji = load("emoji")


def placed(views):
    """Return the views with each picture in one of nine places."""
    pictures = np.full((len(views), 192, 192, 3), 255, np.uint8)
    for picture, thing in zip(pictures, views["image"]):
        row, column = 64 * rng.integers(3, size=2)
        picture[row : row + 64, column : column + 64] = thing
    return views.replace(image=pictures)


train, test = placed(emoji["train"].views), placed(emoji["test"].views)
regions = ViewTransformer([("image", GridFeatures(6, output="regions"))])  # 36 regions each
acln = ACLN(width=64, lr=3e-3, max_epochs=8, min_count=1, random_state=0, verbose=0)
acln.fit(regions.fit_transform(train), emoji["train"].y)
print(f"test mAP {acln.score(regions.transform(test), emoji['test'].y):.2f}, chance .16")

# %%
# The weights of a picture sum to 1 over its regions, and those of a text over its words. The
# colours show the ratio of each weight to that of uniform attention.

row = list(emoji["test"].info["short_name"]).index("heart_eyes_cat")
display = AttentionDisplay.from_estimator(acln, regions.transform(test), row, raw=test)
display.figure_.set_size_inches(8, 4.8)
plt.figure(display.figure_)  # the figure is not pyplot's until it is attached
plt.show()
