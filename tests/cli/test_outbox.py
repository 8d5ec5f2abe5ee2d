"""`outbox`: the worker, and the messages that it could not deliver."""

import signal
from uuid import uuid4

import pytest
from command_line import TIMEOUT_SECONDS, Answer, one_line, run, run_each
from workspace import MAIL_MODULE, Workspace, wait_until


def test_run_once_delivers_every_message_once(workspace: Workspace) -> None:
    """`outbox run --once` calls a function of the current folder for each message, prints the counts, and ends."""
    event_ids = workspace.put_messages(25)

    done = workspace.run("outbox", "run", "--once", "--deliver", "mail:deliver", "--batch", "10")

    assert "25 delivered, 0 retried, 0 buried, 0 released\n" == done.stdout
    workspace.put_messages(3)
    batches = workspace.run("outbox", "run", "--once", "--deliver", "mail:batch", "--takes-batch")
    assert "3 delivered, 0 retried, 0 buried, 0 released\n" == batches.stdout
    assert done.stderr == ""
    assert [f"delivered {event_id}" for event_id in event_ids] == workspace.deliveries()
    assert [] == workspace.outbox()


def test_dead_letters_can_be_revived(workspace: Workspace) -> None:
    """`outbox dead` prints dead letters with the class of the error alone; after `outbox revive` they are due again."""
    first, second, third = workspace.put_messages(3)

    done = workspace.run("outbox", "run", "--once", "--deliver", "mail:fail", "--max-attempts", "1")

    assert "0 delivered, 0 retried, 3 buried, 0 released\n" == done.stdout
    assert 3 == done.stderr.count("builtins.ConnectionResetError")
    assert "@" not in done.stderr
    lines = [
        f"{row['event_id']} {row['dead_at'].isoformat(timespec='seconds')} registration.imported"
        f" {row['registration_id']} builtins.ConnectionResetError\n"
        for row in workspace.rows("SELECT * FROM outbox ORDER BY dead_at, event_id")
    ]

    answers = workspace.run_each(
        ("outbox", "dead"),
        ("outbox", "dead", "--limit", "2"),
        ("outbox", "revive", str(second), str(uuid4())),
        ("outbox", "dead"),
        ("outbox", "revive", "--all"),
        ("outbox", "dead"),
        ("outbox", "revive"),
    )

    assert [
        Answer(0, "".join(lines), ""),
        Answer(0, "".join(lines[:2]), ""),
        Answer(1, "revived 1 of 2\n", ""),
        Answer(0, lines[0] + lines[2], ""),
        Answer(0, "revived 2\n", ""),
        Answer(0, "", "there are no dead letters\n"),
        Answer(2, "", "registration-persistence: nothing is chosen: expected ids, or --all\n"),
    ] == answers
    assert [(first, True, 0), (second, True, 0), (third, True, 0)] == [
        (row["event_id"], row["due"], row["attempts"]) for row in workspace.outbox()
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_current_delivery_finish(workspace: Workspace, number: signal.Signals) -> None:
    """The current message is delivered and removed, the others are due at once, and the worker ends with 0."""
    first, *others = workspace.put_messages(4)
    with workspace.start("outbox", "run", "--deliver", "mail:deliver_slowly") as process:
        wait_until(workspace.deliveries, "a delivery has begun", process)
        process.send_signal(number)
        workspace.write("go", "")
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)

    assert 0 == process.returncode
    assert "1 delivered, 0 retried, 0 buried, 3 released\n" == stdout
    assert "delivering: SIGTERM or Ctrl-C ends it after the current message" == one_line(stderr)
    assert [f"begin {first}", f"end {first}"] == workspace.deliveries()
    assert [(event_id, True, 0) for event_id in others] == [
        (row["event_id"], row["due"], row["attempts"]) for row in workspace.outbox()
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_worker(workspace: Workspace, number: signal.Signals) -> None:
    """If no message is due, the worker ends without waiting for its next poll."""
    workspace.write("mail.py", MAIL_MODULE)
    with workspace.start("outbox", "run", "--deliver", "mail:deliver", "--poll", "3600") as process:
        assert process.stderr
        assert process.stderr.readline().startswith("delivering: ")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)

    assert (0, "0 delivered, 0 retried, 0 buried, 0 released\n", "") == (process.returncode, stdout, stderr)


