"""
Recipes and pictures
====================

A recipe has a title and instructions, and a picture of the dish may serve several recipes. The
script makes 300 recipes with pictures of 200 dishes, and a table of them. The title names the
base and one vegetable, the instructions both vegetables but not the base. The two columns of text
are first two channels of one view, then two views.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

import crossfit
from crossfit import ViewTransformer
from crossfit.compose import SelectChannel
from crossfit.datasets import from_table
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA, GCCA

rng = np.random.default_rng(0)
BASES = {"rice": (245, 240, 230), "pasta": (235, 200, 90), "lentils": (130, 80, 45),
         "beans": (50, 35, 45)}  # fmt: skip
VEGETABLES = {"tomatoes": (210, 40, 30), "spinach": (30, 100, 40), "carrots": (240, 130, 20),
              "aubergine": (80, 30, 90), "peas": (110, 190, 60), "beetroot": (150, 20, 70),
              "pepper": (250, 210, 30), "olives": (60, 60, 30)}  # fmt: skip
TITLES = ["{b} with {v}", "{v} and {b}", "grandmother's {b} with {v}", "quick {v} on {b}"]
STEPS = ["Fry the {v} for {m} minutes, add the {w} and serve.",
         "Roast {w} and {v} for {m} minutes.",
         "Steam the {w} for {m} minutes, stir in the {v} and season."]  # fmt: skip


def plate(base, *vegetables):
    """Return the picture of a plate, seen from above."""
    image = Image.new("RGB", (64, 64), (90, 110, 130))
    draw = ImageDraw.Draw(image)
    draw.ellipse((2, 2, 61, 61), fill="white")
    draw.ellipse((8, 8, 55, 55), fill=BASES[base])
    for vegetable in vegetables:
        for x, y in rng.normal(32, 9, size=(22, 2)):
            r = rng.uniform(1.5, 3.5)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=VEGETABLES[vegetable])
    return image


folder = Path(tempfile.mkdtemp())
dishes = [(rng.choice(list(BASES)), *rng.choice(list(VEGETABLES), 2, False)) for _ in range(200)]
for i, dish in enumerate(dishes):
    plate(*dish).save(folder / f"{i}.png")
columns_of = {"picture": [], "title": [], "instructions": [], "part": []}
for i in [*range(200), *rng.choice(200, 100, replace=False)]:  # half of the dishes have two recipes
    base, one, other = dishes[i]
    columns_of["picture"].append(f"{i}.png")
    columns_of["title"].append(rng.choice(TITLES).format(b=base, v=one))
    columns_of["instructions"].append(
        rng.choice(STEPS).format(v=one, w=other, m=rng.integers(3, 40))
    )
    columns_of["part"].append("train" if i < 140 else "test")

# %%
# **Two channels of one view.** A mapping of columns makes a view with channels. A picture that
# occurs in several rows is one item, which is encoded and ranked once.

columns = {"image": "picture", "recipe": {"title": "title", "instructions": "instructions"}}
table = from_table(columns_of, views=columns, root=folder, split="part")
train, test = table["train"].views, table["test"].views
print(test)


# The vegetables may be anywhere on the plate, so the features are the means over the picture.
pictures = GridFeatures(output="pooled", cache=False)


def words(channel):
    return make_pipeline(SelectChannel(channel), TfidfVectorizer(stop_words="english"))


def fitted(*channels):
    """Return CCA of the pictures and some channels of the recipes."""
    recipe = FeatureUnion([(channel, words(channel)) for channel in channels])
    features = ViewTransformer([("image", pictures), ("recipe", recipe)])
    return Pipeline([("features", features), ("cca", CCA())]).fit(train)


models = {"title": fitted("title"), "instructions": fitted("instructions")}
models["both channels"] = fitted("title", "instructions")

# %%
# **Two views.** The same table with three views; GCCA maps all of them to one space. Title and
# instructions are then queries of their own, and any of the six directions can be evaluated.

three = {"image": "picture", "title": "title", "instructions": "instructions"}
table = from_table(columns_of, views=three, root=folder, split="part")
text = TfidfVectorizer(stop_words="english")
features = ViewTransformer([("image", pictures), ("title", text), ("instructions", text)])
gcca = Pipeline([("features", features), ("gcca", GCCA())]).fit(table["train"].views)
three_test = table["test"].views


def scores_of(model, views, query, gallery="image"):
    return crossfit.similarity(model, views, query=query, gallery=gallery)


def reciprocal_ranks(scores, views, query):
    """Return the mean reciprocal rank of the picture for a text, and of the text for a picture."""
    relevance = views.relevance(query, "image")
    found = crossfit.evaluate(scores, relevance, "mrr", ci=None)
    return [found.mean(direction, "mrr") for direction in ("forward", "backward")]


rows = {
    f"one view: {name}": reciprocal_ranks(scores_of(model, test, "recipe"), test, "recipe")
    for name, model in models.items()
}
of_parts = {name: scores_of(gcca, three_test, name) for name in ("title", "instructions")}
for name, scores in of_parts.items():
    rows[f"three views: {name}"] = reciprocal_ranks(scores, three_test, name)
mean = sum(of_parts.values()) / 2
rows["three views: mean of the scores"] = reciprocal_ranks(mean, three_test, "title")
n_pictures = len(test.distinct("image")[0])
print(f"mean reciprocal rank of {len(test)} recipes and {n_pictures} pictures")
print("                                 to the picture  from it")
for name, (to, back) in rows.items():
    print(f"{name:32} {to:14.2f} {back:8.2f}")

# %%
# A recipe that is not in the table, and the pictures that are found for it.

recipe = {
    "title": ["rice with peas"],
    "instructions": ["Fry the peas for 5 minutes and add the carrots."],
}
gallery = test.distinct("image")[0]
hits = crossfit.search(models["both channels"], recipe, view="recipe", gallery=gallery, k=5)
figure, axes = plt.subplots(1, 5, figsize=(7.5, 2.4), layout="constrained")
for ax, hit in zip(axes, hits.indices[0]):
    ax.imshow(Image.open(gallery[hit]))
    ax.set(xticks=[], yticks=[], title="\n".join(dishes[int(Path(gallery[hit]).stem)][:1]))
    ax.set_xlabel("\n".join(dishes[int(Path(gallery[hit]).stem)][1:]))
plt.show()
