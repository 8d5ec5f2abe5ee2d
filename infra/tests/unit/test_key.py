"""`registration_infra.constructs.key`: encryption, and the services and accounts that may use the key."""

import pytest
from templates import EVERYTHING, VARIANTS, templates_of, text_of


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "existing"])
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


def test_central_account_may_use_the_key() -> None:
    """The central backup account may decrypt and create grants for AWS services; without it, only this account may."""
    policy = templates_of("prod", EVERYTHING).database.one("KMS::Key")["KeyPolicy"]["Statement"]
    central = [one for one in policy if text_of(one["Principal"].get("AWS", "")).find("999999999999") >= 0]

    use, grants = sorted(central, key=lambda one: str(one["Sid"]))
    assert ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*"] == use["Action"]
    assert {"Bool": {"kms:GrantIsForAWSResource": "true"}} == grants["Condition"]
    assert ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"] == grants["Action"]
    own = templates_of("prod").database.one("KMS::Key")["KeyPolicy"]["Statement"]
    assert {"arn:aws:iam::333333333333:root"} == {
        text_of(one["Principal"]["AWS"]) for one in own if "AWS" in one["Principal"]
    }


def test_services_may_use_the_key() -> None:
    """CloudWatch Logs may use it for the log groups of the environment, and the alarm sources for the topic."""
    statements = templates_of("dev").database.one("KMS::Key")["KeyPolicy"]["Statement"]

    logs, alarms = (one for one in statements if "Service" in one["Principal"])
    groups = text_of(logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"])
    assert groups.endswith(":log-group:/*/registration-dev*")
    assert ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"] == alarms["Principal"]["Service"]
    assert {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}} == alarms["Condition"]
    assert ["kms:Decrypt", "kms:GenerateDataKey*"] == alarms["Action"]
