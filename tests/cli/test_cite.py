"""`crossfit cite`."""


def test_cite_prints_the_citation_of_a_method_and_of_a_data_set(run):
    assert "Hotelling" in run("cite", "cca").stdout
    assert run("cite", "emoji").stdout.strip()
