"""The reserved names of databases are those of a real server."""

from registration_infra.config.reserved_names import UNUSABLE_DATABASES, is_reserved_for_new_database

from registration_persistence.testing import open_server


def test_reserved_words_and_databases_of_the_server_are_refused() -> None:
    """Each reserved key word of PostgreSQL, and each database of a new server, is refused; other words are not."""
    with open_server("embedded") as server, server.connect("postgres") as connection:
        words = connection.execute("SELECT word, catcode IN ('R', 'T') FROM pg_get_keywords()").fetchall()
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}

    assert len(words) > 400
    for word, reserved in words:
        assert is_reserved_for_new_database(word) == reserved, word
    assert databases - {"postgres"} < UNUSABLE_DATABASES
    assert all(is_reserved_for_new_database(name) for name in databases)
    assert not is_reserved_for_new_database("registrations")
