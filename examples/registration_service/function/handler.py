"""The Lambda function behind an HTTP API of API Gateway; `signup_service.py` has the handler of each route."""

from signup_service import Event, Response, activate, resend, response, sign_up, verify

from registration_persistence import LambdaContext, get_db

ROUTES = {
    "POST /registrations": sign_up,
    "POST /verifications": verify,
    "POST /registrations/{id}/mails": resend,
    "POST /registrations/{id}/activation": activate,
}

get_db().warm_up()  # at initialisation, when the CPU is not throttled: read the secret, open the connection


def handle(event: Event, context: LambdaContext) -> Response:
    """Respond to a request of the HTTP API; the `routeKey` of *event* selects the handler."""
    handler = ROUTES.get(event.get("routeKey", ""))
    return handler(event, context) if handler else response(404, problem=f"expected one of {', '.join(ROUTES)}")
