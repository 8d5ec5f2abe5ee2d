"""Create campaign_members, and forget its rows if their registration is erased."""

import sqlalchemy as sa
from alembic import op

revision = "0c1d5a7f3b92"
down_revision = None

# bootstrap creates the role; a database on a developer's machine may not have it.
GRANT = """
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'registration_rw') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON public.campaign_members TO registration_rw;
  END IF;
END $$
"""

FORGET = """
CREATE FUNCTION public.campaign_members_forget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM public.campaign_members WHERE registration_id = NEW.id;
  RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION public.campaign_members_forget() FROM PUBLIC;

CREATE TRIGGER campaign_members_forget AFTER UPDATE OF status ON public.registrations
FOR EACH ROW WHEN (NEW.status = 'erased' AND OLD.status <> 'erased')
EXECUTE FUNCTION public.campaign_members_forget()
"""

CHECK = """
CREATE FUNCTION public.campaign_members_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM public.registrations WHERE id = NEW.registration_id AND status <> 'erased' FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the registration is erased or does not exist' USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER campaign_members_check BEFORE INSERT OR UPDATE OF registration_id ON public.campaign_members
FOR EACH ROW EXECUTE FUNCTION public.campaign_members_check()
"""


def upgrade() -> None:
    """Create the table, its privileges and its triggers."""
    op.create_table(
        "campaign_members",
        sa.Column("registration_id", sa.UUID(), nullable=False),
        sa.Column("campaign", sa.String(), nullable=False),
        sa.Column("nickname", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["registration_id"],
            ["registrations.id"],
            name=op.f("fk_campaign_members_registration_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("registration_id", "campaign", name=op.f("pk_campaign_members")),
    )
    for statement in (GRANT, FORGET, CHECK):
        op.execute(statement)


def downgrade() -> None:
    """Drop the trigger on our table first, and then the table of the service."""
    op.execute("DROP TRIGGER campaign_members_forget ON public.registrations")
    op.drop_table("campaign_members")
    op.execute("DROP FUNCTION public.campaign_members_forget()")
    op.execute("DROP FUNCTION public.campaign_members_check()")
