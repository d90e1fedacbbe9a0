"""The tables of the five papers: every printed row is in an experiment, with its figures.

The figures below are typed from the papers. A row that is not computed is under `published_only`.
"""

from pathlib import Path

import numpy as np
import pytest

from crossfit import Views, registry
from crossfit.compose import ViewTransformer
from crossfit.experiment import Experiment
from crossfit.experiment.build import build_features, build_method

PLUGINS = Path(__file__).parents[1] / "plugins"
RECALLS = ("r@1", "r@5", "r@10")


def table(text, metrics, directions=("image2text", "text2image"), percent=()):
    """Return a printed table by label: ``{label: {(metric, direction): value}}``.

    In a row, the figures of the first direction, ``|``, and those of the second; ``-`` where
    none is printed.
    """
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        parts = [part.split() for part in line.split("|")]
        n = len(metrics)
        label = " ".join(parts[0][:-n])
        rows = [parts[0][-n:], *parts[1:]]
        assert len(rows) == len(directions) and {len(row) for row in rows} == {n}, line
        found[label] = {
            (metric, direction): float(figure) / (100 if metric in percent else 1)
            for direction, row in zip(directions, rows, strict=True)
            for metric, figure in zip(metrics, row, strict=True)
            if figure != "-"
        }
    return found


def curves(**found):
    """Return the rows of curves over the number of components, from the figures of a text.

    Each figure holds for more components than a number: ``JointTrain=[("r@1", 0.25, 40), ...]``.
    """
    return {
        f"{name}, {k} components": {
            (metric, "mean"): value for metric, value, above in figures if k > above
        }
        for name, figures in found.items()
        for k in range(40, 101, 10)
    }


