"""The faults of `chaos`: each one acts on the servers or on the processes of the load."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum

from registration_persistence.errors import InvalidInput
from registration_persistence.sandbox import rotate
from registration_persistence.sandbox.chaos.load import REQUEST_TIMEOUT_SECONDS
from registration_persistence.sandbox.chaos.stage import Stage
from registration_persistence.sandbox.network_namespace import unsupported_reason

_LOST_REPLIES_FRACTION = 0.04

LONGER_THAN_A_REQUEST_SECONDS = REQUEST_TIMEOUT_SECONDS + 2.0
"""A fault of this duration cannot be survived by a wait: the deadline of each request, and every shorter limit of a
connection, ends before the fault does."""


class FaultName(StrEnum):
    """The names of the faults, for the command line and the report."""

    NONE = "none"
    ROTATION = "rotation"
    ALTERNATING_ROTATION = "alternating-rotation"
    NO_SECRETS_MANAGER = "no-secrets-manager"
    TERMINATED = "terminated"
    RESTART = "restart"
    FAILOVER = "failover"
    READ_ONLY = "read-only"
    NO_SLOTS = "no-slots"
    FROZEN = "frozen"
    LOST_REPLIES = "lost-replies"
    DROPPED_PACKETS = "dropped-packets"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the servers, the network or the processes.

    Args:
        name: Name of the fault.
        description: Description of the fault in a few words.
        inflict: Causes the fault for about the given number of seconds, and repairs what does not recover by itself.
        seconds: Duration of the fault; by default a part of its phase.
        prepare: Function that is called before the load begins; `None` by default.
        unsupported_reason: Returns why this machine does not support the fault, or `None`, the default.
        isolated: Whether servers and processes must be in an `IsolatedNetwork`; false by default.
    """

    name: FaultName
    description: str
    inflict: Callable[[Stage, float], None]
    seconds: float | None = None
    prepare: Callable[[Stage], None] | None = None
    unsupported_reason: Callable[[], str | None] = lambda: None
    isolated: bool = False


def selected_faults(names: Sequence[str] | None, *, rotation_window: float) -> list[Fault]:
    """Return the faults with these names, in this order; all of them for `None`.

    Args:
        names: The names.
        rotation_window: Seconds in which the server rejects the password that the secret still holds.

    Raises:
        InvalidInput: A name is unknown or given twice, or *names* is empty.
    """
    known = {
        str(fault.name): replace(fault, seconds=rotation_window) if fault.name == FaultName.ROTATION else fault
        for fault in FAULTS
    }
    if names is None:
        return list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        problem = f"unknown fault {', '.join(map(repr, unknown))}" if unknown else "no fault is named"
        raise InvalidInput(f"{problem}: expected some of {','.join(known)}")
    if len(set(names)) < len(names):
        raise InvalidInput("a fault is named twice: expected each name at most once")
    return [known[name] for name in names]


def _do_nothing(_stage: Stage, _seconds: float) -> None:
    """Leave the load undisturbed."""


def _rotate_single(stage: Stage, seconds: float) -> None:
    """Change the password, and hold the rotation window open, in which the server rejects AWSCURRENT."""

    def pause_in_window() -> None:
        stage.cluster.terminate_sessions()
        time.sleep(seconds)

    rotate(stage.cluster.primary.server, stage.secrets_manager, stage.arn, pause_in_window=pause_in_window)


def _rotate_alternating(stage: Stage, seconds: float) -> None:
    """Switch to the other user and back, so that the server finally rejects the password that the processes cache."""
    for _ in range(2):
        server = stage.cluster.primary.server
        rotate(server, stage.secrets_manager, stage.arn, style="alternating", pause_in_window=seconds / 2)
        stage.cluster.terminate_sessions()


def _secrets_manager_down(stage: Stage, seconds: float) -> None:
    """Answer every call with 503, and close each connection at the beginning and halfway."""
    with stage.secrets_manager.outage():
        for _ in range(2):
            stage.cluster.terminate_sessions()
            time.sleep(seconds / 2)


