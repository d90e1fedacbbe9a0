"""`crossfit check`: kinds of names, and the output of the checks."""

import pytest

from crossfit.cli import main
from crossfit.testing import kit
from crossfit.testing.bad_datasets import make_files


def said(capsys, *args):
    main(["check", *args])
    return capsys.readouterr().out


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main(["check", *args])
    found = capsys.readouterr()
    return stopped.value.code, found.out, found.err


def test_every_kind_is_found_by_its_name(capsys):
    out = said(capsys, "cca", "characters", "emoji", "-k", "check_card or items or labels")
    names = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert names == ["cca", "characters", "emoji"]
    assert "The features of an item depend on it alone" in out
    assert "Labels are of the kind that the card declares" in out


def test_quiet_prints_a_line_for_each_name_and_what_fails(capsys, monkeypatch):
    out = said(capsys, "crossfit-retrieval:cca", "grid", "-q", "-k", "check_card")
    assert out == "crossfit-retrieval:cca: 1 passed, 0 failed, 0 other\n" + (
        "grid: 1 passed, 0 failed, 0 other\n"
    )

    def fails(subject):
        """It fails"""
        raise AssertionError("for a reason")

    monkeypatch.setattr(kit._checks, "__defaults__", ((fails,),))
    code, out, _ = refused(capsys, "cca", "-q", "-k", "not sklearn")
    assert code == 1
    assert [line.strip() for line in out.splitlines()] == [
        "fail     It fails (fails)",
        "for a reason",
        "cca: 0 passed, 1 failed, 0 other",
    ]


@pytest.mark.parametrize("params", [['{"length": 7}'], ["length=7"], ["length=9", "length=7"]])
def test_settings_come_as_json_or_one_by_one(capsys, params):
    seen = []
    kept = kit._extractor_subject

    def noting(extractor, chosen):
        seen.append(dict(chosen))
        return kept(extractor, chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit, "_extractor_subject", noting)
        given = [part for text in [*params, "verbose=no"] for part in ("--params", text)]
        said(capsys, "characters", "-q", "-k", "check_card", *given)
    assert seen == [{"length": 7, "verbose": False}]


def test_a_root_is_where_official_files_are(capsys, tmp_path):
    make_files(tmp_path)
    code, _, err = refused(capsys, "cca", "--root", str(tmp_path))
    assert code == 2 and "--root is only for data sets" in err
    out = said(capsys, "music", "--root", str(tmp_path), "-k", "record")
    assert f"not found in '{tmp_path}'" in " ".join(out.split())


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["shallow-wikipedia"], 1, "`crossfit run shallow-wikipedia --dry-run` validates it"),
        (["wikipedi"], 1, "no method, extractor or data set 'wikipedi' is installed: did you mean"),
        (
            ["grid", "-k", "nothing-like-it"],
            1,
            "no check has a name that matches 'nothing-like-it'",
        ),
        (["grid", "-k", "card and"], 1, "got 'card and'"),
        (["grid", "-k", "card share"], 1, "got 'card share'"),
        (["grid", "-k", "card(x)"], 1, "got 'card(x)'"),
        (["grid", "--params", "size"], 2, "must be a JSON object or KEY=VALUE"),
        (["grid", "--params", "[1, 2]"], 2, "must be a JSON object or KEY=VALUE"),
        (["grid", "--params", '{"size": '], 2, "must be a JSON object or KEY=VALUE"),
        (["grid", "--params", "depth=3"], 1, "GridFeatures cannot be constructed with"),
        (["onnx-detector"], 1, "cannot be constructed with {} (its card has no test_params)"),
        (["emoji", "--params", "size=3"], 1, "has no option 'size'; its options are: subsets"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, args, code, says):
    found, out, err = refused(capsys, *args)
    assert found == code and out == ""
    assert says in err


def test_expressions_choose_by_parts_of_names():
    names = ["check_ragged", "check_padding", "sklearn.check_fit2d(x=True)"]

    def chosen(expression):
        return [name for name in names if kit._selection(expression)(name)]

    assert chosen(None) == names
    assert chosen("ragged or padding") == names[:2]
    assert chosen("not sklearn and not Padding") == names[:1]
    assert chosen("(ragged or fit2d) and not sklearn.check") == names[:1]
    assert chosen("x=True") == names[2:]
