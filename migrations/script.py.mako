<%!
import subprocess
import sys
from importlib.util import find_spec


def quoted(value):
    return repr(value).replace("'", '"')


def summary(message):
    line = " ".join(message.replace("\\", "/").replace('"', "'").split())[:100] or "Describe the change"
    return (line[0].upper() + line[1:]).rstrip(" .?!,;:") + "."


def formatted(source):
    """Format the revision as `make lint` expects it, if ruff is installed."""
    if find_spec("ruff"):
        for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", "migrations/versions/new.py", "-"]
            done = subprocess.run(ruff, input=source.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            source = done.stdout.decode() or source
    return source
%>\
<%block filter="formatted">\
<% body = " ".join(filter(None, [upgrades, downgrades])) %>\
"""${summary(message)}

How to write one: docs/howto/change-the-schema.md. Import nothing from registration_persistence.
"""

% if "sa." in body:
import sqlalchemy as sa
% endif
% if "op." in body:
from alembic import op
% endif
${imports if imports else ""}
revision = ${quoted(up_revision)}
down_revision = ${quoted(down_revision)}
branch_labels = ${quoted(branch_labels)}
depends_on = ${quoted(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
</%block>\
