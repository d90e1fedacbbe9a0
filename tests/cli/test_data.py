"""`crossfit data`: what is there of a copy of a data set, and what is missing."""

import pytest

from crossfit.cli import main

NAMES = [f"{i}.jpg" for i in range(30)]


@pytest.fixture
def folder(tmp_path):
    """A copy of Flickr8k, too small, without the list of the test split."""
    root = tmp_path / "flickr8k"
    (root / "Flicker8k_Dataset").mkdir(parents=True)
    (root / "Flickr8k_text").mkdir()
    for name in NAMES:
        (root / "Flicker8k_Dataset" / name).write_bytes(name.encode())
    lines = [f"{name}#{k}\ta caption\n" for name in NAMES for k in range(2)]
    (root / "Flickr8k_text/Flickr8k.token.txt").write_text("".join(lines))
    for part, names in (("train", NAMES[:20]), ("dev", NAMES[20:])):
        (root / f"Flickr8k_text/Flickr_8k.{part}Images.txt").write_text("\n".join(names))
    return tmp_path


def said(capsys, *words, code=0):
    if code:
        with pytest.raises(SystemExit) as stopped:
            main(["data", *words])
        assert stopped.value.code == code
    else:
        main(["data", *words])
    found = capsys.readouterr()
    return found.out + found.err


def test_what_is_there_and_what_is_missing(folder, capsys):
    out = said(
        capsys, "flickr8k", "--root", str(folder), "--params", "strict=false", code=1
    ).splitlines()
    assert out[0] == f"flickr8k in {folder}/flickr8k"
    assert out[1].split() == ["official", "train", "40", "rows:", "20", "image,", "40", "text"]
    assert out[2].split() == ["official", "dev", "20", "rows:", "10", "image,", "20", "text"]
    assert out[3].split()[:2] == ["official", "test"] and "hockenmaier" in out[3]
    assert out[4:] == ["  missing: 1 file", "    Flickr8k_text/Flickr_8k.testImages.txt"]


def test_a_copy_that_is_whole(folder, capsys):
    path = folder / "flickr8k/Flickr8k_text/Flickr_8k.testImages.txt"
    path.write_text("3.jpg")
    out = said(capsys, "--root", str(folder), "--params", "strict=false")
    assert "official     test       2 rows: 1 image, 2 text" in out and "missing" not in out
    out = said(capsys, "--root", str(folder / "flickr8k"), "flickr8k", code=1)
    assert "incomplete or not the official one: train has 20, not 6000" in out


def test_many_missing_files_are_counted(folder, capsys):
    for name in NAMES[:15]:
        (folder / "flickr8k/Flicker8k_Dataset" / name).unlink()
    words = ("flickr8k", "--root", str(folder), "--params", "strict=false")
    out = said(capsys, *words, code=1)
    assert "missing: 16 files" in out and "    and 6 more; --all lists them" in out
    assert "Flicker8k_Dataset/14.jpg" not in out
    out = said(capsys, *words, "--all", code=1)
    assert "    Flicker8k_Dataset/14.jpg" in out and "more;" not in out


def test_all_ways_to_split_or_one(capsys):
    out = said(capsys, "emoji")
    assert out.startswith("emoji part of its distribution\n  official     train      1,149 rows:")
    assert said(capsys, "emoji", "--split", "official") == out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing"], 1, "no data set 'nothing' is installed"),
        (["emoji", "--split", "other"], 1, "'emoji' can be split as official, got 'other'"),
        (["emoji", "--params", "taste=good"], 2, "takes the options subsets, got taste"),
        (["flickr8k", "--root", "{folder}/none"], 2, "does not exist"),
        (["--root", "{folder}/flickr8k"], 2, "no folder with the name of a data set"),
    ],
)
def test_usage(folder, capsys, words, code, message):
    out = said(capsys, *(word.format(folder=folder) for word in words), code=code)
    assert message in " ".join(out.split())


def test_without_a_folder(capsys, monkeypatch):
    monkeypatch.delenv("CROSSFIT_DATA", raising=False)
    assert "set --root or CROSSFIT_DATA" in said(capsys, code=2)
    assert "set root= or CROSSFIT_DATA" in said(capsys, "flickr8k", code=1)
