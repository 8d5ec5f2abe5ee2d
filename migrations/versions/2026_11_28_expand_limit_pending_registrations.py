"""Hide personal data from the planner's statistics, and let a sign-up be limited per mailbox.

A plan shows the number of rows that the planner expects, which it computes from the statistics. Without statistics of a
column, the number says nothing about the column's values. `SET STATISTICS 0` keeps the statistics that exist, and only
a change of the type removes them, also a change to the same type. It reads each row under a lock: about 10 s for a
million registrations. A view of these columns must be dropped before, and created again afterwards.
"""

import sqlalchemy as sa
from alembic import op

revision = "c0a5f1d3e7b2"
down_revision = "2dcca3bc26eb"
branch_labels = None
depends_on = None

# The columns whose values come from people, and secrets, with their types.
HIDDEN = {
    "registrations": {
        "email": "text",
        "email_key": 'text COLLATE "C"',
        "profile": "jsonb",
        "submit_key": "bytea",
        "submit_digest": "bytea",
    },
    "verification_tokens": {"secret_hash": "bytea"},
    "registration_consents": {"document_version": "text", "source": "text"},
    "registration_events": {"data": "jsonb", "actor": "text", "correlation_id": "text"},
    "outbox": {"payload": "jsonb", "last_error": "text"},
}

# The lock makes sign-ups of one mailbox wait for each other until their transactions end. It has two keys, so it is none
# of the locks with one key, for example that of a deployment. A volatile function sees the rows that were committed
# while it waited for the lock; the statement that calls it does not.
COUNT_PENDING = """
CREATE OR REPLACE FUNCTION public.registrations_count_pending(mailbox text, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('registrations_count_pending'), hashtext(mailbox));
  RETURN (
    SELECT count(*) FROM (
      SELECT FROM public.registrations
      WHERE email_key = mailbox AND status = 'pending' AND expires_at > statement_timestamp() LIMIT most
    ) AS pending
  );
END $$
"""

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

NEW_INDEX, OLD_INDEX = "ix_registrations_email_pending_id", "ix_registrations_email_pending"


def upgrade() -> None:
    replace_index(OLD_INDEX, NEW_INDEX, ["email_key", "id"])
    op.execute(LOCK_ALL)
    set_statistics(0)
    for table, types in HIDDEN.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE {type_}" for column, type_ in types.items())
        op.execute(f"ALTER TABLE {table} {changes}")
    op.execute(COUNT_PENDING)


def downgrade() -> None:
    op.execute(LOCK_ALL)
    op.execute("DROP FUNCTION registrations_count_pending(text, bigint)")
    set_statistics(-1)
    replace_index(NEW_INDEX, OLD_INDEX, ["email_key"])


def set_statistics(target: int) -> None:
    """Set the statistics target of the hidden columns, also in the partitions that exist."""
    for table, types in HIDDEN.items():
        changes = ", ".join(f"ALTER COLUMN {column} SET STATISTICS {target}" for column in types)
        op.execute(f"ALTER TABLE {table} {changes}")


def replace_index(old: str, new: str, columns: list[str]) -> None:
    """Create an index of the pending registrations, and drop the old one, without blocking writes.

    In a transaction of the caller, which an index cannot leave, it blocks writes. An earlier attempt that failed may
    have left an invalid index.
    """
    if op.get_context().opts.get("in_transaction_of_caller"):
        swap_index(old, new, columns, concurrently=False)
    else:
        with op.get_context().autocommit_block():
            swap_index(old, new, columns, concurrently=True)


def swap_index(old: str, new: str, columns: list[str], *, concurrently: bool) -> None:
    drop = {"table_name": "registrations", "if_exists": True, "postgresql_concurrently": concurrently}
    op.drop_index(new, **drop)
    op.create_index(
        new,
        "registrations",
        columns,
        if_not_exists=True,
        postgresql_where=sa.text("status = 'pending'"),
        postgresql_concurrently=concurrently,
    )
    op.drop_index(old, **drop)
