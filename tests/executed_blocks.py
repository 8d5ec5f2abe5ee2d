"""Which test executes the code blocks of which page, and why the other blocks are not executed."""

from typing import Final

_GUIDES = "tests/integration/test_howtos.py"
_NEEDS_AWS = "needs an account of AWS"
_NO_CODE = "is no code"

EXECUTED: Final = {
    ("README.md", "python"): "tests/integration/test_examples.py",
    ("docs/architecture.md", ""): "tests/test_architecture.py",
    ("docs/cli.md", "sh"): "tests/cli/test_every_command.py",
    ("docs/diagrams.md", "mermaid"): "tests/test_architecture.py",
    ("docs/howto/asyncio.md", "python"): "tests/integration/test_howto_asyncio.py",
    ("docs/howto/datadog.md", "python"): _GUIDES,
    ("docs/howto/deliver-the-outbox.md", "python"): _GUIDES,
    ("docs/howto/doctor.md", "python"): "tests/cli/doctor/test_page.py",
    ("docs/howto/doctor.md", "text"): "tests/cli/doctor/test_page.py",
    ("docs/howto/erase-a-person.md", "python"): _GUIDES,
    ("docs/howto/express-cluster.md", "python"): _GUIDES,
    ("docs/howto/failover.md", "python"): _GUIDES,
    ("docs/howto/import.md", "csv"): _GUIDES,
    ("docs/howto/import.md", "json"): _GUIDES,
    ("docs/howto/import.md", "python"): _GUIDES,
    ("docs/howto/lambda.md", "python"): _GUIDES,
    ("docs/howto/powertools.md", "python"): "tests/integration/test_howto_powertools.py",
    ("docs/howto/readers.md", "python"): _GUIDES,
    ("docs/howto/resend.md", "python"): _GUIDES,
    ("docs/howto/rotation.md", "python"): _GUIDES,
    ("docs/howto/short-codes.md", "python"): _GUIDES,
    ("docs/howto/sign-up-flow.md", "python"): _GUIDES,
    ("docs/howto/telemetry.md", "python"): "tests/integration/telemetry/test_howto_telemetry.py",
    ("docs/howto/test-your-service.md", "python"): "tests/resilience/test_howto.py",
    ("docs/howto/web-frameworks.md", "python"): "tests/integration/test_web_frameworks.py",
    ("docs/howto/your-own-tables.md", "diff"): "tests/integration/test_howto_own_tables.py",
    ("docs/howto/your-own-tables.md", "python"): "tests/integration/test_howto_own_tables.py",
    ("docs/runbooks/end-an-old-snapshot.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/find-an-expensive-statement.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/find-lost-connections.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/freeze-transaction-ids.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/repair-a-failed-restore-test.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/repair-a-failed-migration.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/resolve-deadlocks.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/work-without-secrets-manager.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/raise-capacity.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/restore-from-the-central-backup.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/restore-to-a-point-in-time.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/rotate-at-once.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/runbooks/upgrade-postgresql.md", "sh"): "infra/tests/runbooks/test_runbooks.py",
    ("docs/tutorial.md", "python"): "tests/docs/test_tutorial.py",
    ("docs/tutorial.md", "sh"): "tests/docs/test_tutorial.py",
    ("docs/tutorial.md", "text"): "tests/docs/test_tutorial.py",
    ("examples/fastapi_service/README.md", "sh"): "tests/integration/test_fastapi_service.py",
    ("infra/README.md", "toml"): "infra/tests/unit/test_readme.py",
    # Here: `test_commands.py` runs the commands, and `test_code_blocks.py` the SQL and the Python code.
    ("docs/howto/daily-jobs.md", "cron"): "tests/docs/test_commands.py",
    ("docs/howto/daily-jobs.md", "sh"): "tests/docs/test_commands.py",
    ("docs/howto/deliver-the-outbox.md", "sql"): "tests/docs/test_code_blocks.py",
    ("docs/howto/erase-a-person.md", "sh"): "tests/docs/test_commands.py",
    ("docs/howto/import.md", "sh"): "tests/docs/test_commands.py",
    ("docs/howto/pause-the-cluster.md", "sql"): "tests/docs/test_code_blocks.py",
    ("docs/howto/roles.md", "sql"): "tests/docs/test_code_blocks.py",
    ("docs/howto/short-codes.md", "sh"): "tests/docs/test_commands.py",
    ("docs/howto/your-own-tables.md", "sql"): "tests/docs/test_code_blocks.py",
    ("docs/methods.md", "python"): "tests/docs/test_code_blocks.py",
    ("docs/operations.md", "sh"): "tests/docs/test_commands.py",
}
"""The file of the test, by the page and the language of the blocks. It executes all of them, also new ones."""

