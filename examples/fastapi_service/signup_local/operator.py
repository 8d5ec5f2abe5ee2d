"""The routes of the operator's view and of the mailbox; nobody but the person at this machine may use them."""

from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import Field
from signup_api.cookies import own_page
from signup_api.forms import Form
from signup_api.registrations import Database, limited
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registration_persistence import EventRepository, PrivacyRepository
from registration_persistence.models import OutboxRow
from signup_local.faults import FaultName, FaultRunning, Faults
from signup_local.mailbox import Mailbox

_MAX_MESSAGES = 50

router = APIRouter(prefix="/local", dependencies=[Depends(own_page)], include_in_schema=False)


class PersonForm(Form):
    """The person whose event log is wanted."""

    mailbox_or_id: Annotated[str, Field(min_length=1, max_length=254)]


@router.get("/mails")
async def mails(request: Request) -> list[dict[str, Any]]:
    """Return the mails of everybody, the newest first."""
    mailbox: Mailbox = request.app.state.mails
    return mailbox.mails()


@router.get("/state")
async def state(request: Request, after: int = 0) -> dict[str, Any]:
    """Return the new lines of the list, and the number of requests by their result."""
    faults: Faults = request.app.state.faults
    requests: Counter[str] = request.app.state.requests
    return {"entries": faults.after(after), "succeeded": requests["succeeded"], "failed": requests["failed"]}


@router.get("/outbox", dependencies=[Depends(limited)])
async def outbox(request: Request, database: Database) -> dict[str, Any]:
    """Return the messages in the outbox, the first that is due first, and the number of those that were delivered."""

    def work(session: Session) -> tuple[int, list[dict[str, Any]]]:
        waiting = session.scalar(select(func.count()).select_from(OutboxRow)) or 0
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.available_at).limit(_MAX_MESSAGES))
        return waiting, [_message(row) for row in rows]

    waiting, messages = await database.run(work, autocommit=True)
    return {"waiting": waiting, "messages": messages, "counts": dict(request.app.state.delivered)}


@router.post("/events", dependencies=[Depends(limited)])
async def events(form: PersonForm, database: Database) -> list[dict[str, Any]]:
    """Return the event log of each registration of a mailbox, or of one registration."""

    def work(session: Session) -> list[dict[str, Any]]:
        ids = _ids(session, form.mailbox_or_id.strip())
        return [_event(event) for identity in ids for event in EventRepository(session).list_events(identity)]

    return await database.run(work, autocommit=True)


@router.post("/faults/{name}")
async def cause(name: FaultName, request: Request) -> dict[str, float]:
    """Cause a fault, and answer when it has ended."""
    faults: Faults = request.app.state.faults
    try:
        return {"seconds": await faults.cause(name)}
    except FaultRunning:
        raise HTTPException(409, "another fault has not ended: wait for it") from None


def _ids(session: Session, mailbox_or_id: str) -> tuple[UUID, ...]:
    if "@" in mailbox_or_id:
        return PrivacyRepository(session).ids_by_email(mailbox_or_id)
    try:
        return (UUID(mailbox_or_id),)
    except ValueError:
        raise HTTPException(422, "this is neither a mailbox nor the id of a registration") from None


def _event(event: Any) -> dict[str, Any]:
    return {
        "registration_id": str(event.registration_id),
        "seq": event.seq,
        "type": event.type,
        "actor": event.actor,
        "data": dict(event.data),
        "at": event.occurred_at.isoformat(),
    }


def _message(row: OutboxRow) -> dict[str, Any]:
    return {
        "type": row.type,
        "registration_id": str(row.registration_id),
        "attempts": row.attempts,
        "last_error": row.last_error,
        "available_at": row.available_at.isoformat(),
        "dead": row.dead_at is not None,
    }
