"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, Float, Int, MethodCard

_CITE_CORR_AE = """@inproceedings{feng2014corrae,
  author    = {Fangxiang Feng and Xiaojie Wang and Ruifan Li},
  title     = {Cross-modal Retrieval with Correspondence Autoencoder},
  booktitle = {Proceedings of the 22nd ACM International Conference on Multimedia},
  pages     = {7--16},
  year      = {2014}
}"""


def _corr_ae(name: str, target: str, summary: str) -> MethodCard:
    return MethodCard(
        api=1,
        name=name,
        target=f"crossfit_correlation.corr_ae:{target}",
        summary=summary,
        inputs={"image": ("vectors",), "text": ("vectors",)},
        labels="none",
        kind="embedding",
        year=2014,
        citation=_CITE_CORR_AE,
        search_space={
            "lr": Float(3e-4, 1e-2, log=True),
            "alpha": Float(0.1, 0.95),
            "width": Choice(16, 32, 64, 128, 256),
            "activation": Choice("sigmoid", "tanh"),
            "max_epochs": Int(10, 100, log=True),
        },
        test_params={
            "width": 16,
            "max_epochs": 30,
            "lr": 1e-2,
            "batch_size": 32,
            "device": "cpu",
        },
        make_inputs="crossfit_correlation.testing:make_inputs",
    )


CORR_AE = _corr_ae(
    "corr-ae", "CorrAE", "Two autoencoders whose codes are drawn together for matched pairs"
)
CROSS_AE = _corr_ae(
    "cross-ae", "CrossAE", "Two autoencoders that reconstruct the other view, with close codes"
)
FULL_AE = _corr_ae(
    "full-ae", "FullAE", "Two autoencoders that reconstruct both views, with close codes"
)
