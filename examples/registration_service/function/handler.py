"""The Lambda function behind an HTTP API of API Gateway: the handler of each route, and the pages."""

from answers import Event, Handler, Response, problem
from pages import page
from people import cancel, change, decide, erase, export, show, sign_out
from signup_service import activate, resend, send_again, sign_up, verify, verify_by_code

from registration_persistence import LambdaContext, get_db

ROUTES: dict[str, Handler] = {
    "GET /": page,
    "GET /{file}": page,
    "POST /registrations": sign_up,
    "POST /verifications": verify,
    "POST /verifications/code": verify_by_code,
    "POST /mails": send_again,
    "POST /registrations/{id}/mails": resend,
    "POST /registrations/{id}/activation": activate,
    "GET /me": show,
    "GET /me/export": export,
    "PATCH /me": change,
    "PUT /me/newsletter": decide,
    "POST /me/cancellation": cancel,
    "DELETE /me": erase,
    "DELETE /session": sign_out,
}

get_db().warm_up()  # at initialisation, when the CPU is not throttled: read the secret, open the connection


def handle(event: Event, context: LambdaContext) -> Response:
    """Respond to a request of the HTTP API; the `routeKey` of *event* selects the handler."""
    handler = ROUTES.get(event.get("routeKey", ""))
    return handler(event, context) if handler else problem(404, f"expected one of {', '.join(ROUTES)}")
