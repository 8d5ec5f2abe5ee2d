"""Create the schema of the first release, 0.1.0: registrations, their tokens, consents, event log and outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2dcca3bc26eb"
down_revision = None
branch_labels = None
depends_on = None

MOVES = """
CREATE FUNCTION registrations_check_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status = 'erased'
     OR OLD.status = 'pending' AND NEW.status IN ('verified', 'expired', 'cancelled')
     OR OLD.status = 'verified' AND NEW.status IN ('active', 'expired', 'cancelled')
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a registration that is % cannot become %', OLD.status, NEW.status
    USING ERRCODE = 'check_violation', TABLE = 'registrations', CONSTRAINT = 'ck_registrations_move';
END $$
"""

TRIGGER = """
CREATE TRIGGER registrations_check_move BEFORE UPDATE OF status ON registrations
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION registrations_check_move()
"""

# This month and the twelve months ahead; other events go to the default partition.
PARTITIONS = """
DO $$
DECLARE
  month timestamp = date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
  CREATE TABLE registration_events_default PARTITION OF registration_events DEFAULT;
  FOR ahead IN 0..12 LOOP
    EXECUTE format(
      'CREATE TABLE %I PARTITION OF registration_events FOR VALUES FROM (%L) TO (%L)',
      to_char(month, '"registration_events_y"YYYY"m"MM'), month || '+00', month + interval '1 month' || '+00'
    );
    month = month + interval '1 month';
  END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("registration_id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "available_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_outbox_attempts")),
        sa.CheckConstraint("last_error ~ '^[A-Za-z0-9_.:-]{1,200}$'", name=op.f("ck_outbox_last_error")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_outbox")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_threshold": 1000},
    )
    op.create_index(
        "ix_outbox_available_at_event_id",
        "outbox",
        ["available_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_dead_at_event_id",
        "outbox",
        ["dead_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_table(
        "registration_events",
        sa.Column("registration_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column(
            "occurred_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "actor IN ('user', 'system') OR actor ~ '^admin:[A-Za-z0-9_.-]{1,64}$'",
            name=op.f("ck_registration_events_actor"),
        ),
        sa.CheckConstraint("octet_length(correlation_id) <= 128", name=op.f("ck_registration_events_correlation_id")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_registration_events_seq")),
        sa.PrimaryKeyConstraint("registration_id", "seq", "occurred_at", name=op.f("pk_registration_events")),
        postgresql_partition_by="RANGE (occurred_at)",
    )
    op.create_index(
        "ix_registration_events_occurred_at",
        "registration_events",
        ["occurred_at"],
        unique=False,
        postgresql_using="brin",
    )
    op.execute(PARTITIONS)
    op.create_table(
        "registrations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_key", sa.Text(collation="C"), nullable=True),
        sa.Column("email_key_rev", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("profile", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("submit_key", sa.LargeBinary(), nullable=True),
        sa.Column("submit_digest", sa.LargeBinary(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("tokens_issued", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("token_issued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("close_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'erased') = (email IS NULL)", name=op.f("ck_registrations_email_until_erased")),
        sa.CheckConstraint(
            "(status = 'erased') = (email_key IS NULL)", name=op.f("ck_registrations_email_key_until_erased")
        ),
        sa.CheckConstraint(
            "(status IN ('expired', 'cancelled', 'erased')) = (closed_at IS NOT NULL)",
            name=op.f("ck_registrations_closed_at"),
        ),
        sa.CheckConstraint(
            "(status IN ('pending', 'verified')) = (expires_at IS NOT NULL)", name=op.f("ck_registrations_open_expires")
        ),
        sa.CheckConstraint(
            "close_reason IN ('ttl', 'user', 'admin', 'superseded', 'erasure')",
            name=op.f("ck_registrations_close_reason"),
        ),
        sa.CheckConstraint(
            "jsonb_typeof(profile) = 'object' AND pg_column_size(profile) <= 65536",
            name=op.f("ck_registrations_profile"),
        ),
        sa.CheckConstraint(
            "status <> 'active' OR activated_at IS NOT NULL", name=op.f("ck_registrations_activated_at")
        ),
        sa.CheckConstraint("status <> 'erased' OR profile = '{}'", name=op.f("ck_registrations_profile_until_erased")),
        sa.CheckConstraint(
            "status IN ('pending', 'verified', 'active', 'expired', 'cancelled', 'erased')",
            name=op.f("ck_registrations_status"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('verified', 'active') OR verified_at IS NOT NULL", name=op.f("ck_registrations_verified_at")
        ),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (close_reason IS NULL)", name=op.f("ck_registrations_close_reason_when_closed")
        ),
        sa.CheckConstraint("(submit_key IS NULL) = (submit_digest IS NULL)", name=op.f("ck_registrations_submit_pair")),
        sa.CheckConstraint("email_key = lower(email_key)", name=op.f("ck_registrations_email_key_lower")),
        sa.CheckConstraint("email_key IS NFKC NORMALIZED", name=op.f("ck_registrations_email_key_normalized")),
        sa.CheckConstraint("octet_length(email) <= 320", name=op.f("ck_registrations_email_length")),
        sa.CheckConstraint("octet_length(email_key) BETWEEN 3 AND 320", name=op.f("ck_registrations_email_key_length")),
        sa.CheckConstraint(
            "octet_length(submit_key) = 32 AND octet_length(submit_digest) = 32",
            name=op.f("ck_registrations_submit_length"),
        ),
        sa.CheckConstraint("version >= 1 AND tokens_issued >= 0", name=op.f("ck_registrations_counters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registrations")),
        postgresql_with={"fillfactor": 90},
    )
    op.create_index(
        "ix_registrations_closed",
        "registrations",
        ["closed_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('expired', 'cancelled')"),
    )
    op.create_index(
        "ix_registrations_email_closed",
        "registrations",
        ["email_key"],
        unique=False,
        postgresql_where=sa.text("status IN ('expired', 'cancelled')"),
    )
    op.create_index(
        "ix_registrations_email_pending",
        "registrations",
        ["email_key"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_registrations_open_expires",
        "registrations",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'verified')"),
    )
    op.create_index(
        "uq_registrations_email_proven",
        "registrations",
        ["email_key"],
        unique=True,
        postgresql_where=sa.text("status IN ('verified', 'active')"),
    )
    op.create_index(
        "uq_registrations_submit_key",
        "registrations",
        ["submit_key"],
        unique=True,
        postgresql_where=sa.text("submit_key IS NOT NULL"),
    )
    op.execute(MOVES)
    op.execute(TRIGGER)
    op.create_table(
        "registration_consents",
        sa.Column("registration_id", sa.UUID(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("document_version", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column("seq", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("purpose ~ '^[a-z][a-z0-9_]{0,62}$'", name=op.f("ck_registration_consents_purpose")),
        sa.CheckConstraint(
            "octet_length(document_version) BETWEEN 1 AND 64", name=op.f("ck_registration_consents_document_version")
        ),
        sa.CheckConstraint("octet_length(source) BETWEEN 1 AND 64", name=op.f("ck_registration_consents_source")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_registration_consents_seq")),
        sa.ForeignKeyConstraint(
            ["registration_id"],
            ["registrations.id"],
            name=op.f("fk_registration_consents_registration_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("registration_id", "purpose", "id", name=op.f("pk_registration_consents")),
    )
    op.create_table(
        "verification_tokens",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("registration_id", sa.UUID(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash_key_id", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("statement_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("purpose IN ('verify_email')", name=op.f("ck_verification_tokens_purpose")),
        sa.CheckConstraint("attempts >= 0 AND hash_key_id >= 0", name=op.f("ck_verification_tokens_counters")),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_verification_tokens_expires_at")),
        sa.CheckConstraint("octet_length(secret_hash) = 32", name=op.f("ck_verification_tokens_secret_hash")),
        sa.ForeignKeyConstraint(
            ["registration_id"],
            ["registrations.id"],
            name=op.f("fk_verification_tokens_registration_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verification_tokens")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_verification_tokens_secret_hash")),
    )
    op.create_index("ix_verification_tokens_expires_at", "verification_tokens", ["expires_at"], unique=False)
    op.create_index(
        "ix_verification_tokens_registration_id_purpose",
        "verification_tokens",
        ["registration_id", "purpose"],
        unique=False,
    )


def downgrade() -> None:
    for table in ("verification_tokens", "registration_consents", "registrations", "registration_events", "outbox"):
        op.drop_table(table)
    op.execute("DROP FUNCTION registrations_check_move()")
