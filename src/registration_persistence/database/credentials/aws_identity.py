"""`aws_identity`: the AWS credentials of this process, described without their secret parts and without a call."""

from registration_persistence.database.log_redaction import redact_logs

_SHOWN_CHARACTERS = 4


def aws_identity() -> str:
    """Return the source of the AWS credentials that the SDK finds, and the end of their access key id.

    Returns:
        For example `the key ...MPLE from env`; `no AWS credentials` if there are none.
    """
    from botocore.session import Session

    redact_logs()
    credentials = Session().get_credentials()
    if credentials is None:
        return "no AWS credentials"
    frozen = credentials.get_frozen_credentials()
    temporary = " (temporary)" if frozen.token else ""
    return f"the key ...{(frozen.access_key or '')[-_SHOWN_CHARACTERS:]} from {credentials.method}{temporary}"
