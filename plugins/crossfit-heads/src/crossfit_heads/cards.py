"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, Float, MethodCard

_CITE_CLIP = """@inproceedings{radford2021clip,
  author    = {Alec Radford and Jong Wook Kim and Chris Hallacy and Aditya Ramesh and
               Gabriel Goh and Sandhini Agarwal and Girish Sastry and Amanda Askell and
               Pamela Mishkin and Jack Clark and Gretchen Krueger and Ilya Sutskever},
  title     = {Learning Transferable Visual Models From Natural Language Supervision},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  pages     = {8748--8763},
  year      = {2021}
}"""

CONTRASTIVE_HEAD = MethodCard(
    api=1,
    name="contrastive-head",
    target="crossfit_heads.contrastive:ContrastiveHead",
    summary="Heads on frozen features: InfoNCE, sigmoid, hardest negatives, VICReg, Barlow Twins",
    extra_views=True,
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2021,
    citation=_CITE_CLIP,
    search_space={
        "loss": Choice("infonce", "sigmoid", "hardest", "vicreg", "barlow"),
        "branch": Choice("linear", "mlp", "gated"),
        "init": Choice("random", "cca"),
        "lr": Float(1e-4, 1e-2, log=True),
        "dropout": Float(0.0, 0.6),
        "weight_decay": Float(1e-3, 1.0, log=True),
    },
    test_params={"width": 16, "max_epochs": 10, "lr": 1e-2, "batch_size": 64, "device": "cpu"},
    make_inputs="crossfit_heads.testing:make_inputs",
)
