"""The tests of SQLAlchemy's suite that are expected to fail, each with its reason."""

_DEFAULT_SCHEMA = "the default schema is `public` without a query, see decision 10"

# Class and test of the suite, for our dialect with each engine.
_OF_THE_DIALECT = {
    ("WeCanSetDefaultSchemaWEventsTest", "test_schema_change_on_connect"): _DEFAULT_SCHEMA,
    ("WeCanSetDefaultSchemaWEventsTest", "test_schema_change_works_w_transactions"): _DEFAULT_SCHEMA,
    ("WeCanSetDefaultSchemaWEventsTest", "test_wont_work_wo_insert"): _DEFAULT_SCHEMA,
    ("FutureWeCanSetDefaultSchemaWEventsTest", "test_schema_change_on_connect"): _DEFAULT_SCHEMA,
    ("FutureWeCanSetDefaultSchemaWEventsTest", "test_schema_change_works_w_transactions"): _DEFAULT_SCHEMA,
    ("FutureWeCanSetDefaultSchemaWEventsTest", "test_wont_work_wo_insert"): _DEFAULT_SCHEMA,
}

_OF_OUR_ENGINE = {
    (
        "ExceptionTest",
        "test_exception_with_non_ascii",
    ): "an unknown column is `SchemaOutdated`, see `error_translation`",
}


def expected_difference(group: str, test: str, *, engine: str) -> str | None:
    """Return why a test of the suite is expected to fail; `None` if it is expected to pass.

    Args:
        group: The name of the test's class, without the name of the dialect.
        test: The name of the test, without its parameters.
        engine: The option `--engine`.
    """
    if engine == "plain":
        return None
    of_our_engine = _OF_OUR_ENGINE.get((group, test)) if engine == "ours" else None
    return _OF_THE_DIALECT.get((group, test), of_our_engine)
