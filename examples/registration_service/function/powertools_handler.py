"""The same function with Powertools: structured logs and metrics, and a welcome mail that is hardly ever sent twice.

`handle` is the handler of the HTTP API, and `deliver_outbox` that of a second function, which runs on a schedule.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from answers import Event, Response
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths, utils
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.typing import LambdaContext
from handler import handle as answer

from registration_persistence import OutboxWorker, get_db
from registration_persistence.outcomes import OutboxMessage

_RESERVE_MILLISECONDS = 20_000

logger = Logger(service="sign-up", level=logging.INFO)
# The lines of the package and of the example get the same format.
utils.copy_config_to_registered_loggers(source_logger=logger, include={"registration_persistence", "signup_service"})
metrics = Metrics(namespace="Registrations", service="sign-up")
store = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"])
config = IdempotencyConfig(expires_after_seconds=86_400)


def count(event: Any) -> None:
    """Count an event between this process and the database."""
    metrics.add_metric(name=f"database.{event.name}", unit=MetricUnit.Count, value=1)


get_db().events.subscribe(count)


# The event contains the mailbox and the token, so `log_event` stays off.
@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
@metrics.log_metrics(capture_cold_start_metric=True)
def handle(event: Event, context: LambdaContext) -> Response:
    """Respond as `handler.handle` does, and count the responses."""
    response = answer(event, context)
    metrics.add_metric(name=f"responses.{response['statusCode'] // 100}xx", unit=MetricUnit.Count, value=1)
    return response


def welcome(event_id: str, registration_id: str) -> None:  # noqa: ARG001 the key of Powertools
    """Send a welcome mail. Replace the body to send a real one."""
    logger.info("welcome mail", extra={"registration_id": registration_id})


welcome_once: Callable[..., None] = idempotent_function(
    welcome, data_keyword_argument="event_id", config=config, persistence_store=store
)


def deliver(message: OutboxMessage) -> None:
    """Deliver a message of the outbox, which calls this at least once for each."""
    if message.type == "registration.verified":
        welcome_once(event_id=str(message.event_id), registration_id=str(message.registration_id))


worker = OutboxWorker(get_db(), deliver, batch=10)


@logger.inject_lambda_context
@metrics.log_metrics
def deliver_outbox(_event: Event, context: LambdaContext) -> dict[str, int]:
    """Deliver the messages of the outbox until 20 s are left."""
    # Without it, a record of a killed process would block its message for the whole day.
    config.register_lambda_context(context)
    claimed = number = worker.run_once()
    while number and context.get_remaining_time_in_millis() > _RESERVE_MILLISECONDS:
        number = worker.run_once()
        claimed += number
    metrics.add_metric(name="messages.claimed", unit=MetricUnit.Count, value=claimed)
    return dict(worker.counts)
