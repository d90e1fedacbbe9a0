"""The loader against the conformance checks, and against files with known content."""

import pytest

from crossfit.testing import parametrize_with_checks
from crossfit_template.cards import TEMPLATE
from crossfit_template.loader import load
from crossfit_template.testing import make_files


@parametrize_with_checks([TEMPLATE])
def test_conforms(check):
    check()


def test_rows_are_those_of_the_files(tmp_path):
    make_files(tmp_path)
    test = load(tmp_path, subsets="test")["test"]
    assert test.views["text"].tolist() == [f"a caption of picture {i}" for i in (9, 10, 11)]
    assert test.y.tolist() == [0, 1, 2]
    assert test.views["image"][0] == str(tmp_path / "images" / "9.png")


def test_another_number_of_items_is_refused(tmp_path):
    make_files(tmp_path)
    table = tmp_path / "test.tsv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match="test has 2, not 3"):
        load(tmp_path)
    assert len(load(tmp_path, strict=False)["test"]) == 2
