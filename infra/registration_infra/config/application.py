"""`ApplicationConfig`: the table [application]."""

from pydantic import Field

from registration_infra.budget import MAX_CONNECTIONS_PER_ENVIRONMENT
from registration_infra.config.table import Table


class ApplicationConfig(Table):
    """How many connections the application may take."""

    reserved_concurrency: int = Field(
        default=50, ge=1, le=1000, description="How many environments of the function may run at the same time."
    )
    connections: int = Field(
        default=1,
        ge=1,
        le=MAX_CONNECTIONS_PER_ENVIRONMENT,
        description="How many connections each environment holds: 1, unless it sets `APP_DATABASE_POOL_SIZE`. "
        "2 if it also reads from readers, because without a reader these sessions reach the writer.",
    )
