"""Let tokens be replaced, order consents like the event log, and index dead letters and closed registrations."""

import sqlalchemy as sa
from alembic import op

revision = "b41d5e0c92fa"
down_revision = "652c73ea87d7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("verification_tokens", sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True))
    # Until now, only a sign-up recorded consents; it is the first event of its registration.
    op.add_column("registration_consents", sa.Column("seq", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.create_check_constraint(op.f("ck_registration_consents_seq"), "registration_consents", "seq >= 1")
    op.create_check_constraint(op.f("ck_outbox_last_error"), "outbox", "last_error ~ '^[A-Za-z0-9_.:-]{1,200}$'")
    op.create_index(
        "ix_outbox_dead_at_event_id",
        "outbox",
        ["dead_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_index(
        "ix_registrations_email_closed",
        "registrations",
        ["email_key"],
        unique=False,
        postgresql_where=sa.text("status IN ('expired', 'cancelled')"),
    )


def downgrade() -> None:
    op.drop_index("ix_registrations_email_closed", "registrations")
    op.drop_index("ix_outbox_dead_at_event_id", "outbox")
    op.drop_constraint(op.f("ck_outbox_last_error"), "outbox", type_="check")
    op.drop_constraint(op.f("ck_registration_consents_seq"), "registration_consents", type_="check")
    op.drop_column("registration_consents", "seq")
    op.drop_column("verification_tokens", "replaced_at")
