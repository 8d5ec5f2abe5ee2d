"""What is stored, as typed models: the schema that Alembic compares the database with.

Two things that models cannot express are in the migrations alone: the trigger that refuses illegal moves of
`registrations.status`, and the monthly partitions of `registration_events`.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registration_persistence.models.columns import (
    Base,
    ComparisonKey,
    Counter,
    Hash,
    Id,
    IdPrimaryKey,
    Json,
    Moment,
    MomentNow,
    Small,
    String,
)

EVENT_PARTITION = r"registration_events_(default|y\d{4}m\d{2})"
"""What the partitions of `registration_events` are called, as a regular expression."""


class RegistrationRow(Base):
    """One sign-up, from the first form to erasure. A mailbox may have many, but only one that is proven."""

    __tablename__ = "registrations"

    id: Mapped[IdPrimaryKey]
    email: Mapped[String | None]
    email_key: Mapped[ComparisonKey | None]
    email_key_rev: Mapped[Small]
    status: Mapped[String]
    profile: Mapped[Json]
    submit_key: Mapped[Hash | None]
    submit_digest: Mapped[Hash | None]
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    tokens_issued: Mapped[Counter]
    token_issued_at: Mapped[Moment | None]
    created_at: Mapped[MomentNow]
    updated_at: Mapped[MomentNow]
    expires_at: Mapped[Moment | None]
    verified_at: Mapped[Moment | None]
    activated_at: Mapped[Moment | None]
    closed_at: Mapped[Moment | None]
    close_reason: Mapped[String | None]

    __table_args__ = (
        CheckConstraint("status IN ('pending', 'verified', 'active', 'expired', 'cancelled', 'erased')", "status"),
        CheckConstraint("(status IN ('pending', 'verified')) = (expires_at IS NOT NULL)", "open_expires"),
        CheckConstraint("(status IN ('expired', 'cancelled', 'erased')) = (closed_at IS NOT NULL)", "closed_at"),
        CheckConstraint("(closed_at IS NULL) = (close_reason IS NULL)", "close_reason_when_closed"),
        CheckConstraint("close_reason IN ('ttl', 'user', 'admin', 'superseded', 'erasure')", "close_reason"),
        CheckConstraint("status NOT IN ('verified', 'active') OR verified_at IS NOT NULL", "verified_at"),
        CheckConstraint("status <> 'active' OR activated_at IS NOT NULL", "activated_at"),
        CheckConstraint("(status = 'erased') = (email_key IS NULL)", "email_key_until_erased"),
        CheckConstraint("(status = 'erased') = (email IS NULL)", "email_until_erased"),
        CheckConstraint("status <> 'erased' OR profile = '{}'", "profile_until_erased"),
        CheckConstraint("jsonb_typeof(profile) = 'object' AND pg_column_size(profile) <= 65536", "profile"),
        CheckConstraint("octet_length(email) <= 320", "email_length"),
        CheckConstraint("octet_length(email_key) BETWEEN 3 AND 320", "email_key_length"),
        CheckConstraint("email_key = lower(email_key)", "email_key_lower"),
        CheckConstraint("email_key IS NFKC NORMALIZED", "email_key_normalized"),
        CheckConstraint("(submit_key IS NULL) = (submit_digest IS NULL)", "submit_pair"),
        CheckConstraint("octet_length(submit_key) = 32 AND octet_length(submit_digest) = 32", "submit_length"),
        CheckConstraint("version >= 1 AND tokens_issued >= 0", "counters"),
        Index(
            "uq_registrations_email_proven",
            "email_key",
            unique=True,
            postgresql_where=text("status IN ('verified', 'active')"),
        ),
        Index("ix_registrations_email_pending", "email_key", postgresql_where=text("status = 'pending'")),
        Index(
            "ix_registrations_open_expires", "expires_at", postgresql_where=text("status IN ('pending', 'verified')")
        ),
        Index("ix_registrations_closed", "closed_at", postgresql_where=text("status IN ('expired', 'cancelled')")),
        Index(
            "ix_registrations_email_closed", "email_key", postgresql_where=text("status IN ('expired', 'cancelled')")
        ),
        Index(
            "uq_registrations_submit_key", "submit_key", unique=True, postgresql_where=text("submit_key IS NOT NULL")
        ),
        {"postgresql_with": {"fillfactor": 90}},
    )


class VerificationTokenRow(Base):
    """What proves a mailbox: the hash of a secret that was sent there, never the secret."""

    __tablename__ = "verification_tokens"

    id: Mapped[IdPrimaryKey]
    registration_id: Mapped[Id] = mapped_column(ForeignKey("registrations.id", ondelete="CASCADE"))
    purpose: Mapped[String]
    secret_hash: Mapped[Hash]
    hash_key_id: Mapped[Small]
    attempts: Mapped[Counter]
    created_at: Mapped[MomentNow]
    expires_at: Mapped[Moment]
    used_at: Mapped[Moment | None]
    replaced_at: Mapped[Moment | None]

    __table_args__ = (
        CheckConstraint("purpose IN ('verify_email')", "purpose"),
        CheckConstraint("octet_length(secret_hash) = 32", "secret_hash"),
        CheckConstraint("attempts >= 0 AND hash_key_id >= 0", "counters"),
        CheckConstraint("expires_at > created_at", "expires_at"),
        UniqueConstraint("secret_hash"),
        Index("ix_verification_tokens_registration_id_purpose", "registration_id", "purpose"),
        Index("ix_verification_tokens_expires_at", "expires_at"),
    )


class RegistrationConsentRow(Base):
    """A consent given or withdrawn, for one version of one document; rows are added and never changed."""

    __tablename__ = "registration_consents"

    registration_id: Mapped[Id] = mapped_column(ForeignKey("registrations.id", ondelete="CASCADE"), primary_key=True)
    purpose: Mapped[String] = mapped_column(primary_key=True)
    id: Mapped[IdPrimaryKey]
    document_version: Mapped[String]
    granted: Mapped[bool]
    source: Mapped[String]
    recorded_at: Mapped[MomentNow]
    seq: Mapped[int] = mapped_column(Integer, server_default=text("1"))

    __table_args__ = (
        CheckConstraint("purpose ~ '^[a-z][a-z0-9_]{0,62}$'", "purpose"),
        CheckConstraint("octet_length(document_version) BETWEEN 1 AND 64", "document_version"),
        CheckConstraint("octet_length(source) BETWEEN 1 AND 64", "source"),
        CheckConstraint("seq >= 1", "seq"),
    )


class RegistrationEventRow(Base):
    """What happened to a registration, in order, without personal data, so that the trail outlives an erasure."""

    __tablename__ = "registration_events"

    registration_id: Mapped[Id] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    occurred_at: Mapped[MomentNow] = mapped_column(primary_key=True)
    id: Mapped[Id]
    type: Mapped[String]
    data: Mapped[Json]
    actor: Mapped[String]
    correlation_id: Mapped[String | None]

    __table_args__ = (
        CheckConstraint("seq >= 1", "seq"),
        CheckConstraint("actor IN ('user', 'system') OR actor ~ '^admin:[A-Za-z0-9_.-]{1,64}$'", "actor"),
        CheckConstraint("octet_length(correlation_id) <= 128", "correlation_id"),
        Index("ix_registration_events_occurred_at", "occurred_at", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )


class OutboxRow(Base):
    """A message that is still to be delivered; holds ids only, and is deleted when it was."""

    __tablename__ = "outbox"

    event_id: Mapped[IdPrimaryKey]
    registration_id: Mapped[Id]
    type: Mapped[String]
    payload: Mapped[Json]
    available_at: Mapped[MomentNow]
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[String | None]
    dead_at: Mapped[Moment | None]

    __table_args__ = (
        CheckConstraint("attempts >= 0", "attempts"),
        CheckConstraint("last_error ~ '^[A-Za-z0-9_.:-]{1,200}$'", "last_error"),
        Index("ix_outbox_available_at_event_id", "available_at", "event_id", postgresql_where=text("dead_at IS NULL")),
        Index("ix_outbox_dead_at_event_id", "dead_at", "event_id", postgresql_where=text("dead_at IS NOT NULL")),
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_threshold": 1000}},
    )