AVERAGED = ("image2text", "text2image", "mean")
#: File of an experiment to the rows of its tables.
TABLES = {
    # ACLN, tables 1 and 2; "ACLN (Baseline)" is our "no attention".
    "crossfit-acln/experiments/huang-2017-acln-wikipedia.yaml": table(
        """
        CCA .125 | .124 | .124
        Corr-AE .188 | .202 | .195
        CFA .368 | .336 | .352
        KCCA .340 | .316 | .328
        JRL .371 | .330 | .351
        LGCFL .390 | .321 | .356
        Deep-SM .441 | .347 | .394
        ACLN .446 | .415 | .430
        ACLN, no attention .436 | .351 | .394
        ACLN, separate attention .429 | .396 | .413
        """,
        ["map@all"],
        AVERAGED,
    ),
    "crossfit-acln/experiments/huang-2017-acln-nus-wide-10k.yaml": table(
        """
        CCA .121 | .122 | .121
        Corr-AE .185 | .143 | .164
        CFA .407 | .411 | .409
        KCCA .402 | .427 | .415
        JRL .442 | .473 | .457
        LGCFL .421 | .440 | .431
        Deep-SM .465 | .445 | .455
        ACLN .480 | .495 | .487
        ACLN, no attention .458 | .454 | .456
        ACLN, separate attention .470 | .487 | .479
        """,
        ["map@all"],
        AVERAGED,
    ),
    # ALCCA-CMR, table 1: I-MRR1, R@1 and R@5 by pair, C-MRR1 by mood.
    "crossfit-alcca/experiments/vuong-2019-alcca-music.yaml": table(
        """
        ALCCA, 10 components .08 .045 .100 | .081 .047 .099
        ALCCA, 20 components .200 .137 .251 | .200 .136 .253
        ALCCA, 30 components .300 .224 .371 | .300 .224 .376
        ALCCA, 40 components .370 .288 .454 | .366 .284 .447
        ALCCA, 50 components .415 .335 .498 | .411 .327 .496
        ALCCA, 60 components .439 .358 .523 | .436 .354 .519
        ALCCA, 70 components .453 .371 .539 | .449 .367 .535
        ALCCA, 80 components .456 .373 .540 | .452 .370 .536
        ALCCA, 90 components .447 .365 .531 | .444 .362 .529
        ALCCA, 100 components .427 .349 .507 | .425 .346 .505
        """,
        ["mrr", "r@1", "r@5"],
        ("audio2text", "text2audio"),
    ),
    "crossfit-alcca/experiments/vuong-2019-alcca-music-moods.yaml": table(
        """
        ALCCA, 10 components .213 | .212
        ALCCA, 20 components .305 | .305
        ALCCA, 30 components .387 | .387
        ALCCA, 40 components .448 | .445
        ALCCA, 50 components .488 | .484
        ALCCA, 60 components .506 | .506
        ALCCA, 70 components .519 | .517
        ALCCA, 80 components .521 | .519
        ALCCA, 90 components .515 | .513
        ALCCA, 100 components .497 | .497
        """,
        ["mrr"],
        ("audio2text", "text2audio"),
    ),
    # ALCCA-CMR, figures 2 to 4, of which the text has the figures, "about", of both directions.
    "crossfit-correlation/experiments/yu-2017-dcca-music.yaml": {
        "ALCCA, 80 components": {
            ("mrr", "audio2text"): 0.456,
            ("r@1", "audio2text"): 0.373,
            ("r@5", "audio2text"): 0.540,
            ("mrr", "text2audio"): 0.452,
            ("r@1", "text2audio"): 0.370,
            ("r@5", "text2audio"): 0.536,
        },
        **curves(
            **{
                "PretrainCNN-CCA": [("mrr", 0.10, 30)],
                "Spotify-DCCA": [("mrr", 0.15, 30)],
                "PretrainCNN-DCCA": [("mrr", 0.20, 30)],
                "JointTrain-DCCA": [("mrr", 0.25, 30), ("r@1", 0.25, 40), ("r@5", 0.25, 40)],
            }
        ),
    },
    "crossfit-correlation/experiments/yu-2017-dcca-music-moods.yaml": {
        "ALCCA, 80 components": {("mrr", "audio2text"): 0.521, ("mrr", "text2audio"): 0.519},
        **curves(
            **{
                "PretrainCNN-CCA": [("mrr", 0.20, 30)],
                "Spotify-DCCA": [("mrr", 0.25, 30)],
                "PretrainCNN-DCCA": [("mrr", 0.32, 30)],
                "JointTrain-DCCA": [("mrr", 0.35, 30)],
            }
        ),
    },
    # CRAN, tables 1 and 3.
    "crossfit-cran/experiments/qi-2018-cran-flickr30k.yaml": table(
        """
        CRAN .381 .708 .828 | .381 .711 .826
        CCL .377 .694 .811 | .373 .684 .800
        DCCA .279 .569 .682 | .268 .529 .669
        Corr-AE .303 .615 .740 | .238 .575 .707
        Multimodal DBN .064 .194 .296 | .047 .151 .232
        Bimodal AE .127 .324 .452 | .110 .328 .450
        GMM+HGLMM .350 .620 .738 | .250 .527 .660
        MACC .139 .341 .463 | .353 .660 .782
        KCCA .108 .281 .399 | .158 .400 .543
        CFA .192 .449 .574 | .242 .566 .683
        CCA .076 .205 .302 | .091 .268 .390
        CRAN-relation .330 .642 .771 | .353 .659 .788
        CRAN-local .332 .645 .776 | .331 .675 .786
        CRAN-baseline .289 .601 .722 | .281 .620 .752
        """,
        RECALLS,
    ),
    # CRAN, tables 2 and 3.
    "crossfit-cran/experiments/qi-2018-cran-coco.yaml": table(
        """
        CRAN .230 .520 .660 | .211 .489 .645
        CCL .186 .474 .625 | .196 .469 .623
        DCCA .069 .211 .318 | .066 .209 .322
        Corr-AE .154 .397 .532 | .138 .353 .478
        Multimodal DBN .054 .194 .292 | .046 .155 .240
        Bimodal AE .063 .220 .347 | .054 .178 .283
        GMM+HGLMM .173 .390 .502 | .108 .283 .401
        MACC .056 .167 .244 | .155 .370 .490
        KCCA .072 .202 .305 | .020 .074 .122
        CFA .086 .258 .371 | .150 .381 .514
        CCA .041 .142 .226 | .041 .155 .251
        CRAN-relation .171 .435 .577 | .190 .446 .600
        CRAN-local .207 .494 .632 | .209 .484 .633
        CRAN-baseline .157 .410 .548 | .155 .411 .562
        """,
        RECALLS,
    ),
    # SSVR, table 2; "Ours" is our "SSVR".
    "crossfit-topicnet/experiments/patel-2019-ssvr-wikipedia.yaml": table(
        """
        SSVR 39.10 | 43.40 | 41.25
        TextTopicNet (Wikipedia) 37.63 | 40.25 | 38.94
        TextTopicNet (ImageCLEF) 39.58 | 38.16 | 38.87
        CCA 19.70 | 17.84 | 18.77
        PLS 30.55 | 28.03 | 29.29
        SCM 37.13 | 28.23 | 32.68
        GMMFA 38.74 | 31.09 | 34.91
        CCA-3V 40.49 | 36.51 | 38.50
        GMLDA 40.84 | 36.93 | 38.88
        LCFS 41.32 | 38.45 | 39.88
        """,
        ["map@all"],
        AVERAGED,
        percent=["map@all"],
    ),
    # SSVR, table 3.
    "crossfit-topicnet/experiments/patel-2019-ssvr-pascal-sentences.yaml": table(
        """
        SSVR 32.6 | 36.0 | 34.3
        TextTopicNet (Wikipedia) 30.1 | 35.2 | 32.7
        TextTopicNet (ImageCLEF) 26.4 | 31.6 | 29.0
        CCA 9.90 | 9.7 | 9.8
        CFA 18.7 | 21.6 | 20.2
        KCCA (Poly) 20.7 | 19.1 | 19.9
        KCCA (RBF) 23.3 | 24.9 | 24.1
        Bimodal AE 24.5 | 25.6 | 25.1
        Multimodal DBN 19.7 | 18.3 | 19.0
        Corr-AE 26.8 | 27.3 | 27.1
        JRL 30.0 | 28.6 | 29.3
        CMDN 33.4 | 33.3 | 33.4
        """,
        ["map@all"],
        AVERAGED,
        percent=["map@all"],
    ),
    # BSSAN, table II.
    "crossfit-bssan/experiments/huang-2018-bssan-flickr30k.yaml": table(
        """
        DCCA 27.9 56.9 68.2 4.0 | 26.8 52.9 66.9 4.0
        CCA (FV HGLMM) 33.2 60.7 72.4 3.0 | 24.9 52.3 66.4 5.0
        CCA (FV GMM+HGLMM) 33.3 62.0 74.7 3.0 | 25.6 53.2 66.8 5.0
        m-RNN-vgg 35.4 63.8 73.7 3.0 | 22.8 50.7 63.1 5.0
        DVSA (DepTree) 20.0 46.6 59.4 5.4 | 15.0 36.5 48.2 10.4
        DVSA (BRNN) 22.2 48.2 61.4 4.8 | 15.2 37.7 50.5 8.0
        mCNN (ensemble) 33.6 64.1 74.9 3.0 | 26.2 56.3 69.6 4.0
        DSPE 40.3 68.9 79.9 - | 29.7 60.1 72.1 -
        RRF-Net(vgg) 42.1 - - - | 31.2 - - -
        DAN(vgg) 41.4 73.5 82.5 2.0 | 31.8 61.7 72.5 3.0
        2WayNet 49.8 67.5 - - | 36.0 55.6 - -
        BSSAN w2r 41.2 71.1 80.9 3.0 | 31.0 61.3 70.4 3.0
        BSSAN o2w 38.4 67.2 77.5 3.0 | 28.5 57.5 67.9 4.0
        BSSAN no_reg 43.1 73.9 82.8 2.0 | 32.3 61.7 72.3 3.0
        BSSAN 44.6 74.9 84.3 2.0 | 33.2 62.6 72.9 3.0
        """,
        (*RECALLS, "medr"),
        percent=RECALLS,
    ),
    # BSSAN, table III.
    "crossfit-bssan/experiments/huang-2018-bssan-coco.yaml": table(
        """
        CCA (FV HGLMM) 38.7 68.4 81.0 2.0 | 25.1 59.7 76.5 4.0
        CCA (FV GMM+HGLMM) 38.9 68.4 80.1 2.0 | 25.6 60.4 76.8 4.0
        m-RNN-vgg 41.0 73.0 83.5 2.0 | 29.0 42.2 77.0 3.0
        DVSA 38.4 69.9 80.5 1.0 | 27.4 60.2 74.8 3.0
        DSPE 50.1 79.7 89.2 - | 39.6 75.2 86.9 -
        2WayNet 55.8 75.2 - - | 39.7 63.3 - -
        BSSAN w2r 52.9 79.3 88.3 2.0 | 38.1 74.1 86.1 2.0
        BSSAN o2w 49.2 76.1 85.1 2.0 | 36.2 69.2 82.5 3.0
        BSSAN no_reg 54.7 81.9 89.7 1.0 | 40.7 75.5 87.9 2.0
        BSSAN 56.0 82.6 91.3 1.0 | 41.8 76.7 88.5 2.0
        """,
        (*RECALLS, "medr"),
        percent=RECALLS,
    ),
}
#: Rows whose printed recalls count ranks from 0, which have a metric of their own.
FROM_ZERO = {"2WayNet": "twowaynet"}
for _rows in TABLES.values():
    for _label in FROM_ZERO.keys() & _rows.keys():
        _rows[_label] = {
            (f"{metric}:{FROM_ZERO[_label]}", direction): value
            for (metric, direction), value in _rows[_label].items()
        }
