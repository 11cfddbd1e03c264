"""Whatever is asked of the API, as its document says or not, is answered as it says."""

import shutil

import pytest
import schemathesis
from app_herds import TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from imageherd.app.server import create_app

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
# The words that lead somewhere, in place of what is made up.
REAL = {"c": "default", "with": "coarse", "uid": 1, "row": 3, "rows": "0,5"}


@pytest.fixture(scope="module")
def api(template, tmp_path_factory):
    herd = shutil.copytree(template, tmp_path_factory.mktemp("schema") / "photos.herd")
    app = create_app(herd, TOKEN, hosts=("testserver", "localhost"))
    return schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=HEADERS)


def ask_at_random(operation, mode):
    """Ask for what the document describes, or for something near it."""

    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(headers=HEADERS, checks=CHECKS)
        for words in (case.path_parameters, case.query):
            for name in words or ():
                words[name] = REAL.get(name, words[name])
        case.call_and_validate(headers=HEADERS, checks=CHECKS)

    ask()


def test_answers_are_as_the_document_says(api):
    # Events never end.
    operations = [found.ok() for found in api.exclude(path_regex="/events$").get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        for mode in GenerationMode:
            try:
                ask_at_random(operation, mode)
            except Unsatisfiable:
                # There is no wrong way to ask for it.
                assert mode is GenerationMode.NEGATIVE


def test_the_document_tells_the_errors_of_every_route(api):
    for path, methods in api.raw_schema["paths"].items():
        for method, told in methods.items():
            assert {"400", "401", "403", "404", "413", "422"} <= set(told["responses"]), path
            assert any(status.startswith("2") for status in told["responses"]), path
            assert told["description"], f"{method} {path}"
