"""`SecretDescriber`: reads the rotation state of a secret, which DescribeSecret returns without the secret itself."""

from collections.abc import Mapping
from typing import Any

from registration_persistence.database.credentials.secret_reader import SecretReader
from registration_persistence.errors import SecretRefused, SecretUnavailable


class SecretDescriber(SecretReader):
    """Reads the rotation state of one secret; its arguments are those of `SecretReader`."""

    def describe(self) -> Mapping[str, Any]:
        """Return the response of DescribeSecret, with one call that ends before the deadline.

        Raises:
            SecretRefused: This process may not describe the secret, or it does not exist.
            SecretUnavailable: Secrets Manager did not answer, or answered with a temporary error.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            response: Mapping[str, Any] = self._client().describe_secret(SecretId=self._arn)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = SecretRefused if code.startswith("AccessDenied") else SecretUnavailable
            raise kind(f"cannot describe the secret {self._arn}: {error}") from error.with_traceback(None)
        except (BotoCoreError, OSError) as error:
            raise SecretUnavailable(f"cannot describe the secret {self._arn}: {error}") from error.with_traceback(None)
        return response
