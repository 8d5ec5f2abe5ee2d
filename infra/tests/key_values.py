"""Accepted and refused values for each key of an environment file, and the words of the messages for the key."""

from collections.abc import Mapping
from typing import Any

import pytest
from environment_files import CLUSTER, DATADOG, EXISTING, EXISTING_VPC, IAM, KEY, PAUSE, SECRET, SUBNETS, VAULT, ZONES

FLAG_WORDS = "true or false"
ACCOUNT_WORDS = "the 12 digits of an AWS account, in quotes"
GROUP_WORDS = "a security group's id, sg-…"
ARN_WORDS = "arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME, with the partition of the region"
PAUSE_WORDS = "a whole number of seconds, 300 to 86400"
REGION_WORDS = "an AWS region whose host names end in amazonaws.com, such as eu-central-1"
ZONES_WORDS = "a list of 2 to 4 different zones, such as eu-central-1a"
SUBNETS_WORDS = "a list of different subnets' ids, subnet-…, one for each zone"
NAME_WORDS = "a letter, then up to 62 letters, digits or underscores, and no reserved word such as db, postgres or user"
VPC_WORDS = "a VPC's id, vpc-…"
KEY_WORDS = "arn:PARTITION:kms:REGION:ACCOUNT:key/ID, with the partition of the region"
USER_WORDS = "the name of a login, 1 to 63 lower-case letters, digits or underscores, not starting with rds or pg_"
RESOURCE_WORDS = "the resource id of the cluster, instance or proxy: cluster-…, db-… or prx-…"
GROUPS_WORDS = (
    'different ones of P-256, P-384, P-521, X25519, X448 with colons between them, such as P-256:X25519, or ""'
)
VAULT_WORDS = "arn:PARTITION:backup:REGION:ACCOUNT:backup-vault:NAME, with the partition of the region"
LOG_RETENTIONS = (
    "1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653"
)
TABLES: Mapping[str, str] = {
    "network": "a table [network] with availability_zones",
    "aurora": "a table [aurora] with database_name, deletion_protection, force_ssl",
    "existing": "a table [existing] with host, name",
    "backup": "a table [backup]",
    "application": "a table [application]",
    "alarms": "a table [alarms]",
    "datadog": "a table [datadog] with site, api_key_secret_arn",
}

