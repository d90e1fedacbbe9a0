"""Experiment files: what is read, and what is rejected, with the line."""

import os
import re
import textwrap
from dataclasses import fields

import pytest

from crossfit import registry
from crossfit.cards import Choice, Each, Float, Int
from crossfit.experiment import Experiment, SpecError, plan
from crossfit.experiment._yaml import change
from crossfit.experiment.build import build_method, draws_at_random, named
from crossfit.experiment.identity import describe

GOOD = """\
title: Two methods
dataset: {name: emoji, split: official, subset: {train: 40}}
x-shared: &shared {n_components: 8, reg: 1e-3}
features:
  text:
    - {name: sklearn.feature_extraction.text.TfidfVectorizer}
    - {name: sklearn.decomposition.TruncatedSVD, params: {n_components: 5}}
seeds: [0, 1]
metrics: [map@50, R@1]
tuning: {trials: 4, folds: 2}
methods:
  - method: cca
    label: CCA
    params: {<<: *shared, n_components: 4}
    tune: {reg: {each: [image, text], float: [1e-3, 10], log: true}}
    published: {map@50: 0.3, r@1: {image2text: 0.1}}
  - cfa
"""


def write(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def test_a_file_is_read_with_defaults_anchors_and_plain_numbers(tmp_path):
    e = Experiment.from_file(write(tmp_path, GOOD))
    assert e.name == "e"
    first, second = e.methods
    assert first.params == {"n_components": 4, "reg": 0.001}
    assert e.metrics == ("map@50:hits", "r@1")
    assert e.datasets[0].options == {"split": "official"}
    assert e.datasets[0].subset == {"train": 40}
    assert first.published == {"map@50:hits": {"mean": 0.3}, "r@1": {"image2text": 0.1}}
    assert (first.tuning.trials, first.tuning.folds, second.tuning) == (4, 2, None)
    assert (second.label, second.params, second.tune) == ("cfa", {}, None)
    again = Experiment.from_dict(e.to_dict())
    assert again.to_dict() == e.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", 8, "unknown key 'seed': did you mean 'seeds'"),
        ("label: CCA", "labels: CCA", 13, r"methods\[0\]: unknown key 'labels': did you mean"),
        ("seeds: [0, 1]", "seeds: [0, 0]", 8, "the seed 0 occurs twice"),
        ("seeds: [0, 1]", "seeds: [0, one]", 8, r"seeds\[1\]: must be a whole number"),
        ("seeds: [0, 1]", "seeds: []", 8, "at least one seed"),
        ("[map@50, R@1]", "[map@50, hits]", 9, "unknown metric 'hits'"),
        ("trials: 4", "trials: 0", 10, "trials: must be a whole number of at least 1"),
        ("folds: 2", "folds: 2, validation: true", 10, "one of 'folds' and 'validation'"),
        ("folds: 2", "sampler: annealing", 10, "sampler: must be one of tpe, random, grid"),
        ("float: [1e-3, 10]", "float: [10, 1e-3]", 15, "low must not be greater than high"),
        ("float: [1e-3, 10]", "float: [1]", 15, r"must be \[low, high\]"),
        ("float: [1e-3, 10]", "floats: [1, 2]", 15, "did you mean 'float'"),
        ("name: emoji, split", "split", 2, "dataset.name: must be a text, got nothing"),
        ("subset: {train: 40}", "subset: {train: 0}", 2, "subset.train: must be a whole"),
        ("  - cfa", "  - method: cfa\n    label: CCA", 17, "the label 'CCA' occurs twice"),
        ("    published", "    params: {}\n    published", 16, "the key 'params' occurs twice"),
        ("seeds: [0, 1]", "relevance: both", 8, "must be one of auto, pair, label"),
        ("seeds: [0, 1]", "baseline: PCA", 8, "must be the label of a method"),
        ("seeds: [0, 1]", "splits: {tests: dev}", 8, "did you mean 'test'"),
        ("seeds: [0, 1]", "reduced: true", 1, "must contain the word 'reduced'"),
        ("seeds: [0, 1]", "1: 2", 8, "keys must be strings"),
        ("seeds: [0, 1]", "seeds: [0, 1", 8, "expected|did not find"),
        ("title: Two methods\n", "", None, "'title' is missing"),
        (
            "image2text: 0.1",
            "image2txt: 0.1",
            16,
            r"published.r@1: unknown key 'image2txt': did you mean 'image2text'",
        ),
        ("image2text: 0.1", "average: 0.1", 16, "there are mean, image2text, text2image, i2t, t2i"),
        ("tune: {reg", "x: {reg", 15, "unknown key 'x'"),
        (
            "    tune: {reg: {each: [image, text], float: [1e-3, 10], log: true}}\n",
            "",
            10,
            "tuning: has no effect: no method has the key 'tune'",
        ),
        (
            "  - cfa",
            "  - {method: cfa, tuning: {trials: 2}}",
            17,
            r"methods\[1\].tuning: has no effect: the method has no key 'tune'",
        ),
        ("float: [1e-3, 10], log", "choice: [1, 2], log", 15, "reg.log: applies to numbers"),
        (
            "  - cfa",
            "  - {method: cfa, similarity: cosinus}",
            17,
            r"methods\[1\].similarity: must be one of cosine, dot, .*, got 'cosinus'",
        ),
        ("log: true}", "when: {powr: 1}}", 15, r"reg.when: must name parameters before it"),
        ("tune: {reg", "tune: {scorer__similarity", 15, "requires the key 'similarity'"),
        ("methods:", "x-methods:", None, "methods: must have at least one method"),
        ("    - {name: sklearn.decomp", "    - {nam: sklearn.decomp", 7, "did you mean 'name'"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(tmp_path, old, new, line, says):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(SpecError, match=says) as caught:
        Experiment.from_file(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    if line is not None:
        # A parser that runs on to the next line may say that.
        assert any(f"{path}:{at}: " in said for at in (line, line + 1)), said


def test_published_rows_that_are_not_computed_are_read(tmp_path):
    rows = """\
published_only:
  - {label: Net, published: {map@50: 0.4, r@1: {i2t: 0.2}}, note: its code is not published}
  - {label: Other, published: {map@50: 0.5}}
"""
    e = Experiment.from_file(write(tmp_path, GOOD + rows))
    first, second = e.published_only
    assert first.published == {"map@50:hits": {"mean": 0.4}, "r@1": {"i2t": 0.2}}
    assert (first.label, first.note, second.note) == ("Net", "its code is not published", "")
    assert {task.cell.label for task in plan(e, tmp_path)} == {"CCA", "cfa"}
    again = Experiment.from_dict(e.to_dict())
    assert again.published_only == e.published_only
    assert Experiment.from_file(write(tmp_path, GOOD)).published_only == ()
    for old, new, line, says in (
        ("label: Other", "label: Net", 20, r"published_only\[1\]: the label 'Net' occurs twice"),
        ("label: Other", "label: CCA", 20, r"published_only\[1\]: the label 'CCA' occurs twice"),
        ("published: {map@50: 0.5}", "note: gone", 20, "has no figures; give them under 'publi"),
        ("map@50: 0.4", "map50: 0.4", 19, "unknown metric 'map50'"),
        ("note: its", "notes: its", 19, "unknown key 'notes': did you mean 'note'"),
        ("label: Other, ", "", 20, "label: must be a text, got nothing"),
    ):
        path = write(tmp_path, GOOD + rows.replace(old, new))
        with pytest.raises(SpecError, match=says) as caught:
            Experiment.from_file(path)
        assert f"{path}:{line}: " in str(caught.value)


def test_words_planned_comparisons_and_channels_are_read():
    given = {
        "title": "Words", "dataset": "emoji", "description": "What is asked.",
        "methods": [{"method": "cca", "label": "A", "note": "fast"}, "pls"],
        "comparisons": [["A", "pls"]],
        "features": {"text": [{"channel": "caption"}, {"name": "tokens"}]},
    }  # fmt: skip
    read = Experiment(**given)
    said = read.to_dict()
    assert (said["description"], said["notes"]) == ("What is asked.", "")
    assert said["comparisons"] == [["A", "pls"]] and read.methods[0].note == "fast"
    assert read.features["text"][0] == {"channel": "caption"}
    for key, value, says in (
        ("comparisons", [["A", "B"]], r"comparisons\[0\]\[1\]: must be one of A, pls, got 'B'"),
        ("comparisons", [["A", "A"]], r"comparisons\[0\]: must be the labels of two methods"),
        ("features", {"text": {"channel": "a", "name": "b"}}, "unknown key 'name'"),
        ("tuning", {"folds": 1}, "folds: must be"),
    ):
        with pytest.raises(SpecError, match=says):
            Experiment(**{**given, key: value})


def test_a_name_of_a_file_becomes_a_name_of_a_run(tmp_path):
    names = {"my exp": "my-exp", "a_b.2": "a_b.2", "_été (1)": "t-1", "Ü": "two-methods"}
    for stem, name in names.items():
        path = tmp_path / f"{stem}.yaml"
        path.write_text(GOOD)
        assert Experiment.from_file(path).name == name


def test_published_directions_are_short_or_long_and_unknown_where_the_data_set_is(tmp_path):
    text = GOOD.replace("image2text: 0.1", "i2t: 0.1, mean: 0.2")
    published = Experiment.from_file(write(tmp_path, text)).methods[0].published
    assert published["r@1"] == {"i2t": 0.1, "mean": 0.2}
    text = GOOD.replace("name: emoji", "name: not-installed").replace("image2text", "audio2text")
    assert Experiment.from_file(write(tmp_path, text)).methods[0].published["r@1"]


def test_tuning_is_asked_for_where_a_method_is_to_be_tuned(tmp_path):
    path = write(tmp_path, GOOD.replace("tuning: {trials: 4, folds: 2}\n", ""))
    with pytest.raises(SpecError, match=r"methods\[0\].tune: requires the key 'tuning'"):
        Experiment.from_file(path)


def test_a_method_may_tune_in_its_own_way(tmp_path):
    text = GOOD.replace("    published", "    tuning: {trials: 2, validation: true}\n    published")
    method = Experiment.from_file(write(tmp_path, text)).methods[0]
    assert (method.tuning.trials, method.tuning.validation) == (2, True)


def test_costs_are_objectives_of_trials_with_several_values(tmp_path):
    given = "tuning: {trials: 4, folds: 2"
    text = GOOD.replace(given, f"{given}, against: [dimensions, seconds], sampler: nsga2")
    tuning = Experiment.from_file(write(tmp_path, text)).tuning
    assert tuning.against == ("dimensions", "seconds")
    own = text.replace("    published", "    tuning: {against: [seconds]}\n    published")
    found = Experiment.from_file(write(tmp_path, own))
    assert found.methods[0].tuning.against == ("seconds",)
    again = Experiment.from_dict(found.to_dict()) if hasattr(Experiment, "from_dict") else found
    assert again.methods[0].tuning == found.methods[0].tuning
    for more, words in (
        ("against: [minutes]", r"tuning.against\[0\]: must be one of seconds, dimensions"),
        ("against: [seconds], pruner: median", "'pruner' requires trials with one value"),
        ("against: [seconds], refit_epochs: true", "'refit_epochs' requires trials with one"),
        ("against: [seconds], sampler: cmaes", "CMA-ES optimises one value"),
    ):
        with pytest.raises(SpecError, match=words):
            Experiment.from_file(write(tmp_path, GOOD.replace(given, f"{given}, {more}")))


def test_settings_change_values_before_they_are_checked(tmp_path):
    path = write(tmp_path, GOOD)
    e = Experiment.from_file(
        path,
        [
            "methods.CCA.params.reg=0.5",
            "methods.1=pls",
            "tuning.trials=9",
            "seeds=[3]",
            "splits.test=dev",
            "features.text.0.params.min_df=2",
        ],
    )
    assert e.methods[0].params["reg"] == 0.5
    assert e.methods[1].method == "pls"
    assert e.tuning.trials == 9
    assert e.seeds == (3,)
    assert e.splits == {"test": "dev"}
    assert e.features["text"][0]["params"] == {"min_df": 2}
    for setting, says in [
        ("methods.PCA.params.reg=1", "no entry 'PCA'"),
        ("trials", "key=value"),
        ("title.a=1", "no keys"),
        ("tuning.trial=3", "did you mean 'trials'"),
    ]:
        with pytest.raises(SpecError, match=says):
            Experiment.from_file(path, [setting])


def test_a_setting_changes_the_place_it_names_and_nothing_that_shares_an_anchor(tmp_path):
    text = """
    title: t
    dataset: emoji
    x-shared: &s {n_components: 2, classifier: {name: a.B, params: {C: 1}}}
    methods:
      - {method: cca, label: A, params: *s}
      - {method: cca, label: B, params: *s}
      - {method: cca, label: C, params: {<<: *s, reg: 1}}
      - &d {method: cca, label: D, params: *s}
      - {<<: *d, label: E}
    """
    path = write(tmp_path, text)
    settings = ["methods.A.params.n_components=5", "methods.C.params.classifier.params.C=9",
                "methods.E.params.n_components=7"]  # fmt: skip
    a, b, c, d, e = (method.params for method in Experiment.from_file(path, settings).methods)
    assert [each["n_components"] for each in (a, b, c, d, e)] == [5, 2, 2, 2, 7]
    assert [each["classifier"]["params"]["C"] for each in (a, b, c, d, e)] == [1, 1, 9, 1, 1]
    with pytest.raises(SpecError, match="anchors are expanded already"):
        Experiment.from_file(path, ["x-shared.n_components=5"])
    with pytest.raises(SpecError, match=rf"{path}: seeds\[1\]: must be a whole"):
        Experiment.from_file(path, ["seeds=[0, one]"])


def test_nothing_in_a_file_is_executed(tmp_path):
    mark = tmp_path / "mark"
    text = GOOD + f"x-evil: !!python/object/apply:os.system ['touch {mark}']\n"
    with pytest.raises(SpecError, match="could not determine a constructor"):
        Experiment.from_file(write(tmp_path, text))
    assert not mark.exists()
    for name in ("os.system", "subprocess.Popen", "sklearn.utils.os.system", "crossfit.cli.main"):
        with pytest.raises((SpecError, registry.RegistryError)):
            named(name, "here")


BOMB = "x-a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"x-a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
MERGED = "x-a0: &a0 {k: 1}\n" + "".join(
    f"x-a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (BOMB, "more than 100,000 values, with its aliases expanded"),
        (MERGED, "more than 100,000 values, with its aliases expanded"),
        ("x-a: " + "[" * 1500 + "]" * 1500, "more than 60 levels deep"),
        ("x-a: " + "{a: " * 1500 + "1" + "}" * 1500, "more than 60 levels deep"),
        ("x-a: " + "[" * 70 + "]" * 70, "more than 60 levels deep"),
        ("x-a: " + "9" * 5000, "a number of 5000 digits is too long"),
        ("x-a: &a [1, *a]", "an alias refers to a value that contains it"),
        ("x-a: &a {b: {<<: *a}}", "an alias refers to a value that contains it"),
        ("x-a: " + "9" * 10_000, "e.yaml"),
        ("x-a: '" + "a" * 2**22 + "'", "is larger than 4,194,304 bytes"),
        ("x-a: !!timestamp 2001-13-40", "e.yaml"),
        ("x-a: \x01", "e.yaml"),
        ("? [1, 2]\n: 3", "keys must be strings"),
    ],
)
def test_what_is_too_much_or_not_for_people_is_told(tmp_path, more, says):
    path = write(tmp_path, GOOD + more)
    with pytest.raises(SpecError, match=says) as caught:
        Experiment.from_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    if more.startswith("x-a: ") and len(more) < 10**5 and "&a" not in more:
        value = more.removeprefix("x-a: ")
        with pytest.raises(SpecError, match="is not a YAML value"):
            Experiment.from_file(write(tmp_path, GOOD), [f"x={value}"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_are_not_read_as_files(tmp_path):
    pipe = tmp_path / "e.yaml"
    os.mkfifo(pipe)
    with pytest.raises(SpecError, match=r"e\.yaml: is not a regular file"):
        Experiment.from_file(pipe)
    with pytest.raises(FileNotFoundError, match="there is no experiment file"):
        Experiment.find(str(pipe))
    with pytest.raises(ValueError, match="is not a regular file"):
        plan(Experiment.from_file(write(tmp_path / "..", GOOD)), tmp_path / "s", data=pipe)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("n_components: 8, reg: 1e-3", "n_component: 8",
         "12: .*no parameter 'n_component', it has n_comp"),
        ("n_components: 4}", "reg: abc}",
         "12: method 'CCA': reg of .* must be a number, got 'abc'"),
        ("n_components: 4}", "n_components: four}",
         "12: method 'CCA': n_components of .* must be a number, got 'four'"),
        ("n_components: 4}", "standardize: no}",
         "12: method 'CCA': .*'standardize' parameter of CCA must be .*bool.*Got 'no'"),
        ("n_components: 4}", "standardize: 'False'}",
         "12: method 'CCA': .*'standardize' parameter of CCA must be .*bool.*Got 'False'"),
        ("n_components: 4}", "reg: {image: 1, text: true}}",
         "12: method 'CCA': .*'reg' parameter of CCA must be .*Got"),
        ("tune: {reg", "tune: {rag",
         "12: method 'CCA': tune: .*no parameter 'rag', it has .*n_comp"),
        ("params: {n_components: 5}", "params: {n_component: 5}",
         r"7: features.text\[1\]: .*no parameter 'n_component', it has n_comp"),
        ("params: {n_components: 5}", "params: {n_components: five}",
         r"7: features.text\[1\]: .*five"),
        ("TfidfVectorizer", "TfidfVectorizers", r"6: features.text\[0\]: .*neither an installed"),
    ],
)  # fmt: skip
def test_what_only_making_a_part_finds_wrong_is_told_with_its_line(tmp_path, old, new, says):
    assert old in GOOD
    with pytest.raises(SpecError, match=rf"e\.yaml:{says}"):
        plan(Experiment.from_file(write(tmp_path, GOOD.replace(old, new))), tmp_path / "s")


def test_parts_of_a_tuned_object_may_be_tuned(tmp_path):
    text = """
    title: t
    dataset: emoji
    tuning: {trials: 2}
    methods:
      - method: sm
        params: {classifier: {name: sklearn.linear_model.LogisticRegression}}
        tune: {classifier__C: {float: [0.1, 1]}, scorer__similarity: {choice: [cosine, kl]}}
        similarity: cosine
    """
    (method,) = Experiment.from_file(write(tmp_path, text)).methods
    assert build_method(method).classifier.C == 1.0
    path = write(tmp_path, text.replace("classifier__C", "classifier__D"))
    with pytest.raises(SpecError, match="no parameter 'classifier__D'"):
        build_method(Experiment.from_file(path).methods[0])


def test_search_spaces_are_the_cards_own_parts():
    tune = {
        "a": {"int": [2, 9], "log": True},
        "b": {"each": ["image", "text"], "float": [0.1, 1.0]},
        "c": {"choice": ["x", None, 3], "when": {"a": [2, 3]}},
        "d": {"choice": {"small": [8], "large": [64, 64]}},
    }
    e = Experiment(title="t", dataset="emoji", methods=[{"method": "cca", "tune": tune}], tuning={})
    space = e.methods[0].tune
    assert e.to_dict()["methods"][0]["tune"] == tune
    assert space["a"] == Int(2, 9, log=True)
    assert space["b"] == Each(("image", "text"), Float(0.1, 1.0))
    assert space["c"] == Choice("x", None, 3, when={"a": (2, 3)})
    assert space["d"] == Choice(small=[8], large=[64, 64])


def test_objects_within_parameters_get_the_seed_that_is_left_open(tmp_path):
    text = """
    title: t
    dataset: emoji
    methods:
      - method: sm
        label: open
        params:
          classifier:
            image: {name: sklearn.ensemble.ExtraTreesClassifier, params: {n_estimators: 3}}
            text:
              - {name: sklearn.preprocessing.StandardScaler}
              - {name: sklearn.linear_model.LogisticRegression, params: {C: 0.1}}
      - method: sm
        label: fixed
        params:
          classifier: {name: sklearn.ensemble.ExtraTreesClassifier, params: {random_state: 7}}
      - {method: cca, label: none}
    """
    a, b, c = Experiment.from_file(write(tmp_path, text)).methods
    built = build_method(a, 5)
    assert built.classifier["image"].random_state == 5
    assert built.classifier["text"].steps[-1][1].C == 0.1
    assert build_method(b, 5).classifier.random_state == 7
    assert [draws_at_random(m) for m in (a, b, c)] == [True, False, False]
    assert describe(built) == describe(build_method(a, 5)) != describe(build_method(a, 6))


def test_a_python_experiment_is_checked_as_a_file_is():
    with pytest.raises(SpecError, match="unknown metric"):
        Experiment(title="t", dataset="emoji", methods=["cca"], metrics=["nope"])
    with pytest.raises(SpecError, match="one of the keys 'dataset' and 'datasets'"):
        Experiment(title="t", methods=["cca"])
    e = Experiment(title="A b!", datasets=["emoji", {"name": "emoji", "label": "two"}],
                   methods=["cca"])  # fmt: skip
    assert e.name == "a-b"
    assert [d.label for d in e.datasets] == ["emoji", "two"]


SHIPPED = [entry.name for entry in registry.entries("crossfit.experiments") if entry.status == "ok"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_installed_experiment_is_valid_without_its_data(name, tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSFIT_DATA", raising=False)
    cells = plan(Experiment.find(name), tmp_path / "s")
    assert cells
    card = registry.get(name, "crossfit.experiments")
    experiment = Experiment.find(name)
    assert set(card.methods) == {m.method for m in experiment.methods}
    assert set(card.datasets) == {d.name for d in experiment.datasets}


def test_an_unknown_experiment_says_what_there_is(tmp_path):
    with pytest.raises(registry.NotInstalledError, match="shallow-wikipedia"):
        Experiment.find("shallow-wikipedi")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        Experiment.find("nowhere.yaml")


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("5", "tuning.storage: must be a text, got 5"),
        ("'5'", "must be a URL"),
        ("journal:///", "storage"),
        ("'sqlite://'", "storage"),
        ("nosuch://x", "begins with 'nosuch'"),
        ("'sqlite:///:memory:'", "is in memory"),
        ("'mysql+pymysql:///x?plugin=os'", "storage|driver"),
    ],
)
def test_what_cannot_be_a_storage_is_told_before_anything_is_loaded(tmp_path, storage, says):
    text = GOOD.replace("trials: 4,", f"trials: 4, storage: {storage},")
    with pytest.raises((SpecError, ImportError), match=says) as caught:
        plan(Experiment.from_file(write(tmp_path, text)), tmp_path / "s")
    if isinstance(caught.value, SpecError):
        assert "e.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("!!bool abc", "a tag that does not fit its value"),
        ('!!float ""', "a tag that does not fit its value"),
        ("!!map x", "expected a mapping node, but found scalar"),
        ("!!seq {a: 1}", "expected a sequence node, but found mapping"),
        ("!!timestamp abc", "the tag 'tag:yaml.org,2002:timestamp'"),
        ("!!binary aGVsbG8=", "the tag 'tag:yaml.org,2002:binary'"),
        ("!!set {a, b}", "the tag 'tag:yaml.org,2002:set'"),
    ],
)
def test_tags_of_other_values_and_of_what_no_experiment_holds_are_refused(tmp_path, value, why):
    path = tmp_path / "e.yaml"
    path.write_text(f"title: t\ndataset: emoji\nmethods: [{{method: cca, params: {value}}}]\n")
    with pytest.raises(SpecError, match=re.escape(why)):
        Experiment.from_file(path)
    with pytest.raises(SpecError, match="is not a YAML value"):
        change({"title": "t"}, f"title={value}")


@pytest.mark.parametrize("name", [field.name for field in fields(Experiment)])
def test_every_key_is_checked_and_kept(name):
    given = {"title": "x", "dataset": "emoji", "methods": ["cca"], "metrics": ["mrr"]}
    with pytest.raises(SpecError):
        Experiment(**{**given, name: object()})
    assert ("datasets" if name == "dataset" else name) in Experiment(**given).to_dict()
