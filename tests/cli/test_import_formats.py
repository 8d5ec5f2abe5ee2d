"""`import`: the formats of its files, and its report of rejected rows."""

import bz2
import gzip
import itertools
import json
import lzma
from datetime import UTC, datetime, timedelta

from command_line import one_line
from import_summary import counts
from workspace import Workspace

from registration_persistence.repositories.bulk_import import DUPLICATE

PEOPLE = "email\nada@example.com\n"
NO_TIME = "registered_at is not a time in ISO 8601 with a time zone, like 2024-05-01T09:30:00Z"
NO_STATUS = "the status cannot be imported: expected one of pending, verified, active"
NO_AT = "the e-mail address is not valid: An email address must have an @-sign."


def test_csv_with_every_kind_of_column(workspace: Workspace) -> None:
    """A byte order mark, CRLF, line breaks in quotes and every kind of column are read correctly."""
    workspace.write(
        "people.csv",
        "\ufeff email ,status,registered_at,idempotency_key,profile.name,profile.town,consent.terms,declined.news\r\n"
        'Ada@example.com,active,2024-05-01T11:30:00+02:00,,"Ada\r\nLovelace","Z\u00fcrich, ""City""",24-01,24-02\r\n'
        "\r\n"
        "bob@example.com, pending ,,crm-4711,Bob,,,\r\n"
        "not a mailbox,,,,,,,\r\n"
        "eve@example.com,verified,2024-05-01T09:30:00Z,,,,,1\r\n"
        "mia@example.com,,,,,,,",
    )

    done = workspace.run("import", "people.csv", code=1)

    assert (4, 0, 1) == counts(done.stdout)
    assert done.stderr == ""
    assert [6] == [line for line, _ in workspace.rejected()]
    registered_at = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    registrations = {row["email"]: row for row in workspace.rows("SELECT * FROM registrations")}
    assert {
        "Ada@example.com": ("active", {"name": "Ada\r\nLovelace", "town": 'Z\u00fcrich, "City"'}, False),
        "bob@example.com": ("pending", {"name": "Bob"}, True),
        "eve@example.com": ("verified", {}, False),
        "mia@example.com": ("active", {}, False),
    } == {email: (row["status"], row["profile"], row["submit_key"] is not None) for email, row in registrations.items()}
    ada, bob, eve = (registrations[email] for email in ("Ada@example.com", "bob@example.com", "eve@example.com"))
    assert [registered_at] * 3 == [ada["created_at"], ada["verified_at"], ada["activated_at"]]
    assert [registered_at, registered_at, None] == [eve["created_at"], eve["verified_at"], eve["activated_at"]]
    assert bob["created_at"] > datetime.now(UTC) - timedelta(days=1)
    assert [
        ("Ada@example.com", "news", "24-02", False, "import", registered_at),
        ("Ada@example.com", "terms", "24-01", True, "import", registered_at),
        ("eve@example.com", "news", "1", False, "import", registered_at),
    ] == [
        tuple(row.values())
        for row in workspace.rows(
            "SELECT email, purpose, document_version, granted, source, recorded_at"
            " FROM registration_consents JOIN registrations r ON r.id = registration_id ORDER BY email, purpose"
        )
    ]


def test_json_lines_with_every_field(workspace: Workspace) -> None:
    """Every field is read, empty lines are ignored, and the last line may lack its line break."""
    whole = {
        "email": "Ada@example.com",
        "status": "verified",
        "registered_at": "2024-05-01T09:30:00Z",
        "idempotency_key": "crm-4711",
        "profile": {"name": "Zo\u00eb", "age": 36, "tags": ["a", {"b": None}]},
        "consents": [
            {"purpose": "terms", "document_version": "2024-01", "granted": False, "source": "crm"},
            {"purpose": "news", "document_version": "1"},
        ],
    }
    nulls = dict.fromkeys(whole) | {"email": "bob@example.com"}
    workspace.write(
        "people.ndjson",
        "\ufeff" + json.dumps(whole, ensure_ascii=False) + "\r\n \r\n\n[]\n" + json.dumps(nulls),
    )

    done = workspace.run("import", "people.ndjson", code=1)

    assert (2, 0, 1) == counts(done.stdout)
    assert done.stderr == ""
    assert [(4, "the line is not a JSON object")] == workspace.rejected()
    ada, bob = workspace.rows("SELECT * FROM registrations ORDER BY email")
    assert ("Ada@example.com", "verified", whole["profile"]) == (ada["email"], ada["status"], ada["profile"])
    assert datetime(2024, 5, 1, 9, 30, tzinfo=UTC) == ada["created_at"] == ada["verified_at"]
    assert ada["submit_key"] is not None
    assert ("bob@example.com", "active", {}) == (bob["email"], bob["status"], bob["profile"])
    assert [("news", "1", True, "import"), ("terms", "2024-01", False, "crm")] == [
        tuple(row.values())
        for row in workspace.rows(
            "SELECT purpose, document_version, granted, source FROM registration_consents ORDER BY purpose"
        )
    ]


