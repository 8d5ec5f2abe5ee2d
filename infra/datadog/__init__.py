"""Datadog monitors and dashboards of the database: the files, and the command that sends them.

Run the command in `infra/` as `python -m datadog`. The current folder comes first on the import path there, so this
package is found before any installed distribution with the module `datadog`.
"""
