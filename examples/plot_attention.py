"""
Attention over a picture and its keywords
=========================================

ACLN (plugin ``crossfit-acln``) weighs the regions of a picture and the words of a text. Its
``explain`` returns these weights, and :func:`crossfit.plotting.plot_attention` draws them.
"""

import matplotlib.pyplot as plt

from crossfit import ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import ACLN
from crossfit.plotting import plot_attention

emoji = load("emoji")
train, test = emoji["train"], emoji["test"]
regions = ViewTransformer([("image", GridFeatures(6, output="regions"))])  # 36 regions each
acln = ACLN(
    attention="separate", width=64, lr=3e-3, max_epochs=8, min_count=1, random_state=0, verbose=0
)
acln.fit(regions.fit_transform(train.views), train.y)
print(f"test mAP {acln.score(regions.transform(test.views), test.y):.2f}, chance .16")

# %%
# The weights of a picture sum to 1 over its regions and those of a text over its words. Attention
# that was learnt from labels stands where the classes differ; it is not an outline of the thing.

row = list(test.info["short_name"]).index("heart_eyes_cat")
pair = test.views[[row]]
weights = acln.explain(regions.transform(pair))
words = weights["text"][[0]]
figure = plot_attention(
    pair["image"][0],
    [str(word) for word in words.info["words"]],
    word_to_region=weights["image"][[0]].values,
    object_to_word=words.values,
)
plt.figure(figure)  # the figure is not pyplot's until it is attached
plt.show()