def test_the_report_lists_each_rejected_csv_row(workspace: Workspace) -> None:
    """It has the line and the reason and nothing of the row itself; all other rows are imported."""
    reasons: dict[bytes, str | None] = {
        b"ada@example.com,active,,Ada,1": None,
        b"bob@example.com,active": "the row has 2 fields: expected 5",
        b"bob@example.com,active,,Bob,1,": "the row has 6 fields: expected 5",
        b"bob.example.com,active,,Bob,1": NO_AT,
        b"bob@example.com,gone,,Bob,1": NO_STATUS,
        b'bob@example.com,active,,"Bob\nBuilder\n",1': None,
        b"ADA@example.com,active,,Ada,1": DUPLICATE,
        b"carl@example.com,active,2024-05-01T09:30:00,Carl,1": NO_TIME,
        b"carl@example.com,active,yesterday,Carl,1": NO_TIME,
        b"carl@example.com,active,2999-05-01T09:30:00Z,Carl,1": "registered_at is in the future",
        b"carl@example.com,active,,C\xe4rl,1": "the row is not UTF-8",
        b"carl@example.com,active,,C\0rl,1": "the profile contains NUL, which PostgreSQL cannot store",
        b"carl@example.com,active,,Carl,carl@example.com": (
            "the document_version of the consent to terms is not 1 to 64 letters, digits and _.:/-"
        ),
        b"carl@example.com,active,," + b"x" * 9000 + b",1": (
            "the profile takes 9012 bytes of JSON: expected at most 8192"
        ),
        b"carl@example.com,active,,Carl,1": None,
    }
    header = b"email,status,registered_at,profile.name,consent.terms"
    workspace.write("people.csv", b"\n".join([header, *reasons]))
    lines = itertools.accumulate((row.count(b"\n") + 1 for row in reasons), initial=2)
    expected = [(line, reason) for line, reason in zip(lines, reasons.values(), strict=False) if reason is not None]

    done = workspace.run("import", "people.csv", code=1)

    assert expected == workspace.rejected()
    assert (3, 1, len(expected) - 1) == counts(done.stdout)
    assert f"             2  {NO_TIME}\n" in done.stdout
    assert done.stderr == ""
    assert "example.com" not in done.stdout + workspace.read("people.rejected.csv")


def test_the_report_lists_each_rejected_json_line(workspace: Workspace) -> None:
    """It has the number of the line and the reason and nothing of its text; all other lines are imported."""
    unknown_field = "has a field that is unknown: expected"
    reasons: dict[bytes, str | None] = {
        b'{"email": "ada@example.com"}': None,
        b'{"email": "bob.example.com"}': NO_AT,
        b'{"email": "bob@example.com", "status": "gone"}': NO_STATUS,
        b'{"email": "bob@example.com", "status": ["active"]}': NO_STATUS,
        b'{"email": "bob@example.com", "registered_at": "2024-05-01T09:30:00"}': NO_TIME,
        b'{"email": "bob@example.com", "registered_at": 1714555800}': NO_TIME,
        b'{"email": "b\xf6b@example.com"}': "the line is not UTF-8",
        b'{"email": "bob@example.com"': "the line is not JSON",
        b"bob@example.com": "the line is not JSON",
        b"[" * 100_000: "the line is not JSON",
        b'["bob@example.com"]': "the line is not a JSON object",
        b'{"email": "bob@example.com", "mail": ""}': (
            f"the row {unknown_field} email, status, registered_at, idempotency_key, profile, consents"
        ),
        b'{"email": "bob@example.com", "profile": ["bob@example.com"]}': "the profile is a list: expected an object",
        b'{"email": "bob@example.com", "profile": {"name": "\\ud800"}}': (
            "the profile cannot be written as JSON (UnicodeEncodeError)"
        ),
        b'{"email": "bob@example.com", "consents": {"terms": "1"}}': "the consents are not a list",
        b'{"email": "bob@example.com", "consents": ["terms"]}': "a consent is not an object",
        b'{"email": "bob@example.com", "consents": [{"purpose": "terms", "version": "1"}]}': (
            f"a consent {unknown_field} purpose, document_version, granted, source"
        ),
        b'{"email": "bob@example.com", "consents": [{"purpose": "bob@example.com", "document_version": "1"}]}': (
            "the purpose of a consent is not a name like terms or marketing_mail"
        ),
        b'{"email": "bob@example.com", "idempotency_key": 4711}': (
            "the idempotency key is not text of 1 to 255 bytes of UTF-8"
        ),
        b'{"email": "' + b"x" * 3_500_000 + b'"}': "the line is longer than 1000000 bytes",
        b'{"email": "ADA@example.com"}': DUPLICATE,
        b'{"email": "bob@example.com"}': None,
        b'{"email": "eve@example.com' + b" " * 999_950 + b'"}': None,
        b'{"email": "' + b"x" * 1_000_000: "the line is longer than 1000000 bytes",
    }
    workspace.write("people.jsonl", b"\n".join(reasons))

    done = workspace.run("import", "people.jsonl", "--rejected", "report.csv", code=1)

    expected = [(line, reason) for line, reason in enumerate(reasons.values(), 1) if reason is not None]
    assert expected == workspace.rejected("report.csv")
    assert (3, 1, len(expected) - 1) == counts(done.stdout)
    assert done.stdout.endswith("are in report.csv\n")
    assert done.stderr == ""
    assert "example.com" not in done.stdout + workspace.read("report.csv")
    assert "" == workspace.read("people.rejected.csv")


