"""The bodies of requests and responses."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool


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
    display_name: Annotated[str, Field(min_length=1, max_length=200, examples=["Ada"])]
    terms_version: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,64}$", description="The accepted terms.", examples=["2026-01"])
    ]
    newsletter: Annotated[StrictBool, Field(description="Whether the person wants the newsletter.")] = False


class VerificationForm(Form):
    """The token of a link."""

    token: Annotated[str, Field(min_length=1, max_length=200, description="The `token` of the link in the mail.")]


class Notice(BaseModel):
    """A sentence for the person."""

    status: Annotated[str, Field(examples=["check your mail"])]


class KnownRegistration(BaseModel):
    """A registration, shown to the person who has just proved that the mailbox is theirs, and to the operator."""

    id: Annotated[UUID, Field(description="The id of the registration.")]
    status: Annotated[str, Field(examples=["verified"])]
