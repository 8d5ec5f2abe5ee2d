"""The permission to log in to the database with IAM."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

IAM_LOGIN = "registration_iam"
"""The login of the services with IAM.

It is not the login with the secret, `registration_app`: PostgreSQL on RDS refuses the password of a login that is
granted `rds_iam`, so a change from one to the other would lock out the running functions.
"""


def login_statement(resource_id: str, user: str, *, region: str = Aws.REGION) -> iam.PolicyStatement:
    """Return a statement that allows to log in as *user* to one cluster or proxy.

    Args:
        resource_id: The resource id of the cluster (`cluster-…`), the instance (`db-…`) or the proxy (`prx-…`).
        user: The login.
        region: The region of the database.
    """
    arn = f"arn:{Aws.PARTITION}:rds-db:{region}:{Aws.ACCOUNT_ID}:dbuser:{resource_id}/{user}"
    return iam.PolicyStatement(actions=["rds-db:connect"], resources=[arn])
