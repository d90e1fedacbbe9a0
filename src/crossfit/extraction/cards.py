"""Cards of the built-in extractors."""

from __future__ import annotations

from crossfit.cards import Choice, ExtractorCard, Int

GRID = ExtractorCard(
    api=1,
    name="grid",
    target="crossfit.extraction.grid:GridFeatures",
    summary="Gradient and hue histograms and colour moments on a grid of cells; no weights",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions"),
    citation=(
        "@inproceedings{dalal2005hog, title={Histograms of oriented gradients for human "
        "detection}, author={Dalal, Navneet and Triggs, Bill}, booktitle={CVPR}, year={2005}}"
    ),
    year=2005,
    search_space={"orientations": Int(6, 12), "color_bins": Int(4, 16)},
    test_params={"grid": 2, "size": 16, "cache": False},
)

LDA = ExtractorCard(
    api=1,
    name="lda",
    target="crossfit.extraction.text:LdaTopics",
    summary="Topic proportions by latent Dirichlet allocation (gensim), repeatable per document",
    modality="text",
    inputs=("strings",),
    outputs=("vectors",),
    needs_fit=True,
    citation=(
        "@inproceedings{hoffman2010lda, title={Online learning for latent Dirichlet allocation}, "
        "author={Hoffman, Matthew and Blei, David and Bach, Francis}, booktitle={NIPS}, "
        "year={2010}}"
    ),
    year=2010,
    search_space={
        "n_topics": Int(10, 200, log=True),
        "no_below": Choice(2, 5, 20),
        "passes": Int(5, 20),
    },
    test_params={"n_topics": 4, "passes": 2, "no_below": 1, "no_above": 1.0},
)

TOKENS = ExtractorCard(
    api=1,
    name="tokens",
    target="crossfit.extraction.text:Tokens",
    summary="Word ids with the vocabulary of the training texts, ragged or padded",
    modality="text",
    inputs=("strings",),
    outputs=("tokens",),
    needs_fit=True,
    search_space={"min_count": Int(1, 5)},
    test_params={"min_count": 1},
)
