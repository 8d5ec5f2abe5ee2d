"""Refuse forged events, consents and messages, changes that hide something, and a wide form of correlation ids.

It also hides the mailbox that a sign-up with a limit locks.

The previous code works with this revision if its services pass correlation ids of the narrow form, so change these
services first: each change with another correlation id, for example with a space or `=`, fails with an IntegrityError.
"""

from alembic import op

revision = "4e9b27d18f60"
down_revision = "c0a5f1d3e7b2"
branch_labels = None
depends_on = None

# All tables at first, and with a short wait for each: a deadlock with a transaction that uses them in another order is
# then over before PostgreSQL looks for it, after one second, and fails a request of the service.
LOCK_ALL = """
DO $$
DECLARE
  timeout text = current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', '200ms', true);
  LOCK TABLE public.registrations, public.verification_tokens, public.registration_consents,
    public.registration_events, public.outbox IN ACCESS EXCLUSIVE MODE;
  PERFORM set_config('lock_timeout', timeout, true);
END $$
"""

# A table with rows keeps NOT VALID until a later revision validates it, because the scan would block every sign-up.
NARROW_CORRELATION_ID = """
ALTER TABLE public.registration_events DROP CONSTRAINT ck_registration_events_correlation_id;
ALTER TABLE public.registration_events ADD CONSTRAINT ck_registration_events_correlation_id
  CHECK (correlation_id ~ '^[A-Za-z0-9_.:/-]{1,64}$') NOT VALID
"""

VALIDATE_IF_EMPTY = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM public.registration_events) THEN
    ALTER TABLE public.registration_events VALIDATE CONSTRAINT ck_registration_events_correlation_id;
  END IF;
END $$
"""

WIDEN_CORRELATION_ID = """
ALTER TABLE public.registration_events DROP CONSTRAINT ck_registration_events_correlation_id;
ALTER TABLE public.registration_events ADD CONSTRAINT ck_registration_events_correlation_id
  CHECK (octet_length(correlation_id) <= 128) NOT VALID
"""

# The owner of a table can drop its triggers anyway, so it is exempt: it loads, moves and corrects rows.
# PL/pgSQL evaluates a condition without a subquery ten times as fast, so the owner is only looked up if it holds.
# The conditions are in the functions and not in WHEN, because PostgreSQL would then refuse to change a column's type.
FUNCTION = """
CREATE FUNCTION public.{table}_check_{action}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF {forged} THEN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
      RAISE EXCEPTION '{message}'
        USING ERRCODE = 'check_violation', TABLE = '{table}', CONSTRAINT = 'ck_{table}_{action}';
    END IF;
  END IF;
  RETURN {row};