NOT_EXECUTED: Final = {
    ("CONTRIBUTING.md", "python3 release/notes.py"): "tests/test_release.py runs the program",
    ("CONTRIBUTING.md", "git tag"): "publishes a version",
    ("SECURITY.md", "gh attestation verify"): "needs a published version",
    ("SECURITY.md", "pypi-attestations verify"): "needs a published version",
    ("docs/cli.md", '{"error"'): "is the form of an error; tests/cli/test_every_command.py reads errors",
    ("README.md", "flowchart LR"): _NO_CODE,
    ("docs/decisions/0015-export-few-names-from-the-root.md", "from registration_persistence import outcomes"): (
        "shows two imports that every test has"
    ),
    ("docs/decisions/0019-end-a-pipeline-without-flush.md", "with psycopg.connect("): (
        "shows a defect of psycopg that the package avoids"
    ),
    ("docs/howto/asyncio.md", "pip install"): "installs packages",
    ("docs/howto/change-the-schema.md", "export APP_ENVIRONMENT=local"): (
        "names a database of the reader; tests/migrations/test_alembic_command.py runs the two commands"
    ),
    (
        "docs/howto/change-the-schema.md",
        "registration-persistence migrate",
    ): "tests/cli/test_schema.py runs the commands",
    ("docs/howto/change-the-schema.md", "from alembic import command"): (
        "tests/migrations/test_passed_connections.py passes a connection in each way"
    ),
    ("docs/howto/change-the-schema.md", "from registration_persistence import schema"): (
        "is a part of an env.py, and the tutorial has the whole file"
    ),
    ("docs/howto/datadog.md", "pip install"): "installs packages",
    ("docs/howto/datadog.md", "cd infra"): "needs an account of Datadog; infra/tests/unit/datadog runs the command",
    (
        "docs/howto/deliver-the-outbox.md",
        "registration-persistence outbox run",
    ): "runs until SIGTERM; tests/cli/test_outbox.py",
    (
        "docs/howto/deliver-the-outbox.md",
        "registration-persistence outbox dead",
    ): "names a dead letter; tests/cli/test_outbox.py",
    ("docs/howto/doctor.md", "ENVIRONMENT=prod"): _NEEDS_AWS,
    ("docs/howto/express-cluster.md", "export APP_DATABASE_AUTH=iam"): _NEEDS_AWS,
    ("docs/howto/express-cluster.md", "aws sts"): _NEEDS_AWS,
    ("docs/howto/express-cluster.md", "{"): "is a policy of AWS",
    ("docs/howto/express-cluster.md", "CREATE DATABASE"): "cannot be rolled back",
    ("docs/howto/express-cluster.md", "PGPASSWORD="): _NEEDS_AWS,
    ("docs/howto/express-cluster.md", "pip install"): _NEEDS_AWS,
    (
        "docs/howto/express-cluster.md",
        "provision_aurora = false",
    ): "is an environment file; infra/tests/unit/test_readme.py",
    ("docs/howto/iam.md", "export APP_DATABASE_HOST"): _NEEDS_AWS,
    ("docs/howto/iam.md", "export APP_DATABASE_SECRET_ARN"): _NEEDS_AWS,
    ("docs/howto/iam.md", "{"): "is a policy of AWS",
    ("docs/howto/lambda.md", "openssl s_client"): "needs the host of a cluster",
    ("docs/howto/pause-the-cluster.md", "def test_the_first_request_waits"): (
        "waits for 15 s; test-your-service.md has the same test with 2 s"
    ),
    ("docs/howto/roles.md", "export APP_DATABASE_SECRET_ARN"): (
        "needs secrets; tests/integration/roles/test_bootstrap.py runs the commands"
    ),
    ("docs/howto/telemetry.md", "pip install"): "installs packages",
    ("docs/howto/test-your-service.md", "pip install"): "installs packages",
    ("docs/runbooks/repair-a-failed-migration.md", "APP_DATABASE_HOST="): "names a database of the reader",
    ("docs/upgrading.md", "pip install"): "needs a published version",
    ("docs/upgrading.md", "registration-persistence current"): "tests/cli/test_schema.py runs the commands",
    ("examples/signup_page/README.md", "Content-Security-Policy"): (
        "is a header; tests/pages/test_accessibility.py and the other tests of the pages fail if it is violated"
    ),
    ("docs/index.md", "make service"): "runs until Ctrl-C; tests/pages/test_program.py starts and ends it",
    ("docs/index.md", "make demo"): "tests/cli/test_demo.py runs the demo",
    ("docs/index.md", "make chaos"): "takes 75 s; tests/cli/test_chaos.py runs it for less",
    ("infra/README.md", "make deploy"): _NEEDS_AWS,
    ("infra/README.md", "aws cloudformation"): _NEEDS_AWS,
    (
        "infra/README.md",
        "from registration_infra",
    ): "examples/registration_service/stack.py is tested, and has the same lines",
    ("infra/README.md", "id=$(aws rds"): _NEEDS_AWS,
    ("infra/README.md", "secret=registration"): _NEEDS_AWS,
}
"""The reason, by the page and the beginning of the block."""