def _terminate(stage: Stage, _seconds: float) -> None:
    """End each session, also in the middle of a statement."""
    stage.cluster.terminate_sessions()


def _restart(stage: Stage, seconds: float) -> None:
    """Stop the writer, and start it again."""
    stage.cluster.restart(down_for=seconds / 2)


def _add_standby(stage: Stage) -> None:
    stage.cluster.add_standby()


def _fail_over(stage: Stage, seconds: float) -> None:
    """Crash the writer, promote the standby, and point the endpoint to it after a delay."""
    stage.cluster.add_standby()
    stage.cluster.fail_over(switch_after=seconds)


def _read_only(stage: Stage, seconds: float) -> None:
    """Make the writer refuse writes, like a demoted writer."""
    with stage.cluster.read_only():
        time.sleep(seconds)


def _fill_slots(stage: Stage, seconds: float) -> None:
    """Close each connection, and take every slot before the processes connect again."""
    endpoint = stage.cluster.endpoint
    with ExitStack() as stack:
        endpoint.stop_accepting()
        stack.callback(endpoint.resume_accepting)
        endpoint.cut()
        stage.wait_until_disconnected()
        with stage.cluster.fill_slots():
            stack.close()
            time.sleep(seconds)


def _freeze(stage: Stage, seconds: float) -> None:
    """Stop the processes for twice the idle session timeout of the server."""
    server = stage.cluster.primary
    with ExitStack() as stack:
        stack.callback(server.configure, idle_session_timeout=None)
        server.configure(idle_session_timeout=f"{1000 * seconds / 2:.0f}ms")
        for process in stage.processes:
            stack.callback(process.resume)
            process.pause()
        time.sleep(seconds)


def _lose_replies(stage: Stage, seconds: float) -> None:
    """Execute every request, but close some connections instead of replying."""
    with stage.cluster.endpoint.lose_replies(_LOST_REPLIES_FRACTION, seed=stage.seed):
        time.sleep(seconds)


def _drop_packets(stage: Stage, seconds: float) -> None:
    """Make the kernel drop every packet to and from the endpoint, without notice to either side."""
    assert stage.network is not None
    with stage.network.drop_packets(stage.cluster.endpoint.port):
        time.sleep(seconds)


NO_FAULT = Fault(FaultName.NONE, "no fault, for comparison", _do_nothing)

FAULTS = (
    Fault(
        FaultName.ROTATION,
        "the password changes, and the secret some time later",
        _rotate_single,
        LONGER_THAN_A_REQUEST_SECONDS,
    ),
    Fault(FaultName.ALTERNATING_ROTATION, "the secret changes to the other user, and back", _rotate_alternating),
    Fault(FaultName.NO_SECRETS_MANAGER, "Secrets Manager is down while connections close", _secrets_manager_down),
    Fault(FaultName.TERMINATED, "every session is terminated", _terminate),
    Fault(FaultName.RESTART, "the writer restarts", _restart),
    Fault(
        FaultName.FAILOVER,
        "the writer crashes, and the endpoint moves to the standby",
        _fail_over,
        prepare=_add_standby,
    ),
    Fault(FaultName.READ_ONLY, "the writer refuses writes", _read_only),
    Fault(FaultName.NO_SLOTS, "every connection slot is taken", _fill_slots),
    Fault(FaultName.FROZEN, "the processes are stopped until their sessions have timed out", _freeze),
    Fault(FaultName.LOST_REPLIES, "one in 25 of the server's replies is lost on the network", _lose_replies),
    Fault(
        FaultName.DROPPED_PACKETS,
        "the kernel drops every packet",
        _drop_packets,
        seconds=LONGER_THAN_A_REQUEST_SECONDS,
        unsupported_reason=unsupported_reason,
        isolated=True,
    ),
)
"""Every fault, in the order in which `chaos` causes them."""
