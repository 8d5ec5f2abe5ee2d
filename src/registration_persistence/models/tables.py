"""The tables as models; Alembic compares the database with them.

Models cannot express two things, which are only in the migrations: the triggers, which refuse illegal changes of
`registrations.status` and forged rows, and the monthly partitions of `registration_events`.
"""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registration_persistence.models.columns import (
    Base,
    ComparisonKeyColumn,
    CountColumn,
    HashColumn,
    IdColumn,
    IdPrimaryKey,
    JsonColumn,
    SmallIntColumn,
    TextColumn,
    TimestampColumn,
    TimestampNowColumn,
)

EVENT_PARTITION = r"registration_events_(default|y\d{4}m\d{2})"
"""A regular expression that matches the names of the partitions of `registration_events`."""


class RegistrationRow(Base):
    """A registration, from the sign-up to the erasure; a mailbox may have several, but only one current one.

    Attributes:
        email_key: The normalised address by which mailboxes are compared; NULL if erased.
        email_key_rev: The revision of the normalisation rules that made `email_key`.
        submit_key: The SHA-256 of the idempotency key; NULL without one, and if erased.
        submit_digest: The SHA-256 of the address, the profile and the consents that were sent with the key; NULL if
            `submit_key` is.
        version: The number of changes, from 1; also the `seq` of the newest event.
        tokens_issued: The number of tokens and codes that were issued so far, for the limit `max_issued`.
        token_issued_at: The time at which the newest of them was issued, for the limit `min_gap`.
        expires_at: The time until which the next step must be taken; NULL unless pending or verified.
    """

    __tablename__ = "registrations"

    id: Mapped[IdPrimaryKey]
    email: Mapped[TextColumn | None]
    email_key: Mapped[ComparisonKeyColumn | None]
    email_key_rev: Mapped[SmallIntColumn]
    status: Mapped[TextColumn]
    profile: Mapped[JsonColumn]
    submit_key: Mapped[HashColumn | None]
    submit_digest: Mapped[HashColumn | None]
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    tokens_issued: Mapped[CountColumn]
    token_issued_at: Mapped[TimestampColumn | None]
    created_at: Mapped[TimestampNowColumn]
    updated_at: Mapped[TimestampNowColumn]
    expires_at: Mapped[TimestampColumn | None]
    verified_at: Mapped[TimestampColumn | None]
    activated_at: Mapped[TimestampColumn | None]
    closed_at: Mapped[TimestampColumn | None]
    close_reason: Mapped[TextColumn | None]

    __table_args__: Any = (
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
        Index("ix_registrations_email_pending_id", "email_key", "id", postgresql_where=text("status = 'pending'")),
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
    """The hash of a token or code that verifies a mailbox; the secret itself is never stored.

    Attributes:
        secret_hash: The SHA-256 of a token, or the HMAC-SHA-256 of a code.
        hash_key_id: 0 for a token, whose hash has no key; for a code the id of its pepper, 1 to 32767.
        attempts: The number of wrong codes that were judged.
        used_at: The time at which the mailbox was verified with it; NULL before.
        replaced_at: The time at which a newer token or code replaced it; NULL before.
    """

    __tablename__ = "verification_tokens"

    id: Mapped[IdPrimaryKey]
    registration_id: Mapped[IdColumn] = mapped_column(ForeignKey("registrations.id", ondelete="CASCADE"))
    purpose: Mapped[TextColumn]
    secret_hash: Mapped[HashColumn]
    hash_key_id: Mapped[SmallIntColumn]
    attempts: Mapped[CountColumn]
    created_at: Mapped[TimestampNowColumn]
    expires_at: Mapped[TimestampColumn]
    used_at: Mapped[TimestampColumn | None]
    replaced_at: Mapped[TimestampColumn | None]

    __table_args__: Any = (
        CheckConstraint("purpose IN ('verify_email')", "purpose"),
        CheckConstraint("octet_length(secret_hash) = 32", "secret_hash"),
        CheckConstraint("attempts >= 0 AND hash_key_id >= 0", "counters"),
        CheckConstraint("expires_at > created_at", "expires_at"),
        UniqueConstraint("secret_hash"),
        Index("ix_verification_tokens_registration_id_purpose", "registration_id", "purpose"),
        Index("ix_verification_tokens_expires_at", "expires_at"),
    )


class RegistrationConsentRow(Base):
    """A decision about one version of one document; rows are added and never changed.

    Attributes:
        seq: The `seq` of the event that recorded the decision, which orders the history.
    """

    __tablename__ = "registration_consents"

    registration_id: Mapped[IdColumn] = mapped_column(
        ForeignKey("registrations.id", ondelete="CASCADE"), primary_key=True
    )
    purpose: Mapped[TextColumn] = mapped_column(primary_key=True)
    id: Mapped[IdPrimaryKey]
    document_version: Mapped[TextColumn]
    granted: Mapped[bool]
    source: Mapped[TextColumn]
    recorded_at: Mapped[TimestampNowColumn]
    seq: Mapped[int] = mapped_column(Integer, server_default=text("1"))

    __table_args__: Any = (
        CheckConstraint("purpose ~ '^[a-z][a-z0-9_]{0,62}$'", "purpose"),
        CheckConstraint("octet_length(document_version) BETWEEN 1 AND 64", "document_version"),
        CheckConstraint("octet_length(source) BETWEEN 1 AND 64", "source"),
        CheckConstraint("seq >= 1", "seq"),
    )


class RegistrationEventRow(Base):
    """An entry of the event log; without personal data, so that it stays after an erasure.

    Attributes:
        seq: The number of the event within its registration, from 1 without gaps.
        id: The id of the event, which its outbox message has, too.
        data: Details, for example the names of the fields that were changed.
    """

    __tablename__ = "registration_events"

    registration_id: Mapped[IdColumn] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    occurred_at: Mapped[TimestampNowColumn] = mapped_column(primary_key=True)
    id: Mapped[IdColumn]
    type: Mapped[TextColumn]
    data: Mapped[JsonColumn]
    actor: Mapped[TextColumn]
    correlation_id: Mapped[TextColumn | None]

    __table_args__: Any = (
        CheckConstraint("seq >= 1", "seq"),
        CheckConstraint("actor IN ('user', 'system') OR actor ~ '^admin:[A-Za-z0-9_.-]{1,64}$'", "actor"),
        CheckConstraint("correlation_id ~ '^[A-Za-z0-9_.:/-]{1,64}$'", "correlation_id"),
        Index("ix_registration_events_occurred_at", "occurred_at", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )


class OutboxRow(Base):
    """A message that is to be delivered; contains ids only, and is deleted after the delivery.

    Attributes:
        event_id: The id of the event, which is the same in each delivery.
        payload: A JSON object with `seq`, the number of the event within its registration.
        available_at: The time from which a worker can claim the message: the end of the lease, or the next attempt.
        attempts: The number of times that the message was claimed and not released.
        dead_at: The time at which the message became a dead letter; NULL before.
    """

    __tablename__ = "outbox"

    event_id: Mapped[IdPrimaryKey]
    registration_id: Mapped[IdColumn]
    type: Mapped[TextColumn]
    payload: Mapped[JsonColumn]
    available_at: Mapped[TimestampNowColumn]
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[TextColumn | None]
    dead_at: Mapped[TimestampColumn | None]

    __table_args__: Any = (
        CheckConstraint("attempts >= 0", "attempts"),
        CheckConstraint("last_error ~ '^[A-Za-z0-9_.:-]{1,200}$'", "last_error"),
        Index("ix_outbox_available_at_event_id", "available_at", "event_id", postgresql_where=text("dead_at IS NULL")),
        Index("ix_outbox_dead_at_event_id", "dead_at", "event_id", postgresql_where=text("dead_at IS NOT NULL")),
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_threshold": 1000}},
    )