END $$
"""

BEFORE_ROW = """
CREATE TRIGGER {table}_check_{action} BEFORE {action} ON public.{table}
FOR EACH ROW EXECUTE FUNCTION public.{table}_check_{action}()
"""

# One query for all rows of a statement: one for each row makes an import slower by half.
AFTER_STATEMENT = """
CREATE TRIGGER {table}_check_{action} AFTER {action} ON public.{table} REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION public.{table}_check_{action}()
"""

# DO can run for days, with COMMIT in between, while `statement_timestamp()` stays the same.
OVERDUE = "statement_timestamp() < clock_timestamp() - interval '1 hour'"

# A statement changes a registration and adds its event, consents and message. The functions run at its end: the version
# of the registration is then `seq`, and its time that of the statement. PostgreSQL turns this form of subquery into no
# join, so it always uses the primary key, however many rows there are.
NOT_OF_A_CHANGE = f"""EXISTS (
    SELECT FROM added WHERE {{added}} NOT coalesce((
      SELECT {{condition}} AND r.updated_at = statement_timestamp() AND NOT {OVERDUE}
      FROM public.registrations r WHERE r.id = added.registration_id), false))"""  # noqa: S608 a constant

# The type of an event agrees with the status of the registration; an unknown type agrees with none.
TYPE_AGREES = """CASE {type}
      WHEN 'registered' THEN r.version = 1 AND r.created_at = statement_timestamp()
        AND r.status IN ('pending', 'cancelled')
      WHEN 'imported' THEN r.version = 1
      WHEN 'activated' THEN r.status = 'active'
      WHEN 'profile_updated' THEN r.version > 1 AND r.status IN ('pending', 'verified', 'active')
      WHEN 'consents_recorded' THEN r.version > 1 AND r.status <> 'erased'
      ELSE r.version > 1 AND r.status = {type} AND r.status IN ('verified', 'expired', 'cancelled', 'erased') END"""

FORGED_EVENT = NOT_OF_A_CHANGE.format(
    added="",
    condition="added.seq = r.version AND added.occurred_at = r.updated_at\n    AND "
    + TYPE_AGREES.format(type="added.type"),
)

# An import backdates the consents of a new registration to the day on which the person registered elsewhere.
FORGED_CONSENT = NOT_OF_A_CHANGE.format(
    added="",
    condition="""added.seq = r.version
    AND (added.recorded_at = r.updated_at OR r.version = 1 AND added.recorded_at = r.created_at)""",
)

# A service can add messages of its own types.
FORGED_MESSAGE = NOT_OF_A_CHANGE.format(
    added="added.type LIKE 'registration.%' AND",
    condition="added.payload = jsonb_build_object('seq', r.version)\n    AND "
    + TYPE_AGREES.format(type="substr(added.type, 14)"),
)

# The clock of the service, with which an import rejects times in the future, may be ahead of the server's.
FORGED_REGISTRATION = f"""NEW.closed_at <> statement_timestamp() OR NEW.status IN ('expired', 'erased') OR {OVERDUE}
    OR greatest(NEW.created_at, NEW.token_issued_at, NEW.verified_at, NEW.activated_at)
      > statement_timestamp() + interval '1 hour'"""

CHANGED_TO_ANOTHER_TIME = "NEW.{0} IS DISTINCT FROM OLD.{0} AND NEW.{0} IS DISTINCT FROM statement_timestamp()"
CHANGED_WITHOUT_MOVE = "NEW.{0} IS DISTINCT FROM OLD.{0} AND NOT (OLD.status IN {1} AND NEW.status IN {2})"
CHANGED_AGAIN = "NEW.{0} IS DISTINCT FROM OLD.{0} AND OLD.{0} IS NOT NULL"
REPLACED = "NEW.{0} IS DISTINCT FROM OLD.{0} AND (NEW.{0} IS NOT NULL OR NEW.status <> 'erased')"

NEW_COLUMNS = """NEW.status, NEW.updated_at, NEW.profile, NEW.expires_at, NEW.close_reason,
    NEW.verified_at, NEW.activated_at, NEW.closed_at"""

# Only the numbers and times of tokens change without a new version, because they have no event.
FORGED_CHANGE = " OR ".join(
    [
        "OLD.status = 'erased'",
        f"""NEW.version <> OLD.version
    AND (NEW.version <> OLD.version + 1 OR NEW.updated_at <> statement_timestamp() OR {OVERDUE})""",
        f"NEW.version = OLD.version AND ({NEW_COLUMNS}) IS DISTINCT FROM ({NEW_COLUMNS.replace('NEW.', 'OLD.')})",
        "NEW.tokens_issued < OLD.tokens_issued",
        *map(CHANGED_TO_ANOTHER_TIME.format, ("token_issued_at", "verified_at", "activated_at", "closed_at")),
        CHANGED_WITHOUT_MOVE.format("verified_at", "('pending')", "('verified')"),
        CHANGED_WITHOUT_MOVE.format("activated_at", "('verified')", "('active')"),
        "NEW.status = OLD.status AND (NEW.closed_at, NEW.close_reason) IS DISTINCT FROM (OLD.closed_at, OLD.close_reason)",
        *map(REPLACED.format, ("email", "email_key", "submit_key", "submit_digest")),
    ]
)
FORGED_TOKEN_CHANGE = " OR ".join(
    [
        "NEW.attempts < OLD.attempts",
        *map(CHANGED_TO_ANOTHER_TIME.format, ("used_at", "replaced_at")),
        *map(CHANGED_AGAIN.format, ("used_at", "replaced_at")),
    ]
)

# Every login sees the keys of advisory locks in pg_locks, so a key may not be a known function of the mailbox. The value
# of a sequence can be read by its owner only, and the sequence belongs to whoever owns the table.
LOCK_KEY = """
CREATE SEQUENCE public.registrations_lock_key OWNED BY public.registrations.id;
SELECT setval('public.registrations_lock_key',
  1 + CAST(CAST('x' || left(encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 15) AS bit(60)) AS bigint))