def test_unusable_files_are_rejected(workspace: Workspace) -> None:
    """Each ends with 2 and one line with the name of the file; an older report is kept, and no database is needed."""
    headers: dict[str, tuple[str | bytes, str]] = {
        "none.csv": ("", "the header is missing"),
        "blank.csv": ("\n", "the header is missing"),
        "no-mailbox.csv": ("status,profile.name\nactive,Ada\n", "the header has no column email"),
        "no-header.csv": ("ada@example.com,active\n", "the header has no column email"),
        "unknown.csv": ("email,name\nada@example.com,Ada\n", "the column 'name' is unknown"),
        "long.csv": (f"email,{'x' * 100}\n", f"the column '{'x' * 59}... is unknown"),
        "purpose.csv": ("email,consent.Terms\n", "the column 'consent.Terms' is unknown"),
        "twice.csv": ("email,status,email\nada@example.com,active,ada\n", "the column 'email' occurs 2 times"),
        "semicolons.csv": ("email;status\nada@example.com;active\n", "the columns are separated by semicolons"),
        "tabs.csv": ("status\temail\nactive\tada@example.com\n", "the columns are separated by tabs"),
    }
    encodings: dict[str, tuple[bytes, str]] = {
        "utf-16.csv": (PEOPLE.encode("utf-16"), "is UTF-16 or UTF-32: expected CSV or JSON Lines in UTF-8; convert it"),
        "utf-16be.csv": (b"\xfe\xff" + PEOPLE.encode("utf-16-be"), "is UTF-16: expected"),
        "no-mark.csv": (PEOPLE.encode("utf-16-le"), "is UTF-16, UTF-32 or not text: expected"),
        "utf-16.jsonl": ('{"email": "ada@example.com"}'.encode("utf-16"), "is UTF-16 or UTF-32: expected"),
        "people.csv.gz": (gzip.compress(PEOPLE.encode()), "is compressed with gzip: expected"),
        "gzip.csv": (gzip.compress(PEOPLE.encode()), "is compressed with gzip: expected"),
        "xz.csv": (lzma.compress(PEOPLE.encode()), "is compressed with xz: expected"),
        "bz2.csv": (bz2.compress(PEOPLE.encode()), "is compressed with bzip2: expected"),
        "sheet.csv": (b"PK\x03\x04" + bytes(20), "is a ZIP archive, as XLSX and ODS files are: expected"),
        "nulls.csv": (bytes(4096), "is UTF-16, UTF-32 or not text: expected"),
    }
    for name, (content, _) in {**headers, **encodings}.items():
        workspace.write(name, content)
    workspace.write("people.csv", "email\nada@example.com\n")
    workspace.write("people.txt", "email\nada@example.com\n")
    (workspace.folder / "link.csv").symlink_to("people.csv")
    (workspace.folder / "folder.csv").mkdir()
    workspace.write("old.csv", "an earlier report\n")
    overwritten = "is the file to import: name another one for the rejected rows"
    cases: dict[tuple[str, ...], str] = {
        **{
            (
                name,
                "--rejected",
                "old.csv",
            ): f"{name}, line 1: {problem}: expected the column email, and any of "
            for name, (_, problem) in headers.items()
        },
        **{(name, "--rejected", "old.csv"): f"{name} {problem}" for name, (_, problem) in encodings.items()},
        ("/proc/self/mem", "--format", "csv"): "cannot read /proc/self/mem: Input/output error",
        ("nowhere.csv",): "cannot read nowhere.csv: No such file or directory",
        ("folder.csv",): "cannot read folder.csv: Is a directory",
        ("people.txt",): "people.txt: neither .csv nor .jsonl: name the format with --format",
        ("people.csv", "--rejected", "people.csv"): f"people.csv {overwritten}",
        ("people.csv", "--rejected", "link.csv"): f"link.csv {overwritten}",
        ("link.csv", "--rejected", "people.csv"): f"people.csv {overwritten}",
        ("people.csv", "--rejected", "no/where.csv"): "cannot write no/where.csv: No such file or directory",
        ("people.csv", "--rejected", "folder.csv"): "cannot write folder.csv: Is a directory",
    }

    answers = workspace.run_each(*(("import", *arguments) for arguments in cases))

    for (arguments, problem), answer in zip(cases.items(), answers, strict=True):
        assert (2, "") == (answer.code, answer.stdout), arguments
        assert one_line(answer.stderr).startswith(f"registration-persistence: {problem}"), arguments
        assert "ada@" not in answer.stderr
    assert "an earlier report\n" == workspace.read("old.csv")
    assert "email\nada@example.com\n" == workspace.read("people.csv")
    assert [] == list(workspace.folder.glob("*.rejected.csv"))