VALUES: Mapping[str, tuple[str, list[str], list[str]]] = {
    # key: expected values in words, accepted values at the limits, refused values beyond them
    "account": (
        ACCOUNT_WORDS,
        ['"000000000000"', '"999999999999"'],
        [
            '"12345678901"',
            '"1234567890123"',
            "123456789012",
            '"12345678901a"',
            '"12345678901٢"',
            '""',
            '" 23456789012"',
        ],
    ),
    "region": (
        REGION_WORDS,
        ['"eu-central-1"'],
        [
            '"mars"',
            '" eu-central-1"',
            '"eu-central"',
            '"EU-CENTRAL-1"',
            '"eu-central-1a"',
            '"cn-northwest-1"',
            '"eusc-de-east-1"',
            '"us-iso-east-1"',
            '"us-isob-east-1"',
            "1",
        ],
    ),
    "log_retention_days": (
        f"a number of days that CloudWatch Logs takes: {LOG_RETENTIONS}",
        LOG_RETENTIONS.split(", "),
        ["0", "2", "366", "3654", '"30"', "30.0", "true"],
    ),
    "github_repository": (
        "OWNER/NAME, as GitHub writes them",
        ['"example/registrations"', '"a/b"', '"an-owner/a.name_1-2"'],
        [
            '"registrations"',
            '"example/registrations/x"',
            '"example/*"',
            '"*/registrations"',
            '"example/registrations:environment"',
            '"https://github.com/example/registrations"',
            '"-example/registrations"',
            '"example/.."',
            '" example/registrations"',
            '"${x}/registrations"',
            "1",
        ],
    ),
    "network.availability_zones": (
        ZONES_WORDS,
        [ZONES, '["eu-central-1a", "eu-central-1b", "eu-central-1c"]'],
        [
            "[]",
            '["eu-central-1a"]',
            '["eu-central-1a", "eu-central-1a"]',
            '["eu-central-1a", "eu-central-1"]',
            '["eu-central-1a", " eu-central-1b"]',
            '["eu-central-1a", 2]',
            '"eu-central-1a"',
        ],
    ),
    "network.cidr": (
        "an IPv4 network of /16 to /24, such as 10.0.0.0/16",
        ['"10.0.0.0/16"', '"192.168.7.0/24"'],
        [
            '"10.0.0.0/15"',
            '"10.0.0.0/25"',
            '"10.0.0.1/16"',
            '"10.0.0.0/255.255.0.0"',
            '"10.0.0.0"',
            '"fd00::/16"',
            '"ten"',
            "10",
        ],
    ),
    "network.nat_gateways": ("a whole number, 0 to 4", ["0", "4"], ["-1", "5", "1.0", "true", '"1"']),
    "network.vpc_id": (
        VPC_WORDS,
        ['"vpc-12345678"', '"vpc-1234567890abcdef0"'],
        ['"vpc-1234567"', '" vpc-12345678"', '"vpc-1234567890abcdef01"', '"vpc-1234567G"', '"12345678"', "5"],
    ),
    "network.subnet_ids": (
        SUBNETS_WORDS,
        [SUBNETS, '["subnet-12345678", "subnet-1234567890abcdef0"]'],
        [
            "[]",
            '["subnet-12345678"]',
            '["subnet-12345678", "subnet-12345678"]',
            '["subnet-12345678", "subnet-1234567"]',
            '["subnet-12345678", "subnet-1234567890abcdef01"]',
            '["subnet-12345678", " subnet-87654321"]',
            '["subnet-12345678", true]',
            '"subnet-12345678"',
        ],
    ),
    "network.secrets_endpoint_security_group_id": (
        GROUP_WORDS,
        ['"sg-12345678"', '"sg-1234567890abcdef0"'],
        ['"sg-1234567"', '"sg-1234567890abcdef01"', '" sg-12345678"', '"endpoint"', "true"],
    ),
    "aurora.database_name": (
        NAME_WORDS,
        ['"r"', '"R_1"', f'"{"n" * 63}"', '"db1"', '"postgres_2"', '"users"'],
        [
            '""',
            '"1st"',
            '"_a"',
            '"a-b"',
            f'"{"n" * 64}"',
            '"é"',
            '"a\\n"',
            "7",
            '"db"',
            '"postgres"',
            '"template0"',
            '"template1"',
            '"rdsadmin"',
            '"Postgres"',
            '"DB"',
            '"user"',
        ],
    ),
    "aurora.deletion_protection": (FLAG_WORDS, ["true", "false"], ["1", '"yes"']),
    "aurora.force_ssl": (FLAG_WORDS, ["true", "false"], ["0", '"true"']),
    "aurora.sslmode": (
        '"verify-full" or "require"',
        ['"verify-full"', '"require"'],
        ['"prefer"', '"verify-ca"', '"disable"', "true"],
    ),
    "aurora.extended_support": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "aurora.engine_version": (
        "MAJOR.MINOR of Aurora PostgreSQL 15 to 18, such as 18.4",
        ['"15.0"', '"16.13"', '"18.99"'],
        ['" 16.13"', '"14.9"', '"19.1"', '"16"', '"16.03"', '"16.100"', '"16.x"', "16.13", "16"],
    ),
    "aurora.max_capacity": (
        "1 to 256 ACU in steps of 0.5",
        ["1", "1.5", "256", "256.0"],
        ["0.5", "0", "1.2", "256.5", '"1"', "true", "nan", "inf"],
    ),
    "aurora.min_capacity": (
        "0 to 256 ACU in steps of 0.5",
        ["0.5", "1", "1.0"],
        ["-0.5", "0.7", "256.5", "true", '"0.5"', "nan", "inf", "-inf", "1979-05-27", "[0.5]"],
    ),
    "aurora.auto_pause_seconds": (PAUSE_WORDS, ["300", "86400"], ["299", "86401", "300.0", "true", '"300"']),
    "aurora.readers": ("a whole number, 0 to 15", ["0", "15"], ["-1", "16", "1.0", "true"]),
    "aurora.removal": (
        '"snapshot" or "destroy"',
        ['"snapshot"', '"destroy"'],
        ['"keep"', '"Snapshot"', '""', "true", "1"],
    ),
    "aurora.backup_retention_days": (
        "a whole number of days, 1 to 35",
        ["1", "35"],
        ["0", "36", "-7", "7.0", "true", '"7"'],
    ),
    "aurora.retention_reason": ("a sentence in quotes", ['"x"', '" a\\nb "'], ['""', '"  "', '"\\n"', "true", "7"]),
    "aurora.authentication": ('"secret" or "iam"', ['"secret"', '"iam"'], ['"password"', '"IAM"', "true", "1"]),
    "aurora.rotation": (
        '"alternating" or "single"',
        ['"alternating"', '"single"'],
        ['"none"', '"Single"', "true", "1"],
    ),
    "aurora.rotation_days": ("a whole number of days, 1 to 999", ["1", "999"], ["0", "1000", "30.0", "true"]),
    "aurora.proxy": (FLAG_WORDS, ["false"], ["0", '"on"']),
    "aurora.slow_query_ms": (
        "milliseconds, 0 to 60000, or -1 for never",
        ["-1", "0", "60000"],
        ["-2", "60001", "0.5", "false"],
    ),
    "aurora.performance_insights": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "existing.host": (
        "one host name or IP address",
        ['"d"', '"2001:db8::1"', '"10.0.0.1"', '"db_1.example-2.org"', '"db.example.org."'],
        ['""', '"a b"', '"a,b"', '"/tmp"', '"a\\n"', '"é"', '"db:5432"', '"a..b"', '"-a"', f'"{"a" * 64}"', "5"],
    ),
    "existing.reader_host": (
        "one host name or IP address",
        ['"d.cluster-ro-abc.eu-central-1.rds.amazonaws.com"'],
        ['""', '"a b"', '"db:5432"', "5"],
    ),
    "existing.auth": ('"secret" or "iam"', ['"secret"'], ['"password"', '"IAM"', "true"]),
    "existing.user": (
        USER_WORDS,
        ['"u"', '"registration_iam"', f'"{"n" * 63}"'],
        ['""', '"Registration"', '"a-b"', '"1a"', f'"{"n" * 64}"', '"rdsadmin"', '"pg_x"', '"a\\n"', "5"],
    ),
    "existing.resource_id": (
        RESOURCE_WORDS,
        ['"cluster-ABCDEFGHIJKL01234"', '"db-ABCDEFGHIJKL01234"'],
        ['"registration-dev"', '"cluster-"', '"cluster-A/*"', '"cluster-*"', '" cluster-A"', '"CLUSTER-A"', "5"],
    ),
    "existing.sslmode": ('"verify-full" or "require"', ['"require"'], ['"prefer"', '"verify-ca"', "true"]),
    "existing.ssl_root_cert": (
        "an absolute path in the function, such as /var/task/root.pem",
        ['"/var/task/root.pem"', '"/opt/é 1.pem"'],
        ['""', '"root.pem"', '"/a\\n"', '"/a\\u0000"', "5"],
    ),
    "existing.port": ("a whole number, 1 to 65535", ["1", "65535"], ["0", "65536", '"5432"', "true", "5432.0"]),
    "existing.name": (
        "the name of the database, 1 to 63 bytes, and not rdsadmin, template0, template1",
        ['"x"', '"my-db 2"', '"postgres"', f'"{"é" * 31}x"', f'"{"n" * 63}"'],
        [
            '""',
            f'"{"é" * 32}"',
            f'"{"n" * 64}"',
            '"a\\u0000"',
            '"a\\n"',
            '"a\\u2028"',
            '"template1"',
            '"rdsadmin"',
            "5",
        ],
    ),
    "existing.secret_arn": (
        ARN_WORDS,
        [
            f'"{SECRET}"',
            f'"{SECRET.removesuffix("-AbCdEf")}"',
            '"arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:prod/db"',
            # The names that RDS gives to the passwords that it manages.
            '"arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-0b9e4c1a-AbCdEf"',
            '"arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-0b9e4c1a-2c34-4bd8-9c1e-7a7a5b1e2f00"',
            '"arn:aws:secretsmanager:mx-central-1:123456789012:secret:/a_+=.@-!"',
            f'"arn:aws:secretsmanager:ap-southeast-7:123456789012:secret:{"n" * 512}-AbCdEf"',
            '"arn:aws-cn:secretsmanager:cn-northwest-1:123456789012:secret:a"',
            '"arn:aws-eusc:secretsmanager:eusc-de-east-1:123456789012:secret:a"',
            '"arn:aws-iso:secretsmanager:us-iso-east-1:123456789012:secret:a"',
            '"arn:aws-iso-b:secretsmanager:us-isob-east-1:123456789012:secret:a"',
            '"arn:aws-iso-e:secretsmanager:eu-isoe-west-1:123456789012:secret:a"',
            '"arn:aws-new:secretsmanager:xx-north-1:123456789012:secret:a"',
            '"arn:aws-iso-f:secretsmanager:us-isof-south-1:123456789012:secret:a"',
        ],
        [
            '"registration"',
            f'"{SECRET.replace(":aws:", ":aws-iso:")}"',
            f'"{SECRET.replace("eu-central-1", "us-gov-west-1")}"',
            f'"{SECRET.replace(":aws:", ":amazon:")}"',
            f'"{SECRET}:username::"',
            f'"{SECRET}#1"',
            f'"{SECRET.replace("123456789012", "12345678901")}"',
            f'"{SECRET.replace("123456789012", "12345678901٢")}"',
            f'"{SECRET} "',
            f'" {SECRET}"',
            "5",
        ],
    ),
    "existing.secret_key_arn": (
        KEY_WORDS,
        [
            f'"{KEY}"',
            '"arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-1"',
            '"arn:aws-iso:kms:us-iso-west-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef"',
        ],
        [
            f'"{KEY.replace(":aws:", ":aws-cn:")}"',
            f'"{KEY.replace(":kms:", ":s3:")}"',
            f'"{KEY.replace("key/", "alias/")}"',
            f'"{KEY}/1"',
            f'" {KEY}"',
            '"alias/aws/secretsmanager"',
            "5",
        ],
    ),
    "existing.security_group_id": (
        GROUP_WORDS,
        ['"sg-12345678"', '"sg-1234567890abcdef0"'],
        ['"sg-1234567"', '"sg-1234567890abcdef01"', '" sg-12345678"', '"default"', "5"],
    ),
    "backup.central_account": (
        ACCOUNT_WORDS,
        ['"000000000000"', '"999999999999"'],
        ['"12345678901"', '"1234567890123"', "123456789012", '"central"'],
    ),
    "backup.own_plan": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "backup.own_plan_retention_days": (
        "a whole number of days, 1 to 36500",
        ["1", "36500"],
        ["0", "36501", "35.0", "true"],
    ),
    "backup.copy_to_vault_arn": (
        VAULT_WORDS,
        [
            f'"{VAULT}"',
            f'"{VAULT[:-7]}{"v" * 50}"',
            f'"{VAULT[:-7]}vv"',
            '"arn:aws:backup:eu-central-1:123456789012:backup-vault:registration-staging"',
            '"arn:aws:backup:eu-central-1:999999999999:backup-vault:registration-dev"',
            '"arn:aws:backup:ap-southeast-5:123456789012:backup-vault:registration-dev"',
        ],
        [
            f'" {VAULT}"',
            f'"{VAULT[:-7]}v"',
            f'"{VAULT[:-7]}{"v" * 51}"',
            f'"{VAULT.replace("999999999999", "9")}"',
            '"central"',
            "5",
        ],
    ),
    "backup.restore_test": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "backup.restore_test_min_registrations": (
        "a whole number, 0 to 1000000000",
        ["0", "1000000000"],
        ["-1", "1000000001", "1.5"],
    ),
    "application.reserved_concurrency": ("a whole number, 1 to 1000", ["1", "1000"], ["0", "1001", "50.0", '"50"']),
    "application.requests_per_second": ("a whole number, 1 to 10000", ["1", "10000"], ["0", "10001", "1.5", '"1"']),
    "application.connections": ("a whole number, 1 to 100", ["1", "100"], ["0", "101", "1.0", "true"]),
    "application.secret_source": (
        '"secrets-manager" or "extension"',
        ['"secrets-manager"', '"extension"'],
        ['"secrets_manager"', '"Extension"', '""', "true", "1"],
    ),
    "application.tls_groups": (
        GROUPS_WORDS,
        ['""', '"P-256"', '"P-256:X25519"', '"X448:X25519:P-521:P-384:P-256"'],
        [
            '":"',
            '"P-256:P-256"',
            '"p-256"',
            '"X25519MLKEM768"',
            '"P-256:"',
            '":P-256"',
            '"P-256::X25519"',
            '"P-256, X25519"',
            '" P-256"',
            '"P-256\\n"',
            '"é"',
            "256",
        ],
    ),
    "application.ssl_negotiation": (
        '"postgres" or "direct"',
        ['"postgres"', '"direct"'],
        ['"requiredirect"', '"Direct"', '""', "true"],
    ),
    "application.snap_start": (FLAG_WORDS, ["true", "false"], ["1", '"true"', '"PublishedVersions"']),
    "alarms.email": (
        "one mailbox, such as name@example.org",
        ['"a@b"', '"operators+db@example.org"'],
        ['"operators"', '"@example.org"', '"operators@"', '"a@b@c"', '"a @b"', '"a@b, c@d"', '""', "5"],
    ),
    "datadog.site": (
        "a Datadog site, such as datadoghq.eu",
        [
            '"datadoghq.com"',
            '"us3.datadoghq.com"',
            '"us5.datadoghq.com"',
            '"ap1.datadoghq.com"',
            '"ap2.datadoghq.com"',
            '"uk1.datadoghq.com"',
            '"ddog-gov.com"',
            '"us2.ddog-gov.com"',
        ],
        ['"xx1.datadoghq.com"', '"https://datadoghq.eu"', '"datadoghq.eu/"', '"datadog.eu"', '"eu"', "5"],
    ),
    "datadog.api_key_secret_arn": (ARN_WORDS, [f'"{SECRET}"'], ['"0123456789abcdef"', f'"{KEY}"', "5"]),
    "datadog.python_layer_version": (
        "the version of the Datadog-Python layer, 1 to 10000",
        ["1", "10000"],
        ["0", "10001", "120.0", '"120"'],
    ),
    "datadog.extension_layer_version": (
        "the version of the Datadog-Extension layer, 1 to 10000",
        ["1", "10000"],
        ["0", "10001", "90.0", '"90"'],
    ),
    "datadog.event_metrics": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "datadog.database_monitoring": (FLAG_WORDS, ["true", "false"], ["1", '"true"']),
    "provision_aurora": (FLAG_WORDS, ["true"], ['"yes"', "1", "[]"]),
}
_WITH_IAM: Mapping[str, str | None] = {
    **{key: value for key, value in IAM.items() if key.startswith("existing")},
    **dict.fromkeys(("existing.secret_arn", "existing.sslmode")),
}
NEEDED_KEYS: Mapping[str, Mapping[str, str | None]] = {
    # Keys that a key needs.
    "network.vpc_id": EXISTING_VPC,
    "network.subnet_ids": EXISTING_VPC,
    "network.secrets_endpoint_security_group_id": EXISTING_VPC,
    "network.availability_zones": {"network.nat_gateways": "0"},
    "network.nat_gateways": {"network.availability_zones": str([f"eu-central-1{letter}" for letter in "abcd"])},
    "aurora.auto_pause_seconds": PAUSE,
    "backup.copy_to_vault_arn": {"backup.own_plan": "true"},
    "backup.restore_test": {"backup.own_plan": "true"},
    "existing.user": _WITH_IAM,
    "existing.resource_id": _WITH_IAM,
    "existing.sslmode": {"existing.host": '"d.cluster-abc.eu-central-1.rds.amazonaws.com"'},
    "existing.ssl_root_cert": {"existing.sslmode": None},
    "application.reserved_concurrency": {"aurora.min_capacity": "1", "aurora.max_capacity": "8"},
    "application.connections": {"application.reserved_concurrency": "1"},
    "datadog": DATADOG,
}


def around(key: str) -> Mapping[str, str | None]:
    """Return an environment in which only *key* can be wrong."""
    base = EXISTING if key.startswith("existing") else CLUSTER
    return {**base, **NEEDED_KEYS.get(key, NEEDED_KEYS.get(key.partition(".")[0], {}))}


def _cases(column: int) -> list[Any]:
    return [
        pytest.param(key, value, id=f"{key}={value[:40]}") for key, entry in VALUES.items() for value in entry[column]
    ]


EXPECTED: Mapping[str, str] = {key: words for key, (words, _, _) in VALUES.items()}
ACCEPTED, REFUSED = _cases(1), _cases(2)
"""Parameters of tests: each key with each of its accepted, and each of its refused values."""
