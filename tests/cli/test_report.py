"""`crossfit report`: which files it replaces, and what it requires."""

from crossfit.experiment.evaluate import TOP


def test_a_report_leaves_alone_what_no_report_wrote(run, tmp_path):
    mine = tmp_path / "leaderboard.csv"
    mine.write_text("my own figures")
    done = run("report", "anything", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "leaderboard.csv would be overwritten" in done.stderr
    assert mine.read_text() == "my own figures"
    for name in ("report.html", "leaderboard.md", "leaderboard.tex"):
        (tmp_path / name).touch()  # as after an earlier report
    done = run("report", "anything", "--out", str(tmp_path), "--store", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "overwritten" not in done.stderr


def test_the_gallery_has_at_most_the_items_that_are_stored(run, tmp_path):
    done = run("report", "some-run", "--store", str(tmp_path), "--items", str(TOP + 1))
    assert done.returncode == 2
    assert f"--items must be at most {TOP}, the number of items that are stored" in done.stderr
