"""The secrets of the administrator, the application and the monitoring agent."""

import json
import re

from aws_cdk import RemovalPolicy, Token
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from registration_infra.constructs.key import key_use

ADMIN = "registration_admin"
APPLICATION = "registration_app"
MONITORING = "datadog"

EXCLUDED_CHARACTERS = " %+~`#$&*()|[]{}:;<>?!'/@\"\\"
"""Characters that no password contains, because URLs or shells interpret them.

A rotation uses letters and digits only.
"""
_PASSWORD_LENGTH = 32
_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}\Z")


class DatabaseSecret(Construct):
    """A user name and a password that Secrets Manager generates.

    Attributes:
        secret: The secret, encrypted with the key of the database.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        username: str,
        key: kms.IKey,
        removal_policy: RemovalPolicy,
        master: secretsmanager.ISecret | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        # The keys that AWS documents for secrets of databases, so that other clients of the secret use TLS too.
        template: dict[str, object] = {"username": username, "ssl": True}
        if master is not None:
            template["masterarn"] = master.secret_arn
        self.secret = secretsmanager.Secret(
            self,
            "Secret",
            secret_name=name,
            description=f"Login of {username}",
            encryption_key=key,
            removal_policy=removal_policy,
            generate_secret_string=_with_generated_password(template),
        )


def _with_generated_password(template: dict[str, object]) -> secretsmanager.SecretStringGenerator:
    return secretsmanager.SecretStringGenerator(
        secret_string_template=json.dumps(template),
        generate_string_key="password",
        password_length=_PASSWORD_LENGTH,
        exclude_characters=EXCLUDED_CHARACTERS,
    )


def is_complete_arn(secret_arn: str) -> bool:
    """Return whether *secret_arn* ends in the suffix of six characters that Secrets Manager adds to each name.

    In a policy, an ARN without the suffix matches no secret. Secrets Manager accepts it in requests.
    """
    return Token.is_unresolved(secret_arn) or _SUFFIX.search(secret_arn) is not None


def allow_secret(function: lambda_.Function, secret_arn: str, key_arn: str | None) -> None:
    """Let *function* read a secret, and decrypt it through Secrets Manager only.

    The statements are in the role of the function. A statement in the policy of the key would make the stack of the
    key depend on the stack of the function.

    Args:
        function: The function.
        secret_arn: The ARN of the secret.
        key_arn: The ARN of the key that encrypts the secret; `None` if the key is the AWS-managed one.
    """
    resources = [secret_arn]
    if not is_complete_arn(secret_arn):
        resources.append(f"{secret_arn}-??????")
    function.add_to_role_policy(iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=resources))
    if key_arn is not None:
        function.add_to_role_policy(key_use(key_arn, ["kms:Decrypt"], service="secretsmanager"))
