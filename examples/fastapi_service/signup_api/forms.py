"""The bodies of requests and responses."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool

DisplayName = Annotated[str, Field(min_length=1, max_length=200, examples=["Ada"])]
ConfirmBy = Annotated[Literal["link", "code"], Field(description="What the mail contains.")]


class Form(BaseModel):
    """The body of a request, without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class SignUpForm(Form):
    """The form of a person who signs up."""

    email: Annotated[
        str,
        Field(
            max_length=254,
            description="The mailbox; the package decides whether it is valid.",
            examples=["ada@example.com"],
            json_schema_extra={"format": "email"},
        ),
    ]
    display_name: DisplayName
    terms_version: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,64}$", description="The accepted terms.", examples=["2026-01"])
    ]
    newsletter: Annotated[StrictBool, Field(description="Whether the person wants the newsletter.")] = False
    confirm_by: ConfirmBy = "link"


class VerificationForm(Form):
    """The token of a link."""

    token: Annotated[str, Field(min_length=1, max_length=200, description="The `token` of the link in the mail.")]


class CodeForm(Form):
    """The code of a mail."""

    code: Annotated[str, Field(min_length=1, max_length=64, description="The digits of the mail, as typed.")]


class MailForm(Form):
    """The wish for another mail."""

    confirm_by: ConfirmBy = "link"


class ChangeForm(Form):
    """A change of a person's data."""

    display_name: DisplayName
    version: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1, description="The version that was shown.")]


class NewsletterForm(Form):
    """A decision about the newsletter."""

    granted: Annotated[StrictBool, Field(description="Whether the person wants the newsletter.")]


class Notice(BaseModel):
    """A sentence for the person."""

    status: Annotated[str, Field(examples=["check your mail"])]


class KnownRegistration(BaseModel):
    """A registration, shown to the person who has just proved that the mailbox is theirs, and to the operator."""

    id: Annotated[UUID, Field(description="The id of the registration.")]
    status: Annotated[str, Field(examples=["verified"])]


class Person(KnownRegistration):
    """The data of a person, shown to this person."""

    version: Annotated[int, Field(description="Send it back with a change.")]
    email: str
    display_name: str
    newsletter: bool
    signed_up_at: datetime
    verified_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="The end of a registration that stays verified.")]
