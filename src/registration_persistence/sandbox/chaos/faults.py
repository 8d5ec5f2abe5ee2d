"""The faults of `chaos`: what each one does to the servers and the processes of the load."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from registration_persistence.errors import InvalidInput
from registration_persistence.sandbox import rotate
from registration_persistence.sandbox.chaos.stage import Stage
from registration_persistence.sandbox.network_namespace import why_not

# Of the replies that the server sends.
_LOST = 0.04


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Args:
        name: For the command line and the table.
        happens: What happens, in a few words.
        inflict: Lets it happen for about so many seconds, and puts in order what does not mend by itself.
        prepare: Is called before the load begins.
        why_not: Says what this machine lacks for it, if anything.
        isolated: Whether everything must be in an `IsolatedNetwork`.
    """

    name: str
    happens: str
    inflict: Callable[[Stage, float], None]
    prepare: Callable[[Stage], None] | None = None
    why_not: Callable[[], str | None] = lambda: None
    isolated: bool = False


def _nothing(_stage: Stage, _seconds: float) -> None:
    """Let the load show what it does undisturbed."""


def _rotate_single(stage: Stage, seconds: float) -> None:
    """Change the password, and hold the time open in which the current version of the secret is refused."""

    def window() -> None:
        stage.cluster.terminate_sessions()
        time.sleep(seconds)

    rotate(stage.cluster.primary.address, stage.secrets_manager, stage.arn, pause_in_window=window)


def _rotate_alternating(stage: Stage, seconds: float) -> None:
    """Change to the other user and back, so that the password that the processes remember is refused at last."""
    for _ in range(2):
        server = stage.cluster.primary.address
        rotate(server, stage.secrets_manager, stage.arn, style="alternating", pause_in_window=seconds / 2)
        stage.cluster.terminate_sessions()


def _secrets_manager_down(stage: Stage, seconds: float) -> None:
    """Answer every call with 503, with each connection closed at the beginning and once more."""
    with stage.secrets_manager.outage():
        for _ in range(2):
            stage.cluster.terminate_sessions()
            time.sleep(seconds / 2)


def _terminate(stage: Stage, _seconds: float) -> None:
    """End each session, whatever it is doing."""
    stage.cluster.terminate_sessions()


def _restart(stage: Stage, seconds: float) -> None:
    """Shut the writer down, and start it again."""
    stage.cluster.restart(down_for=seconds / 2)


def _add_standby(stage: Stage) -> None:
    stage.cluster.add_standby()


def _fail_over(stage: Stage, seconds: float) -> None:
    """Crash the writer, promote the standby, and let the endpoint be slow to point to it."""
    stage.cluster.add_standby()
    stage.cluster.fail_over(switch_after=seconds)


def _read_only(stage: Stage, seconds: float) -> None:
    """Let the writer refuse writes, as one does that was demoted."""
    with stage.cluster.read_only():
        time.sleep(seconds)


def _fill_slots(stage: Stage, seconds: float) -> None:
    """Close each connection and take every slot before the processes are back."""
    endpoint = stage.cluster.endpoint
    with ExitStack() as door:
        endpoint.close_door()
        door.callback(endpoint.open_door)
        endpoint.cut()
        stage.wait_for_silence()
        with stage.cluster.fill_slots():
            door.close()
            time.sleep(seconds)


def _freeze(stage: Stage, seconds: float) -> None:
    """Stop the processes for twice as long as the server keeps a session that idles."""
    server = stage.cluster.primary
    with ExitStack() as stack:
        stack.callback(server.configure, idle_session_timeout=None)
        server.configure(idle_session_timeout=f"{seconds * 500:.0f}ms")
        for process in stage.processes:
            stack.callback(process.resume)
            process.pause()
        time.sleep(seconds)


def _lose_replies(stage: Stage, seconds: float) -> None:
    """Carry out what is asked, and close some connections instead of answering."""
    with stage.cluster.endpoint.lose_replies(_LOST, seed=stage.seed):
        time.sleep(seconds)


def _drop_packets(stage: Stage, seconds: float) -> None:
    """Let the kernel drop what goes to and from the endpoint, with no answer to either side."""
    assert stage.network is not None
    with stage.network.drop_packets(stage.cluster.endpoint.port):
        time.sleep(seconds)


NONE = Fault("none", "nothing, to compare with", _nothing)

FAULTS = (
    Fault("rotation", "the password changes, and the secret some time later", _rotate_single),
    Fault("alternating-rotation", "the secret changes to the other user, and back", _rotate_alternating),
    Fault("no-secrets-manager", "Secrets Manager is down while connections close", _secrets_manager_down),
    Fault("terminated", "every session is terminated", _terminate),
    Fault("restart", "the writer restarts", _restart),
    Fault("failover", "the writer crashes, and the endpoint moves to the standby", _fail_over, prepare=_add_standby),
    Fault("read-only", "the writer refuses writes", _read_only),
    Fault("no-slots", "every connection slot is taken", _fill_slots),
    Fault("frozen", "the processes are stopped until their sessions have timed out", _freeze),
    Fault("lost-replies", "the server's replies are lost on the wire, one in 25", _lose_replies),
    Fault("dropped-packets", "the kernel drops every packet", _drop_packets, why_not=why_not, isolated=True),
)
"""In the order in which they happen. Another fault is another line here, and a function."""


def chosen(names: Sequence[str] | None) -> list[Fault]:
    """Return the faults of these names in this order; all of them for `None`.

    Raises:
        InvalidInput: A name is unknown or there twice, or there is none.
    """
    if names is None:
        return list(FAULTS)
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"there is no fault {', '.join(map(repr, unknown))}" if unknown else "no fault is named"
        raise InvalidInput(f"{what}: expected some of {','.join(known)}")
    if len(set(names)) < len(names):
        raise InvalidInput("a fault is named twice: expected each at most once")
    return [known[name] for name in names]
