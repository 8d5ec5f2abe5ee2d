"""`EnvironmentConfig`: one environment, checked as a whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo

from registration_infra.config.alarms import AlarmsConfig
from registration_infra.config.application import ApplicationConfig
from registration_infra.config.aurora import AuroraConfig
from registration_infra.config.backup import BackupConfig
from registration_infra.config.database_kind import database_problems, provisions_aurora, without_other_database
from registration_infra.config.datadog import DatadogConfig
from registration_infra.config.errors import InfraConfigError
from registration_infra.config.existing import ExistingDatabase
from registration_infra.config.field_problems import Location, by_table, field_problems, invalid_keys, misspelled_keys
from registration_infra.config.key_types import REGION_PATTERN, AccountId
from registration_infra.config.network import NetworkConfig
from registration_infra.config.partitions import has_hosts_in_amazonaws_com
from registration_infra.config.rules import rule_problems
from registration_infra.config.table import Expected, Table
from registration_infra.config.valid_values import valid_values

EnvironmentName = Literal["dev", "staging", "prod"]
ENVIRONMENTS: Final[tuple[EnvironmentName, ...]] = get_args(EnvironmentName)

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
_LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)


def _in_amazonaws_com(region: str) -> str:
    if not has_hosts_in_amazonaws_com(region):
        raise ValueError("its service principals and host names are different")
    return region


def _log_retention(days: int) -> int:
    if days not in _LOG_RETENTION_DAYS:
        raise ValueError("not accepted by CloudWatch Logs")
    return days


_Region = Annotated[
    str,
    Field(pattern=f"^{REGION_PATTERN}$"),
    AfterValidator(_in_amazonaws_com),
    Expected("an AWS region whose host names end in amazonaws.com, such as eu-central-1"),
]
_Repository = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*/[A-Za-z0-9_-][A-Za-z0-9._-]*$"),
    Expected("OWNER/NAME, as GitHub writes them"),
]
_LogRetention = Annotated[
    int,
    AfterValidator(_log_retention),
    Expected(f"a number of days that CloudWatch Logs takes: {', '.join(map(str, _LOG_RETENTION_DAYS))}"),
]


class EnvironmentConfig(Table):
    """One environment.

    Raises:
        InfraConfigError: The environment is wrong. The error lists every problem.
    """

    name: EnvironmentName
    provision_aurora: bool = Field(
        description="Whether a cluster is provisioned. If false, `[existing]` names a database."
    )
    account: AccountId = Field(description="The AWS account.")
    region: _Region = Field(description="The AWS region.")
    log_retention_days: _LogRetention = Field(default=90, description="The retention period of all logs.")
    github_repository: _Repository | None = Field(
        default=None,
        description="The GitHub repository whose workflows may deploy the environment. "
        "If it is missing, `make prepare-account` creates no role for workflows.",
    )
    network: NetworkConfig | None = None
    aurora: AuroraConfig | None = None
    existing: ExistingDatabase | None = None
    backup: BackupConfig = BackupConfig()
    application: ApplicationConfig = ApplicationConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    datadog: DatadogConfig | None = None

    @property
    def deletes_all_data(self) -> bool:
        """Whether data, keys and logs are deleted together with the stack."""
        return self.aurora is not None and self.aurora.removal == "destroy"

    @property
    def prefix(self) -> str:
        """The prefix of the names of the environment's resources."""
        return f"registration-{self.name}"

    @property
    def path(self) -> str:
        """The prefix of the names of its secrets; with a slash before it, that of its parameters."""
        return f"registration/{self.name}"

    @classmethod
    def file_keys(cls) -> Mapping[str, FieldInfo]:
        """Return the fields that a file may set, by key; the name of the environment is the name of the file."""
        return {key: field for key, field in cls.model_fields.items() if key != "name"}

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_problems(cls, values: Any, validate_fields: ModelWrapValidatorHandler[Self]) -> Self:
        # The rules across keys are checked even if single keys are invalid, so that one error lists everything.
        if not isinstance(values, Mapping | cls):
            return validate_fields(values)
        given = dict(values)
        made, invalid, relevant = None, dict[Location, str](), without_other_database(given)
        try:
            made = validate_fields(relevant)
        except ValidationError as error:
            invalid = invalid_keys(cls, error)
        meant = set(misspelled_keys(cls, invalid).values())
        valid = {**valid_values(cls, relevant, {*invalid, *meant}), "provision_aurora": provisions_aurora(given)}
        missing = database_problems(given, {key for key, *rest in meant if not rest})
        problems = by_table([*field_problems(cls, given, invalid), *missing, *rule_problems(valid)])
        if made is None or problems:
            raise InfraConfigError(f"the environment {given.get('name')}", problems)
        return made