"""

COUNT_PENDING = """
CREATE OR REPLACE FUNCTION public.registrations_count_pending(mailbox text, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT {security} SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('registrations_count_pending'), {key});
  RETURN (
    SELECT count(*) FROM (
      SELECT FROM public.registrations
      WHERE email_key = mailbox AND status = 'pending' AND expires_at > statement_timestamp() LIMIT most
    ) AS pending
  );
END $$
"""
HIDDEN_KEY = """(
    SELECT CAST(CAST('x' || left(encode(sha256(convert_to(last_value || mailbox, 'UTF8')), 'hex'), 8) AS bit(32)) AS int)
    FROM public.registrations_lock_key)"""

RULES = (
    (
        "registration_events",
        "insert",
        FORGED_EVENT,
        "an event can only be added by the statement that changes its registration",
    ),
    (
        "registration_consents",
        "insert",
        FORGED_CONSENT,
        "a consent can only be added by the statement that changes its registration",
    ),
    (
        "outbox",
        "insert",
        FORGED_MESSAGE,
        "a message about a registration can only be added by the statement that changes it",
    ),
    (
        "registrations",
        "insert",
        FORGED_REGISTRATION,
        "a registration is not expired or erased from the beginning, and none of its times is in the future",
    ),
    (
        "registrations",
        "update",
        FORGED_CHANGE,
        "a change needs the next version and the time of the statement, and cannot replace an address or a key",
    ),
    (
        "registrations",
        "delete",
        "OLD.status NOT IN ('expired', 'cancelled')",
        "only a registration that is expired or cancelled can be deleted",
    ),
    (
        "verification_tokens",
        "update",
        FORGED_TOKEN_CHANGE,
        "the attempts of a token cannot decrease, and its times are those of the statement",
    ),
)


def upgrade() -> None:
    op.execute(LOCK_ALL)
    op.execute(NARROW_CORRELATION_ID)
    op.execute(VALIDATE_IF_EMPTY)
    op.execute(LOCK_KEY)
    op.execute(COUNT_PENDING.format(security="SECURITY DEFINER", key=HIDDEN_KEY))
    for table, action, forged, message in RULES:
        is_of_statement = "FROM added" in forged
        row = "NULL" if is_of_statement else "OLD" if action == "delete" else "NEW"
        op.execute(FUNCTION.format(table=table, action=action, forged=f"({forged})", message=message, row=row))
        op.execute((AFTER_STATEMENT if is_of_statement else BEFORE_ROW).format(table=table, action=action))


def downgrade() -> None:
    op.execute(LOCK_ALL)
    for table, action, _, _ in reversed(RULES):
        op.execute(f"DROP TRIGGER {table}_check_{action} ON public.{table}")
        op.execute(f"DROP FUNCTION public.{table}_check_{action}()")
    op.execute(COUNT_PENDING.format(security="SECURITY INVOKER", key="hashtext(mailbox)"))
    op.execute("DROP SEQUENCE public.registrations_lock_key")
    op.execute(WIDEN_CORRELATION_ID)
