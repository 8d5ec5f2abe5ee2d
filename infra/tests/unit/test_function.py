"""`registration_infra.constructs.function`: the settings that all functions share."""

import pytest
from templates import Template, templates_of, text_of


@pytest.mark.parametrize("stack", ["database", "application"])
def test_functions_log_json(stack: str) -> None:
    """Functions log JSON at level INFO, so that the fields of events can be searched, into their own log group."""
    template: Template = getattr(templates_of("dev"), stack)
    groups = []
    for function in template.all("Lambda::Function").values():
        logging = function["LoggingConfig"]
        assert ("JSON", "INFO") == (logging["LogFormat"], logging["ApplicationLogLevel"])
        groups.append(text_of(logging["LogGroup"]).strip("{}"))

    assert len({*groups}) == len(groups) == (3 if stack == "database" else 1)
    assert {*groups} <= template.all("Logs::LogGroup").keys()
