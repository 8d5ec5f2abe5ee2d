"""The table of keys in infra/README.md, made from the models: `python -m registration_infra.config.readme_table`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo

from registration_infra.config.environment import EnvironmentConfig
from registration_infra.config.table import expected_value, tables_of
from registration_infra.config.toml_text import toml_text

README: Final = Path(__file__).parents[2] / "README.md"
START: Final = "<!-- start of the table of keys: `python -m registration_infra.config.readme_table` writes it -->\n"
END: Final = "<!-- end of the table of keys -->\n"


def key_table() -> str:
    """Return the table in Markdown, with one row for each key of a file."""
    rows = (
        f"| `{key}` | {_default(field)} | {expected_value(field)} | {field.description} |" for key, field in _keys()
    )
    return "\n".join(["| key | default | values | meaning |", "|---|---|---|---|", *rows, ""])


def with_key_table(readme: str) -> str:
    """Return the text of a README with the table between its two comments replaced."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{key_table()}\n{END}{after}"


def _keys() -> Iterator[tuple[str, FieldInfo]]:
    tables = tables_of(EnvironmentConfig)
    yield from ((key, field) for key, field in EnvironmentConfig.file_keys().items() if key not in tables)
    for table, model in tables.items():
        yield from ((f"{table}.{key}", field) for key, field in model.file_keys().items())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default is None else f"`{toml_text(field.default)}`"


if __name__ == "__main__":
    README.write_text(with_key_table(README.read_text(encoding="utf-8")), encoding="utf-8")
