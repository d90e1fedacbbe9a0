"""Model cards: what is known is on them, as huggingface_hub reads it, and nothing else."""

import re

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer, load, model_card, registry, save
from crossfit.extraction import GridFeatures
from crossfit.subspace import CCA, PLS

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 3))
FITTED = CCA(2).fit(X, Y)
FOUND = crossfit.evaluate(
    FITTED.similarity(X, Y), (range(30), range(30)), ["map@all", "r@1"], names=("image", "text")
)


def front(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def pipeline():
    features = ViewTransformer(
        [
            ("image", GridFeatures(grid=2)),
            ("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=7))),
        ]
    )
    return Pipeline([("features", features), ("cca", CCA(2)), ("scorer", RetrievalScorer())])


def test_the_hub_reads_the_front_matter_and_the_measures():
    hub = pytest.importorskip("huggingface_hub")
    card = model_card(
        FITTED, name="Emoji by name", data="emoji", measures=FOUND, licence="CC-BY-4.0",
        language=["en", "de"], command="crossfit run emoji",
    )  # fmt: skip
    read = hub.ModelCard(card).data
    assert read.library_name == "crossfit" and read.license == "cc-by-4.0"
    assert read.language == ["en", "de"] and read.datasets == ["emoji"]
    assert {"crossfit", "cca", "image", "text"} <= set(read.tags)
    assert read.model_name == "Emoji by name"
    assert "&id" not in card  # no anchors, which people would have to resolve
    rows = FOUND.rows()
    assert len(read.eval_results) == len(rows) == 4
    for result, row in zip(read.eval_results, rows):
        assert isinstance(result, hub.EvalResult)
        assert (result.metric_type, result.metric_value) == (row["metric"], row["value"])
        assert result.metric_args["low"] == row["low"] and result.metric_args["n"] == 30
        assert result.dataset_type == "emoji"
        assert row["direction"] in result.task_type
    # What the hub's own classes write again is the same.
    again = hub.ModelCardData(**read.to_dict(), model_name=None)
    assert again.to_dict()["model-index"] == front(card)["model-index"]


def test_what_is_not_known_is_left_out():
    head = front(model_card(PLS()))
    assert set(head) == {"library_name", "tags"}
    text = model_card(PLS())
    for heading in ("## Data", "## Measures", "## Licences"):
        assert heading not in text
    assert "None" not in text.replace("=None", "")


def test_parts_papers_and_licences_are_on_the_card():
    text = model_card(pipeline(), data={"name": "shoes", "pairs": 1200, "licence": "CC0-1.0"})
    for words in ("features__text__truncatedsvd", "random_state=7", "hotelling1936relations",
                  "dalal2005hog", "grid=2", "CC0-1.0", "1200", "pip install crossfit-retrieval",
                  f"crossfit-retrieval {crossfit.__version__}"):  # fmt: skip
        assert words in text, words
    assert front(text)["tags"][:2] == ["crossfit", "cross-modal-retrieval"]
    backbone = registry.load("backbone", "crossfit.extractors")
    assert "training data (ImageNet, COCO) may apply" in model_card(backbone(weights=None))


def test_rows_of_measures_may_be_mappings():
    rows = [{"direction": "image2text", "measure": "r@1", "value": 0.31, "low": 0.28,
             "high": 0.34, "n": 900},
            {"direction": "image2text", "measure": "medr", "value": float("nan")}]  # fmt: skip
    text = model_card(FITTED, measures=rows)
    (result,) = front(text)["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["value"] == 0.31 and metric["args"] == {"low": 0.28, "high": 0.34, "n": 900}
    assert "| image2text | r@1 | 0.31 | 0.28 to 0.34 | 900 |" in text
    with pytest.raises(ValueError, match="a direction, a measure and a value"):
        model_card(FITTED, measures=[{"measure": "r@1", "value": 0.3}])
    with pytest.raises(TypeError, match="an Evaluation or a list"):
        model_card(FITTED, measures=3)


def test_other_licences_are_named():
    head = front(model_card(FITTED, licence="Only for research"))
    assert head["license"] == "other" and head["license_name"] == "Only for research"


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_ends_the_front_matter_or_a_code_block(name, command):
    text = model_card(FITTED, name=f"a\n---\n{name}", command=f"x\n```\n{command}", notes=None)
    assert set(front(text)) == {"library_name", "tags"}
    assert text.count("\n## Repeat\n") == 1
    save_text = text.encode(errors="replace")
    assert save_text.startswith(b"---\nlibrary_name: crossfit\n")


def test_every_bundle_has_a_card(tmp_path):
    folder = save(FITTED, tmp_path / "a")
    assert (folder / "README.md").read_text() == model_card(FITTED)
    card = model_card(FITTED, licence="mit")
    save(FITTED, folder, overwrite=True, card=card)
    assert (folder / "README.md").read_text() == card
    (folder / "README.md").unlink()
    assert np.array_equal(load(folder).similarity(X, Y), FITTED.similarity(X, Y))


def test_a_page_of_the_user_is_never_replaced(tmp_path):
    folder = save(FITTED, tmp_path / "a")
    (folder / "README.md").write_text("# Mine\n")
    save(PLS(), folder, overwrite=True)
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert isinstance(load(folder), PLS)
    with pytest.raises(FileExistsError, match="never replaced"):
        save(FITTED, folder, overwrite=True, card="# Other\n")
    assert isinstance(load(folder), PLS)


def test_a_link_in_place_of_the_card_is_not_followed(tmp_path):
    folder = save(FITTED, tmp_path / "a")
    outside = tmp_path / "outside.md"
    outside.write_text((folder / "README.md").read_text())
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(outside)
    before = outside.read_text()
    save(PLS(), folder, overwrite=True)
    assert outside.read_text() == before


def test_cards_of_equal_models_are_equal():
    views = Views(image=X, text=Y)
    one, other = (
        model_card(make_pipeline(ViewTransformer([("image", StandardScaler())]), CCA(2)).fit(views))
        for _ in range(2)
    )
    assert one == other and " at 0x" not in one


@pytest.mark.parametrize("model", [3, CCA, None])
def test_only_estimators_have_cards(model):
    with pytest.raises(TypeError, match="expects an estimator"):
        model_card(model)
