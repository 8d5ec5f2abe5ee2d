"""The Lambda function behind an HTTP API of API Gateway: each route has its handler in `signup_service.py`."""

from signup_service import Event, Response, activate, resend, response, sign_up, verify

from registration_persistence import LambdaContext, get_db

ROUTES = {
    "POST /registrations": sign_up,
    "POST /verifications": verify,
    "POST /registrations/{id}/mails": resend,
    "POST /registrations/{id}/activation": activate,
}

get_db().warm_up()  # where the CPU is not throttled: the secret, and the connection


def handle(event: Event, context: LambdaContext) -> Response:
    """Answer a request of the HTTP API, whose event says which route it took."""
    handler = ROUTES.get(event.get("routeKey", ""))
    return handler(event, context) if handler else response(404, problem=f"expected one of {', '.join(ROUTES)}")
