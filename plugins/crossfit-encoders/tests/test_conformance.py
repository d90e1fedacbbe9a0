"""The encoders against the conformance checks, on tiny models."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from crossfit import registry
from crossfit.cache import FeatureCache
from crossfit.extraction import make_extractor
from crossfit.testing import check_extractor
from crossfit_encoders import cards

ROOT = Path(__file__).parents[1]
CASES = {
    "bert-tokens": (cards.TRANSFORMERS, {"pooling": "tokens"}, "text", ("strings",)),
    "clip": (cards.TRANSFORMERS, {}, "image", ("pixels", "paths", "strings")),
    "whisper": (cards.TRANSFORMERS, {"duration": 1.0}, "audio", ("samples", "paths")),
    "openclip": (cards.OPENCLIP, {}, "image", ("pixels", "paths", "strings")),
    "timm": (cards.TIMM, {"layer": "last"}, "image", ("pixels", "paths")),
    "sentence": (cards.SENTENCE_TRANSFORMERS, {"view": "text"}, "text", ("strings",)),
}


@pytest.fixture
def folder_of_case(request, saved, library, tmp_path):
    def find(name):
        if name == "openclip":
            return request.getfixturevalue("openclip_folder")
        if name == "timm":
            return request.getfixturevalue("timm_folders")["test_efficientnet"]
        if name == "sentence":
            library("sentence_transformers", "sentence-transformers")
            from sentence_transformers import SentenceTransformer, models

            parts = [models.Transformer(str(saved("bert"))), models.Pooling(16)]
            model = SentenceTransformer(modules=parts, device="cpu")
            model.save(str(tmp_path / "model"), create_model_card=False)
            return tmp_path / "model"
        return saved(name.partition("-")[0])

    return find


@pytest.mark.parametrize("name", CASES)
def test_conforms(folder_of_case, name):
    card, params, modality, inputs = CASES[name]
    case = dataclasses.replace(card, modality=modality, inputs=inputs)
    settings = {"model": str(folder_of_case(name)), "device": "cpu", "batch_size": 5, **params}
    failed = {r.name: r.message for r in check_extractor(case, settings) if r.status == "fail"}
    if case != card:  # the card has the inputs of all models
        failed.pop("check_registered")
    assert not failed


def test_entry_points_and_cards():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["crossfit.extractors"]
    found = {name: getattr(cards, spec.partition(":")[2]) for name, spec in named.items()}
    assert {name: card.name for name, card in found.items()} == {name: name for name in named}
    for card in found.values():
        assert card.licence
        assert card.weights
        cls = registry.resolve_target(card.target)
        assert not cls._needs_fit()
        extra = {"open_clip": "openclip"}.get(cls.library, cls.library.replace("_", "-"))
        assert extra in project["optional-dependencies"]


def test_listing_imports_no_library():
    code = (
        "import sys, crossfit_encoders.cards, crossfit_encoders._files; "
        "print({'torch', 'sklearn', 'transformers', 'timm', 'open_clip'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_the_short_form(openclip_folder, texts):
    made = make_extractor(f"openclip:tiny-clip,{openclip_folder / 'alone.pt'},device=cpu")
    assert made.fit_transform(texts).shape == (5, 12)
    made = make_extractor(f"transformers:{openclip_folder},mean,text,batch_size=7")
    assert (made.pooling, made.view, made.batch_size) == ("mean", "text", 7)


PROGRAM = """
import json, os, signal, sys, time
from crossfit_encoders.transformers import TransformersFeatures

folder, n, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = []
encode = TransformersFeatures._encode

def counting(self, view, batch):
    if stop and len(seen) >= stop:
        time.sleep(1.2)  # features are stored once per second
    if stop and len(seen) >= stop + 8:
        os.kill(os.getpid(), signal.SIGKILL)
    seen.extend(batch)
    return encode(self, view, batch)

TransformersFeatures._encode = counting
texts = [f"a cat {'sleeps ' * (i % 7)}{'dog ' * (i // 7)}" for i in range(n)]
found = TransformersFeatures(folder, device="cpu", batch_size=4).transform(texts)
print(json.dumps([len(seen), found.tolist()]))
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(saved, tmp_path):
    folder = saved("bert")

    def run(stop):
        env = {**os.environ, "CROSSFIT_CACHE": str(tmp_path / "killed"), "HF_HUB_OFFLINE": "1",
               "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), "40", str(stop)],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    killed = run(16)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = FeatureCache(tmp_path / "killed").info()["entries"]
    assert 16 <= kept < 40
    n, found = json.loads(run(0).stdout)
    assert n == 40 - kept
    texts = [f"a cat {'sleeps ' * (i % 7)}{'dog ' * (i // 7)}" for i in range(40)]
    made = make_extractor(f"transformers:{folder},device=cpu,cache=false")
    expected = made.transform(texts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
