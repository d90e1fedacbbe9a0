"""`crossfit list`: one line per entry, and complete cards."""

import json
import subprocess
import sys


def test_list_shows_one_line_for_every_entry_and_json_every_card(run):
    from crossfit import registry

    table, cards = run("list"), run("list", "--json")
    assert table.returncode == cards.returncode == 0
    rows = json.loads(cards.stdout)
    assert len(rows) == len(registry.entries())
    assert len(table.stdout.splitlines()) == len(rows) + 1
    cca = next(row for row in rows if row["name"] == "cca")
    assert cca["status"] == "ok"
    assert cca["card"]["target"] == "crossfit.subspace.cca:CCA"
    assert "reg" in cca["card"]["search_space"]


def test_list_can_be_limited_to_a_section(run):
    done = run("list", "methods", "--json")
    assert {row["kind"] for row in json.loads(done.stdout)} == {"method"}


def test_listing_imports_no_heavy_library(run):
    code = (
        "import sys; from crossfit.cli import main\n"
        "try: main(['list'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'gensim', 'optuna'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"
