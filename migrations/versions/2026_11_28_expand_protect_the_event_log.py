"""Refuse forged events, consents and messages, changes that hide something, and a wide form of correlation ids."""

from alembic import op

revision = "4e9b27d18f60"
down_revision = "2dcca3bc26eb"
branch_labels = None
depends_on = None

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
IS_OWNER = "pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')"

# The triggers that call it have the condition. TG_ARGV: the name of the rule, and the message.
REJECT = f"""
CREATE FUNCTION public.registrations_reject() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT {IS_OWNER} THEN
    RAISE EXCEPTION '%', TG_ARGV[1]
      USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_ARGV[0];
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$
"""

# A statement changes a registration and adds its event, consents and message. The function runs after the change of the
# registration, in the same statement: its version is then `seq`, and its time that of the statement.
ADDED_ROW = """
CREATE FUNCTION public.{table}_check_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM public.registrations r
    WHERE r.id = NEW.registration_id AND r.version = {seq} AND r.updated_at = statement_timestamp() AND {condition}
  ) AND NOT {is_owner} THEN
    RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation', TABLE = '{table}', CONSTRAINT = 'ck_{table}_insert';
  END IF;
  RETURN NEW;
END $$
"""

# The type of an event agrees with the status of the registration; an unknown type agrees with none.
TYPE_AGREES = """CASE {type}
      WHEN 'registered' THEN r.version = 1 AND r.status = 'pending' AND r.created_at = statement_timestamp()
      WHEN 'imported' THEN r.version = 1
      WHEN 'activated' THEN r.status = 'active'
      WHEN 'profile_updated' THEN r.version > 1 AND r.status IN ('pending', 'verified', 'active')
      WHEN 'consents_recorded' THEN r.version > 1 AND r.status <> 'erased'
      ELSE r.version > 1 AND r.status = {type} AND r.status IN ('verified', 'expired', 'cancelled', 'erased') END"""

EVENT = ADDED_ROW.format(
    table="registration_events",
    seq="NEW.seq",
    condition=f"NEW.occurred_at = statement_timestamp()\n      AND {TYPE_AGREES.format(type='NEW.type')}",
    message="an event can only be added by the statement that changes its registration",
    is_owner=IS_OWNER,
)

# An import backdates the consents of a new registration to the day on which the person registered elsewhere.
CONSENT = ADDED_ROW.format(
    table="registration_consents",
    seq="NEW.seq",
    condition="(NEW.recorded_at = statement_timestamp() OR r.version = 1 AND NEW.recorded_at = r.created_at)",
    message="a consent can only be added by the statement that changes its registration",
    is_owner=IS_OWNER,
)

MESSAGE = ADDED_ROW.format(
    table="outbox",
    seq="CAST(NEW.payload ->> 'seq' AS integer)",
    condition=TYPE_AGREES.format(type="substr(NEW.type, 14)"),
    message="a message about a registration can only be added by the statement that changes it",
    is_owner=IS_OWNER,
)

UNCHANGED_OR_NOW = """NEW.{0} IS DISTINCT FROM OLD.{0} AND NEW.{0} IS DISTINCT FROM statement_timestamp()"""
UNCHANGED_OR_NULL = """NEW.{0} IS DISTINCT FROM OLD.{0} AND NEW.{0} IS NOT NULL"""

# PostgreSQL evaluates the conditions without a call of the function.
REGISTRATION_IS_FORGED = " OR ".join(
    [
        "NEW.version <> OLD.version AND (NEW.version <> OLD.version + 1 OR NEW.updated_at <> statement_timestamp())",
        "NEW.version = OLD.version AND (NEW.status, NEW.updated_at, NEW.profile, NEW.expires_at, NEW.close_reason)"
        " IS DISTINCT FROM (OLD.status, OLD.updated_at, OLD.profile, OLD.expires_at, OLD.close_reason)",
        "NEW.tokens_issued < OLD.tokens_issued",
        *map(UNCHANGED_OR_NOW.format, ("token_issued_at", "verified_at", "activated_at", "closed_at")),
        *map(UNCHANGED_OR_NULL.format, ("email", "email_key", "submit_key", "submit_digest")),
    ]
)
TOKEN_IS_FORGED = " OR ".join(
    ["NEW.attempts < OLD.attempts", *map(UNCHANGED_OR_NOW.format, ("used_at", "replaced_at"))]
)

TRIGGERS = {
    "registration_events_check_insert": """
BEFORE INSERT ON public.registration_events
FOR EACH ROW EXECUTE FUNCTION public.registration_events_check_insert()""",
    "registration_consents_check_insert": """
BEFORE INSERT ON public.registration_consents
FOR EACH ROW EXECUTE FUNCTION public.registration_consents_check_insert()""",
    "outbox_check_insert": """
BEFORE INSERT ON public.outbox
FOR EACH ROW WHEN (NEW.type LIKE 'registration.%') EXECUTE FUNCTION public.outbox_check_insert()""",
    "registrations_check_update": f"""
BEFORE UPDATE ON public.registrations
FOR EACH ROW WHEN ({REGISTRATION_IS_FORGED})
EXECUTE FUNCTION public.registrations_reject('ck_registrations_update',
  'a change needs the next version and the time of the statement, and cannot replace an address or a key')""",
    "registrations_check_delete": """
BEFORE DELETE ON public.registrations
FOR EACH ROW WHEN (OLD.status NOT IN ('expired', 'cancelled'))
EXECUTE FUNCTION public.registrations_reject('ck_registrations_delete',
  'only a registration that is expired or cancelled can be deleted')""",
    "verification_tokens_check_insert": """
BEFORE INSERT ON public.verification_tokens
FOR EACH ROW WHEN (NEW.created_at <> statement_timestamp())
EXECUTE FUNCTION public.registrations_reject('ck_verification_tokens_insert',
  'a token is created at the time of the statement')""",
    "verification_tokens_check_update": f"""
BEFORE UPDATE ON public.verification_tokens
FOR EACH ROW WHEN ({TOKEN_IS_FORGED})
EXECUTE FUNCTION public.registrations_reject('ck_verification_tokens_update',
  'the attempts of a token cannot decrease, and its times are those of the statement')""",
}

FUNCTIONS = (
    "registrations_reject",
    "registration_events_check_insert",
    "registration_consents_check_insert",
    "outbox_check_insert",
)


def upgrade() -> None:
    op.execute(NARROW_CORRELATION_ID)
    op.execute(VALIDATE_IF_EMPTY)
    for function in (REJECT, EVENT, CONSENT, MESSAGE):
        op.execute(function)
    for name, definition in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name}{definition}")


def downgrade() -> None:
    for name, definition in reversed(TRIGGERS.items()):
        table = definition.split(" ON ")[1].split()[0]
        op.execute(f"DROP TRIGGER {name} ON {table}")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION public.{function}()")
    op.execute(WIDEN_CORRELATION_ID)
