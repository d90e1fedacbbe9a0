"""Functions for the objects that other evaluation programs hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfit._arrays import as_array
from crossfit.systems.evaluation import METRICS, SystemEvaluation, evaluate_matrix, evaluate_run
from crossfit.systems.triples import as_triples

__all__ = ["evaluate_embeddings", "evaluate_frame", "evaluate_predictions", "evaluate_search"]


def evaluate_search(
    evaluator: Any,
    model: Any,
    metrics: str | Sequence[str] = METRICS,
    *,
    similarity: Any = None,
    batch_size: int = 32,
    **options: Any,
) -> SystemEvaluation:
    """Evaluate a model of sentence-transformers on the data of its evaluator.

    Parameters
    ----------
    evaluator : InformationRetrievalEvaluator or mapping
        The evaluator, or a mapping with its ``queries`` and ``corpus`` (identifier to text) and
        ``relevant_docs`` (identifier of a query to a set of identifiers).
    model : SentenceTransformer
        An object with ``encode``; ``encode_query`` and ``encode_document`` are preferred.
    metrics : str or sequence of str, default=("map@all", "ndcg@10", "r@1", "r@10", "mrr")
        See `crossfit.metrics.evaluate`. ``accuracy@k`` of the evaluator is ``r@k``, ``recall@k``
        is ``r@k:fraction``, ``precision@k`` is ``p@k``, and ``map@k`` is ``map@k:min``. Its
        ``mrr@k`` is 0 for ranks beyond k.
    similarity : callable, optional
        Function of two matrices of embeddings; by default ``model.similarity``.
    batch_size : int, default=32
        Number of texts that are encoded at once.
    **options
        Further arguments of `evaluate_run`.

    Returns
    -------
    SystemEvaluation
        The whole corpus is ranked, and not only the first items.

    See Also
    --------
    evaluate_embeddings : The same for embeddings that are there already.

    Examples
    --------
    >>> class Letters:
    ...     def encode(self, texts, **options):
    ...         return np.array([[text.count(letter) for letter in "abc"] for text in texts])
    ...
    ...     def similarity(self, one, other):
    ...         return one @ other.T
    >>> data = {
    ...     "queries": {"q1": "a", "q2": "b"},
    ...     "corpus": {"d1": "aa", "d2": "bc"},
    ...     "relevant_docs": {"q1": {"d1"}, "q2": {"d2"}},
    ... }
    >>> evaluate_search(data, Letters(), "mrr", ci=None).mean("mrr")
    1.0
    """
    queries, query_ids, corpus, corpus_ids, relevant = _parts(evaluator)
    asked = getattr(model, "encode_query", model.encode)
    answered = getattr(model, "encode_document", model.encode)
    sides = [
        encode(texts, batch_size=batch_size)
        for encode, texts in ((asked, queries), (answered, corpus))
    ]
    compare = similarity if similarity is not None else model.similarity
    scores = as_array(compare(*sides), "similarity", numbers=True)
    return _of_scores(scores, query_ids, corpus_ids, relevant, metrics, options)


def _parts(evaluator: Any) -> tuple[list[Any], list[Any], list[Any], list[Any], Any]:
    if isinstance(evaluator, Mapping):
        missing = {"queries", "corpus", "relevant_docs"} - set(evaluator)
        if missing:
            raise ValueError(
                f"evaluator has no {min(missing)}; give queries, corpus, relevant_docs"
            )
        queries, corpus = evaluator["queries"], evaluator["corpus"]
        return ([*queries.values()], [*queries], [*corpus.values()], [*corpus],
                evaluator["relevant_docs"])  # fmt: skip
    names = ("queries", "queries_ids", "corpus", "corpus_ids", "relevant_docs")
    missing = {name for name in names if not hasattr(evaluator, name)}
    if missing:
        raise TypeError(
            "evaluator must be an InformationRetrievalEvaluator or a mapping with queries, corpus "
            f"and relevant_docs, got {type(evaluator).__name__}"
        )
    queries, query_ids, corpus, corpus_ids, relevant = (getattr(evaluator, n) for n in names)
    return list(queries), list(query_ids), list(corpus), list(corpus_ids), relevant


def _of_scores(
    scores: Any,
    query_ids: Sequence[Any],
    item_ids: Sequence[Any],
    relevant: Any,
    metrics: str | Sequence[str],
    options: Mapping[str, Any],
) -> SystemEvaluation:
    n, m = len(query_ids), len(item_ids)
    if scores.shape != (n, m):
        raise ValueError(
            f"scores have shape {scores.shape}, but there are {n} queries and {m} items"
        )
    row, column = np.divmod(np.arange(n * m), m)
    names = ([str(each) for each in ids] for ids in (query_ids, item_ids))
    queries, items = (np.array(list(each), dtype=object) for each in names)
    run = (queries[row], items[column], np.asarray(scores, np.float64).ravel())
    return evaluate_run(as_triples(run, "the scores"), relevant, metrics, **options)


def evaluate_predictions(
    results: Any,
    relevant_docs: Any,
    metrics: str | Sequence[str] = METRICS,
    **options: Any,
) -> SystemEvaluation:
    """Evaluate what a retrieval task of mteb predicts, or lists of another program.

    Parameters
    ----------
    results : mapping
        Scores by query and item, as ``RetrievalEvaluator`` returns them and ``prediction_folder``
        stores them, or any other form that `Triples.of` takes.
    relevant_docs : mapping
        Grades by query and item, as ``task.dataset["default"]["test"]["relevant_docs"]``.
    metrics : str or sequence of str, default=("map@all", "ndcg@10", "r@1", "r@10", "mrr")
        See `crossfit.metrics.evaluate`; ``ndcg_at_10`` of mteb is ``ndcg@10`` with linear gain,
        the default here, ``recall_at_10`` is ``r@10:fraction``, and ``hit_rate_at_10`` is
        ``r@10``.
    **options
        Further arguments of `evaluate_run`.

    Returns
    -------
    SystemEvaluation

    See Also
    --------
    evaluate_run : The same with the gain of crossfit.

    Examples
    --------
    >>> found = evaluate_predictions({"q": {"a": 0.9, "b": 0.1}}, {"q": {"b": 1}}, "mrr", ci=None)
    >>> found.mean("mrr")
    0.5
    """
    return evaluate_run(results, relevant_docs, metrics, **{"gain": "linear", **options})


def evaluate_frame(
    run: Any, qrels: Any, metrics: str | Sequence[str] = METRICS, **options: Any
) -> SystemEvaluation:
    """Evaluate the frames of PyTerrier: results and judgements.

    Parameters
    ----------
    run : DataFrame
        Columns ``qid``, ``docno`` and ``score``, as a transformer returns them.
    qrels : DataFrame
        Columns ``qid``, ``docno`` and ``label``, as ``dataset.get_qrels()``.
    metrics : str or sequence of str, default=("map@all", "ndcg@10", "r@1", "r@10", "mrr")
        See `crossfit.metrics.evaluate`; the gain of ``ndcg`` is linear, as in ``pt.Experiment``.
    **options
        Further arguments of `evaluate_run`.

    Returns
    -------
    SystemEvaluation

    See Also
    --------
    evaluate_run : The same for other objects.

    Examples
    --------
    >>> run = {"qid": ["1", "1"], "docno": ["a", "b"], "score": [2.0, 1.0]}
    >>> qrels = {"qid": ["1"], "docno": ["b"], "label": [1]}
    >>> evaluate_frame(run, qrels, "mrr", ci=None).mean("mrr")
    0.5
    """
    return evaluate_run(run, qrels, metrics, **{"gain": "linear", **options})


def evaluate_embeddings(
    image_features: Any,
    text_features: Any,
    metrics: str | Sequence[str] = ("r@1", "r@5", "r@10", "medr"),
    *,
    captions: int | None = None,
    image_of_text: Sequence[int] | None = None,
    names: tuple[str, str] = ("image", "text"),
    **options: Any,
) -> SystemEvaluation:
    """Evaluate the embeddings of the retrieval loop of open_clip, in both directions.

    Parameters
    ----------
    image_features, text_features : array-like or tensor of shape (n, d) and (m, d)
        Embeddings, on any device. They are compared by their dot product, so that normalised ones
        have their cosine.
    metrics : str or sequence of str, default=("r@1", "r@5", "r@10", "medr")
        See `crossfit.metrics.evaluate`. ``image_to_text_R@5`` of open_clip is ``r@5``, its
        mean rank ``meanr``, and its median rank, which is rounded down, ``medr:vsepp``.
    captions : int, optional
        Number of texts per image, which follow one another, by default 1.
    image_of_text : sequence of int of shape (m,), optional
        Number of the image of each text, in place of `captions`.
    names : pair of str, default=("image", "text")
        Names of both sides.
    **options
        Further arguments of `evaluate_matrix`.

    Returns
    -------
    SystemEvaluation
        Texts of one image are resampled together, and a sibling is not an error.

    Raises
    ------
    ValueError
        If the embeddings have different dimensions, or texts have an image that is not there.

    See Also
    --------
    evaluate_matrix : The same for scores.

    Examples
    --------
    >>> found = evaluate_embeddings(np.eye(2), np.repeat(np.eye(2), 2, axis=0), "r@1", captions=2)
    >>> found.mean("r@1")
    1.0
    """
    sides = [as_array(each, name, numbers=True) for each, name in (
        (image_features, "image_features"), (text_features, "text_features"))]  # fmt: skip
    shapes = [side.shape for side in sides]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"features must be (n, d) and (m, d), got shapes {shapes[0]}, {shapes[1]}")
    scores = sides[0] @ sides[1].T
    if image_of_text is None:
        return evaluate_matrix(scores, metrics=metrics, captions=captions, names=names, **options)
    owner = np.asarray(image_of_text)
    n, m = scores.shape
    if owner.shape != (m,) or owner.dtype.kind not in "iu" or owner.min() < 0 or owner.max() >= n:
        raise ValueError(
            f"image_of_text must have the number of an image, 0 to {n - 1}, for each of the {m} "
            "texts"
        )
    relevance, groups = (np.arange(n), owner), (np.arange(n), owner)
    return evaluate_matrix(
        scores, relevance, metrics, groups=groups, captions=captions, names=names, **options
    )
