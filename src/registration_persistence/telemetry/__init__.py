"""Spans and metrics of a database, in one module for each integration, which needs the extra of its name.

`opentelemetry`: `from registration_persistence.telemetry import opentelemetry; opentelemetry.instrument(get_db())`.
"""
