"""`registration_infra.constructs.key`: encryption, and the services and accounts that may use the key."""

from collections.abc import Iterable
from typing import Any

import pytest
from policy_evaluation import Request, allows, resolved
from templates import CLUSTERS, EVERYTHING, VARIANTS, templates_of, text_of

# Their data are encrypted with the same key as the storage.
OTHER_SERVICES = ("secretsmanager", "logs", "sns", "backup", "ec2")


@pytest.mark.parametrize("variant", CLUSTERS)
def test_all_data_at_rest_is_encrypted_with_the_key(variant: str) -> None:
    """Storage, secrets, logs, messages, Performance Insights and the vault use the key, which rotates."""
    template = templates_of(*VARIANTS[variant]).database
    ((key, properties),) = template.all("KMS::Key").items()
    arn = f"{{{key}.Arn}}"

    assert properties["EnableKeyRotation"] is True
    cluster = template.one("RDS::DBCluster")
    assert (True, arn) == (cluster["StorageEncrypted"], text_of(cluster["KmsKeyId"]))
    for kind, name in (
        ("SecretsManager::Secret", "KmsKeyId"),
        ("Logs::LogGroup", "KmsKeyId"),
        ("SNS::Topic", "KmsMasterKeyId"),
        ("Backup::BackupVault", "EncryptionKeyArn"),
    ):
        found = template.all(kind)
        assert {arn} >= {text_of(resource[name]) for resource in found.values()}, kind
        assert found or kind == "Backup::BackupVault"
    insights = [one for one in template.all("RDS::DBInstance").values() if one.get("EnablePerformanceInsights")]
    assert {arn} >= {text_of(instance["PerformanceInsightsKMSKeyId"]) for instance in insights}
    assert bool(insights) == (variant == "everything")


CENTRAL = "arn:aws:iam::999999999999:role/anything"
COPY = {"kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom"}
RDS = {"kms:ViaService": "rds.eu-central-1.amazonaws.com"}
FOR_AWS = {"kms:GrantIsForAWSResource": "true"}


def allowed(changes: dict[str, Any], actions: Iterable[str], principal: str, context: dict[str, str]) -> set[str]:
    """Return which of *actions* the policy of production's key allows to *principal*."""
    policy = templates_of("prod", changes).database.one("KMS::Key")["KeyPolicy"]["Statement"]
    statements = resolved(
        policy, {"AWS::AccountId": "333333333333", "AWS::Region": "eu-central-1", "AWS::Partition": "aws"}
    )
    requests = {action: Request(action=action, principal=principal, context=context) for action in actions}
    return {action for action, request in requests.items() if allows(statements, request)}


def test_central_account_uses_the_key_only_through_rds() -> None:
    """The central backup account copies snapshots through RDS, here or in another region, and decrypts nothing else."""
    grants = {"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"}
    other_region = {"kms:ViaService": "rds.eu-west-1.amazonaws.com"}

    assert allowed(EVERYTHING, COPY, CENTRAL, RDS) == allowed(EVERYTHING, COPY, CENTRAL, other_region) == COPY
    assert allowed(EVERYTHING, grants, CENTRAL, RDS | FOR_AWS) == grants
    assert allowed(EVERYTHING, ["kms:DescribeKey"], CENTRAL, {}) == {"kms:DescribeKey"}
    for context in (
        {},
        FOR_AWS,
        *({"kms:ViaService": f"{name}.eu-central-1.amazonaws.com"} for name in OTHER_SERVICES),
    ):
        assert allowed(EVERYTHING, COPY | grants, CENTRAL, context) == set(), context
    assert allowed(EVERYTHING, grants, CENTRAL, RDS) == set()
    assert allowed(EVERYTHING, ["kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:Encrypt"], CENTRAL, RDS) == set()


def test_other_accounts_cannot_use_the_key() -> None:
    """Without a central account, and for each third account, the key is closed."""
    third = "arn:aws:iam::888888888888:root"

    assert allowed({}, COPY | {"kms:DescribeKey"}, CENTRAL, RDS) == set()
    assert allowed(EVERYTHING, COPY | {"kms:DescribeKey"}, third, RDS) == set()
    own = templates_of("prod").database.one("KMS::Key")["KeyPolicy"]["Statement"]
    assert {"arn:aws:iam::333333333333:root"} == {
        text_of(one["Principal"]["AWS"]) for one in own if "AWS" in one["Principal"]
    }


def test_services_use_the_key_only_for_this_account() -> None:
    """CloudWatch and RDS must name this account, and CloudWatch Logs a log group of this account and environment."""
    use = {"kms:Decrypt", "kms:GenerateDataKey"}
    for service in ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com"):
        assert allowed({}, use, service, {"aws:SourceAccount": "333333333333"}) == use
        assert allowed({}, use, service, {"aws:SourceAccount": "888888888888"}) == set()
        assert allowed({}, use, service, {}) == set()
    logs, name = "logs.eu-central-1.amazonaws.com", "kms:EncryptionContext:aws:logs:arn"
    for account, group, result in (
        ("333333333333", "/aws/lambda/registration-prod-service", use),
        ("333333333333", "/aws/lambda/registration-dev-service", set()),
        ("888888888888", "/aws/lambda/registration-prod-service", set()),
    ):
        context = {name: f"arn:aws:logs:eu-central-1:{account}:log-group:{group}"}
        assert allowed({}, use, logs, context) == result, (account, group)
    assert allowed({}, use, "events.amazonaws.com", {"aws:SourceAccount": "333333333333"}) == set()


def test_services_may_use_the_key() -> None:
    """CloudWatch Logs may use it for the log groups of the environment, and the alarm sources for the topic."""
    statements = templates_of("dev").database.one("KMS::Key")["KeyPolicy"]["Statement"]

    logs, alarms = (one for one in statements if "Service" in one["Principal"])
    groups = text_of(logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"])
    assert groups.endswith(":log-group:/*/registration-dev*")
    assert ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"] == alarms["Principal"]["Service"]
    assert {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}} == alarms["Condition"]
    assert ["kms:Decrypt", "kms:GenerateDataKey*"] == alarms["Action"]