def test_a_killed_worker_loses_no_message(workspace: Workspace) -> None:
    """After the lease has ended, another worker delivers all messages, also the one whose delivery was interrupted."""
    event_ids = workspace.put_messages(3)
    with workspace.start("outbox", "run", "--deliver", "mail:deliver_slowly", "--lease", "1") as process:
        wait_until(workspace.deliveries, "a delivery has begun", process)
        process.kill()
    assert event_ids == [row["event_id"] for row in workspace.outbox()]
    wait_until(lambda: all(row["due"] for row in workspace.outbox()), "the lease has ended")

    done = workspace.run("outbox", "run", "--once", "--deliver", "mail:deliver")

    assert "3 delivered, 0 retried, 0 buried, 0 released\n" == done.stdout
    assert [f"begin {event_ids[0]}", *(f"delivered {event_id}" for event_id in event_ids)] == workspace.deliveries()
    assert [] == workspace.outbox()


PLANTED = 'open("executed", "a").write(__name__ + "\\n")\n'


def test_a_file_of_the_current_folder_replaces_no_installed_module(workspace: Workspace) -> None:
    """The current folder is searched last, also if PYTHONPATH names it: a planted `boto3.py` is never executed."""
    workspace.write("mail.py", MAIL_MODULE)
    for name in ("boto3", "botocore", "aws_secretsmanager_caching", "s3transfer", "jmespath", "dateutil"):
        workspace.write(f"{name}.py", PLANTED)
    environ = {
        **{
            name: text
            for name, text in workspace.environ.items()
            if name not in ("APP_DATABASE_USER", "APP_DATABASE_PASSWORD")
        },
        "APP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf",
        "APP_DATABASE_CONNECT_TIMEOUT": "2",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up",
    }
    for more in ({}, {"PYTHONPATH": "."}, {"PYTHONPATH": str(workspace.folder), "PYTHONSAFEPATH": "1"}):
        done = run(
            "outbox", "run", "--once", "--deliver", "mail:deliver",
            environ={**environ, **more}, code=1, folder=workspace.folder,
        )  # fmt: skip
        assert "cannot read the secret" in one_line(done.stderr.splitlines()[-1])

    assert workspace.read("executed") == ""


def test_a_module_with_the_name_of_another_is_an_error(workspace: Workspace) -> None:
    """A file that has the name of an installed or loaded module would not be used, so the command ends with 2."""
    for name in ("queue.py", "boto3.py", "sqlalchemy/__init__.py", "statistics.py"):
        (workspace.folder / name).parent.mkdir(exist_ok=True)
        workspace.write(name, f"{PLANTED}def deliver(message): pass\n")
    (workspace.folder / "yaml").mkdir()  # a folder of data does not replace a module
    workspace.write("mail.py", MAIL_MODULE)
    files = {
        "queue": "queue.py",
        "boto3": "boto3.py",
        "sqlalchemy": "sqlalchemy/__init__.py",
        "statistics": "statistics.py",
    }

    answers, _ = run_each(
        *(("outbox", "run", "--deliver", f"{module}:deliver") for module in files),
        ("outbox", "run", "--deliver", "yaml:nothing"),
        folder=workspace.folder,
        options=["-P"],
    )

    for (module, file), answer in zip(files.items(), answers, strict=False):
        start = f"registration-persistence: --deliver {module}:deliver: {file} has the name of another module ("
        assert (2, True) == (answer.code, one_line(answer.stderr).startswith(start)), answer
    assert "AttributeError: module 'yaml' has no attribute 'nothing'" in answers[-1].stderr
    assert workspace.read("executed") == ""


def test_a_wrong_deliver_option_is_rejected(workspace: Workspace) -> None:
    """If `--deliver` names no function, the command ends with 2 and one line, before it connects to the database."""
    for name, content in {
        "mail.py": MAIL_MODULE,
        "needs.py": "import nothing_of_that_name\n",
        "syntax.py": "def (\n",
        "leaves.py": "raise SystemExit(3)\n",
        "settings.py": "raise RuntimeError('MAIL_HOST is not set')\n",
    }.items():
        workspace.write(name, content)
    form = "expected module:function, for example myservice.mail:deliver"
    cases = {
        "mail": form,
        "mail:": form,
        ":deliver": form,
        "nowhere:deliver": "ModuleNotFoundError: No module named 'nowhere'",
        "mail.more:deliver": "ModuleNotFoundError: No module named 'mail.more'",
        "needs:deliver": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
        "syntax:deliver": "SyntaxError: ",
        "settings:deliver": "RuntimeError: MAIL_HOST is not set",
        ".mail:deliver": form,
        "leaves:deliver": "SystemExit: 3",
        "mail:nothing": "AttributeError: module 'mail' has no attribute 'nothing'",
        "mail:word": "word cannot be called",
    }

    answers = workspace.run_each(*(("outbox", "run", "--deliver", name) for name in cases), environ={})

    for (name, problem), answer in zip(cases.items(), answers, strict=True):
        assert (2, "") == (answer.code, answer.stdout), name
        assert one_line(answer.stderr).startswith(f"registration-persistence: --deliver {name}: {problem}"), name
