"""The service keeps what its OpenAPI description promises, as schemathesis checks it."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is of the extra test")


@pytest.fixture(scope="session")
def described(bundle, photos):
    from crossfit.serving import build_app

    app = build_app(bundle, photos, hosts=("testserver",))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


ROUTES = [
    ("POST", "/search"),
    ("GET", "/items/{id}"),
    ("GET", "/items/{id}/file"),
    ("GET", "/items/{id}/thumbnail"),
    ("GET", "/about"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    # Any text may be the name of an item; the other routes take nothing that could be wrong.
    [*((*route, "positive") for route in ROUTES), ("POST", "/search", "negative")],
    ids=lambda part: part,
)
def test_answers_are_as_described(described, method, path, mode):
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    operation = described[path][method]
    wanted = schemathesis.GenerationMode(mode)

    @given(case=operation.as_strategy(generation_mode=wanted))
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        # A schema cannot state what a filter, a picture and the width of a vector must be.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()


def test_every_route_is_described_with_its_errors(client):
    described = client.get("/openapi.json").json()
    assert {path for _, path in ROUTES} <= set(described["paths"])
    search = described["paths"]["/search"]["post"]
    assert set(search["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= set(
        search["responses"]
    )