#: Rows without a method in crossfit, and rows that train on another data set than they test on.
NOT_COMPUTED = {
    "TextTopicNet (ImageCLEF)",
}  # fmt: skip
FILES = [pytest.param(file, id=Path(file).stem) for file in TABLES]


@pytest.mark.parametrize("file", FILES)
def test_every_printed_row_is_in_the_experiment_with_its_figures(file):
    described = Experiment.from_file(PLUGINS / file)
    rows = [*described.methods, *described.published_only]
    found = {
        row.label: {
            (metric, direction): value
            for metric, by_direction in row.published.items()
            for direction, value in by_direction.items()
        }
        for row in rows
        if row.published
    }
    assert set(found) == set(TABLES[file])
    for label, figures in TABLES[file].items():
        assert found[label] == pytest.approx(figures, rel=1e-12), label
    assert {metric for row in found.values() for metric, _ in row} <= set(described.metrics)


def test_rows_are_not_computed_only_for_a_reason():
    left_out = [
        row for file in TABLES for row in Experiment.from_file(PLUGINS / file).published_only
    ]
    assert {row.label for row in left_out} == NOT_COMPUTED
    assert all(row.note for row in left_out)


WORDS = (
    "paint canvas artist gallery museum portrait",
    "animal bird species insect wing feather",
    "river lake mountain valley coast glacier",
    "guitar chord singer album concert drummer",
)


