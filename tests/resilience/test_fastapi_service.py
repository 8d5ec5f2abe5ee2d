"""The FastAPI service in `examples/` while the writer crashes."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
from fastapi_service import running_service, sign_up

from registration_persistence.testing import FailOver, RegistrationEnvironment


def test_a_failover_loses_and_duplicates_no_sign_up(
    registration_environment: RegistrationEnvironment, fail_over: FailOver
) -> None:
    """Requests wait for the new writer, and a client repeats one only after 503; the service stays healthy."""
    registration_environment.cluster.add_standby()
    statuses: list[int] = []
    failed_over = Event()

    def people(number: int) -> int:
        made = 0
        with httpx.Client(base_url=service.url(), timeout=20) as client:
            while made < 2 or not failed_over.is_set():
                while (response := sign_up(client, f"{made}@{number}.example", "1")).status_code == 503:
                    assert response.headers["retry-after"]
                    statuses.append(503)
                    time.sleep(0.2)
                assert response.status_code == 202, response.text
                made += 1
                assert client.get("/health").status_code == 200
        return made

    with running_service(registration_environment.variables) as service, ThreadPoolExecutor(4) as threads:
        made = [threads.submit(people, number) for number in range(4)]
        time.sleep(0.5)
        try:
            fail_over(switch_after=1.0)
        finally:
            failed_over.set()
        acknowledged = sum(number.result() for number in made)
        with httpx.Client(base_url=service.url()) as client:
            assert client.get("/ready").status_code == 200
    with registration_environment.connect() as connection:
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (acknowledged,)
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (acknowledged,)
    # The outage is shorter than the deadline of a request.
    assert len(statuses) <= 4
