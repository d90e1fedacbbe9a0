"""
Fit CCA and look at its spectrum
================================

Canonical correlation analysis finds directions of two views that correlate. With more columns than
pairs it always finds some: without a ridge, the correlations of the training pairs are near 1 and
those of new pairs are not. The spectrum shows how much regularisation the data need.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

emoji = load("emoji")
text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=0))
features = ViewTransformer([("image", GridFeatures()), ("text", text)])
train = features.fit_transform(emoji["train"].views)
val = features.transform(emoji["val"].views)
print(train)

# %%
# The correlation of each component is measured on the training pairs and on the validation pairs.
# With a small ridge, only the training pairs are fitted; a larger one closes the gap.


def correlations(cca, views):
    """Return the correlation of each component between the two views."""
    Z = cca.transform(views)
    columns = zip(Z["image"].T, Z["text"].T)
    return np.array([np.corrcoef(x, t)[0, 1] for x, t in columns])


figure, axes = plt.subplots(1, 3, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, reg in zip(axes, (0.001, 0.1, 10.0)):
    cca = CCA(n_components=64, reg=reg).fit(train)
    ax.plot(correlations(cca, train), color="C0", label="training pairs")
    ax.plot(correlations(cca, val), color="C1", label="validation pairs")
    ax.set(title=f"ridge {reg:g}: MRR {cca.score(val):.2f}", xlabel="component", ylim=(-0.2, 1.02))
axes[0].set_ylabel("correlation")
axes[0].legend(loc=(0.06, 0.55))
plt.show()