#: Networks that were fitted by a test.
FITTED: set[str] = set()

DENSE = [
    {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
    {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 8}},
]


def _pairs():
    """Return pairs of 4 classes: vectors that depend on the class, and texts of its words."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % len(WORDS)
    vectors = rng.normal(size=(160, 24)) + 2 * np.eye(len(WORDS), 24)[y]
    texts = [" ".join(rng.choice(WORDS[k].split(), 9)) for k in y]
    return Views(image=vectors.astype(np.float32), text=texts), y


@pytest.mark.parametrize("name", ["music", "music-moods"])
def test_curves_have_a_row_for_every_number_of_components(name):
    file = PLUGINS / "crossfit-correlation" / "experiments" / f"yu-2017-dcca-{name}.yaml"
    labels = {row.label for row in Experiment.from_file(file).methods}
    systems = ("PretrainCNN-CCA", "Spotify-DCCA", "PretrainCNN-DCCA", "JointTrain-DCCA")
    for k in range(10, 101, 10):
        assert {f"{system}, {k} components" for system in systems} < labels


#: Experiments with the settings of methods that several tables compare, for each data set.
SETTINGS = {
    "hglmm-cca": "klein-2015-hglmm-{}",
    "gmm-hglmm-cca": "klein-2015-hglmm-{}",
    "dcca": "yan-2015-dcca-flickr30k",
    "bimodal-ae": "ngiam-2011-bimodal-ae-flickr30k",
    "multimodal-dbn": "srivastava-2012-multimodal-dbn-flickr30k",
    "corr-ae": "feng-2014-corr-ae-pascal-sentences",
    "ccl": "peng-2018-ccl-flickr30k",
    "cmdn": "peng-2016-cmdn-wikipedia",
    "dan": "nam-2017-dan-flickr30k",
    "dspe": "wang-2016-dspe-{}",
    "dvsa": "karpathy-2015-dvsa-{}",
    "m-cnn": "ma-2015-mcnn-flickr30k",
    "m-rnn": "mao-2015-mrnn-flickr30k",
    "rrf-net": "liu-2017-rrf-net-{}",
    "two-way-net": "eisenschtat-2017-2waynet-{}",
}


def _without_epochs(params):
    """Return parameters without numbers of epochs, which follow from published ones of batches."""
    return {
        key: _without_epochs(value) if isinstance(value, dict) else value
        for key, value in params.items()
        if key not in ("max_epochs", "pretrain")
    }


def test_rows_of_one_method_have_the_settings_of_its_own_experiment():
    # ACLN's own features of texts are not counts of words, for which these settings are.
    files = [file for file in TABLES if "music" not in file and "acln" not in file]
    names = [(file, Path(file).stem.rpartition("-")[2]) for file in files]
    compared = set()
    rows = [(row, name) for file, name in names
            for row in Experiment.from_file(PLUGINS / file).methods]  # fmt: skip
    for row, name in rows:
        method = row.method.rpartition(":")[2]
        if method in SETTINGS:
            own = [
                each
                for each in Experiment.find(SETTINGS[method].format(name)).methods
                if each.method == method
            ]
            own = next((each for each in own if each.label == row.label), own[0])
            assert _without_epochs(row.params) == _without_epochs(own.params), row.label
            assert (row.tune, row.tuning) == (own.tune, own.tuning)
            compared.add(method)
    assert compared == set(SETTINGS)


@pytest.mark.parametrize("file", [part for part in FILES if "music" not in part.id])
def test_the_compared_methods_fit_with_their_settings_and_texts(file):
    described = Experiment.from_file(PLUGINS / file)
    views, y = _pairs()
    own = Path(file).parts[0]
    for entry in described.methods:
        features = {**described.features, **entry.features}
        # What transforms all views at once is tested in its plugin.
        text = DENSE if "*" in features else features.get("text")
        distribution = registry.find(entry.method).distribution
        # The paper's own methods are tested in its plugin; word vectors need a file.
        if distribution == own or "word-vectors" in str(text):
            continue
        texts = build_features({"text": text})
        pairs = ViewTransformer(texts).fit_transform(views, y) if texts else views
        method = build_method(entry)
        if "vectors" not in method.card.inputs["image"]:  # regions
            pairs = pairs.replace(image=pairs["image"].reshape(len(pairs), 4, -1))
        if distribution == registry.CORE:
            # A random order has a mean average precision of .27 with four classes of forty.
            assert method.fit(pairs, y).score(pairs, y=y) > 0.33, entry.label
        else:  # a network of the published size, on one batch
            short = {"pretrain": 1} if "pretrain" in entry.params else {}
            if "stages" in entry.params:
                short["stages"] = {
                    stage: {**settings, "max_epochs": 1}
                    for stage, settings in entry.params["stages"].items()
                }
            epochs = 3 if entry.method.endswith("multimodal-dbn") else 1  # one per layer
            method.set_params(
                max_epochs=epochs, batch_size=len(pairs), device="cpu", verbose=0, **short
            )
            known = f"{type(method).__name__} {method.get_params()} {text}"
            if known not in FITTED:  # two sets may have the same row
                FITTED.add(known)
                assert 0 < method.fit(pairs, y).score(pairs, y=y) < 1, entry.label
