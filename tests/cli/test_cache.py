"""`crossfit cache`."""

import json


def test_cache_info_counts_and_clear_empties(run, home):
    run("search", "red heart", "--features", "plain", home=home)
    before = json.loads(run("cache", "info", "--json", home=home).stdout)
    assert before["entries"] >= 1600
    assert str(home) in before["path"]
    assert run("cache", "clear", home=home).returncode == 130  # no answer to the question
    assert json.loads(run("cache", "info", "--json", home=home).stdout) == before
    assert run("cache", "clear", "--yes", home=home).returncode == 0
    assert json.loads(run("cache", "info", "--json", home=home).stdout)["entries"] == 0
