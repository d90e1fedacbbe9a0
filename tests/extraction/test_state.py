"""Extractors return the same features whatever the global settings are."""

import json
import subprocess
import sys

import numpy as np
import pytest

# Each global setting, and how it is restored.
SETTINGS = {
    "nothing": ("pass", "pass"),
    "NumPy raises": ("np.seterr(all='raise')", "np.seterr(all='warn')"),
    "NumPy prints little": (
        "np.set_printoptions(precision=1, legacy='1.13')",
        "np.set_printoptions(precision=8, legacy=False)",
    ),
    "no gradients": ("torch.set_grad_enabled(False)", "torch.set_grad_enabled(True)"),
    "inference": (
        "mode = torch.inference_mode(); mode.__enter__()",
        "mode.__exit__(None, None, None)",
    ),
    "double": ("torch.set_default_dtype(torch.float64)", "torch.set_default_dtype(torch.float32)"),
    "half": ("torch.set_default_dtype(torch.bfloat16)", "torch.set_default_dtype(torch.float32)"),
    "deterministic": (
        "torch.use_deterministic_algorithms(True)",
        "torch.use_deterministic_algorithms(False)",
    ),
    "another device": ("torch.set_default_device('meta')", "torch.set_default_device(None)"),
    "threads": (
        "torch.set_num_threads(threads + 1)",
        "torch.set_num_threads(threads)",
    ),
    "warnings are errors": ("warnings.simplefilter('error')", "warnings.simplefilter('ignore')"),
    # Locales with a decimal comma and a dotless i, if the machine has them.
    "de_DE.UTF-8": (
        "locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')",
        "locale.setlocale(locale.LC_ALL, 'C')",
    ),
    "tr_TR.UTF-8": (
        "locale.setlocale(locale.LC_ALL, 'tr_TR.UTF-8')",
        "locale.setlocale(locale.LC_ALL, 'C')",
    ),
}

PROGRAM = """
import json, locale, sys, warnings
from inspect import signature
import numpy as np, torch
from crossfit import registry
from crossfit.extraction import backbones, detectors
from crossfit.views import Ragged
from crossfit_wheels import efficientnet, minilm

rng = np.random.default_rng(0)
items = {
    "pixels": rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8),
    "strings": ["cats purr softly", "engines roar"] * 2,
    "samples": [np.sin(np.arange(9000) / k).astype("f4") for k in (5, 6, 7, 8)],
    "sequence": Ragged.from_list([rng.normal(size=(k, 5)) for k in (30, 20, 30, 20)]),
}
networks = backbones._network, detectors._faster_rcnn, efficientnet._network, minilm._weights


def extract(setting):
    for network in networks:
        network.cache_clear()
    for entry in registry.entries("crossfit.extractors"):
        cls = registry.load(entry.name, "crossfit.extractors")
        # Some need files of the user; those of pairs are networks, tested as such.
        needed = [p for p in signature(cls).parameters.values() if p.default is p.empty]
        if not needed and entry.card.modality != "pairs":
            (kind,) = items.keys() & set(entry.card.inputs)
            out = cls(**entry.card.test_params).fit_transform(items[kind])
            found[f"{setting}/{entry.name}"] = np.asarray(getattr(out, "values", out))


found = {}
threads = torch.get_num_threads()
for setting, (set_it, take_back) in json.loads(sys.argv[2]).items():
    try:
        exec(set_it)
    except locale.Error:
        continue
    extract(setting)
    exec(take_back)
np.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
def test_the_same_features_whatever_is_set(tmp_path):
    pytest.importorskip("librosa")
    pytest.importorskip("crossfit_wheels")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "found.npz"), json.dumps(SETTINGS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    names = [key.partition("/")[2] for key in found if key.startswith("nothing/")]
    assert {"grid", "backbone", "faster-rcnn", "minilm", "mfcc", "lda", "fisher"} <= set(names)
    locales = set(list(SETTINGS)[-2:])
    assert {key.partition("/")[0] for key in found} >= set(SETTINGS) - locales
    for key in found:
        got, expected = found[key], found[f"nothing/{key.partition('/')[2]}"]
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=key)
