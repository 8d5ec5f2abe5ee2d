"""SnapStart: functions that start from a snapshot of their initialised process."""

from collections.abc import Iterator
from typing import Final

from aws_cdk import Token
from aws_cdk import aws_lambda as lambda_

from registration_infra.config import InfraConfigError

ALIAS: Final = "live"
"""The name of the alias that callers invoke; it leads to the newest version."""

_MAX_STORAGE_MIB: Final = 512


def start_from_snapshot(function: lambda_.Function, *, deployed_values: str | None) -> lambda_.Alias:
    """Let *function* start from a snapshot, and return the alias that callers must invoke.

    Lambda takes snapshots of published versions only, so the alias leads to a version that is replaced with each
    change of the function. `snap_start` of `lambda_.Function` does not publish a version, and warns about that.

    Args:
        function: The function.
        deployed_values: A text of at most 256 characters that contains the values that the configuration of *function*
            takes from parameters. Otherwise a change of these values would not publish a version, because the template
            stays the same. `None` if there are no such values.

    Raises:
        InfraConfigError: Lambda cannot take snapshots of this function. The error lists every reason.
    """
    resource = function.node.default_child
    assert isinstance(resource, lambda_.CfnFunction)
    version = function.current_version.node.default_child
    assert isinstance(version, lambda_.CfnVersion)
    if problems := [*_problems(function, resource, version)]:
        raise InfraConfigError(f"the function {function.node.path}", problems)
    # The property of `Function` adds a warning, with which `cdk synth --strict` fails.
    resource.snap_start = lambda_.CfnFunction.SnapStartProperty(apply_on="PublishedVersions")
    # CloudFormation replaces a version if its description changes.
    version.description = deployed_values
    return function.add_alias(ALIAS)


def _problems(function: lambda_.Function, resource: lambda_.CfnFunction, version: lambda_.CfnVersion) -> Iterator[str]:
    end = "if application.snap_start is true"
    if resource.package_type == "Image":
        yield f"its code is a container image with an unknown Python version: expected a ZIP archive {end}"
    elif not function.runtime.supports_snap_start:
        yield f"its runtime is {function.runtime.name}: expected python3.12 or later {end}"
    if resource.file_system_configs is not None:
        yield f"it has a file system (EFS): expected none {end}"
    storage = resource.ephemeral_storage
    if isinstance(storage, lambda_.CfnFunction.EphemeralStorageProperty) and _exceeds(storage.size):
        yield f"its ephemeral storage is {storage.size:g} MiB: expected {_MAX_STORAGE_MIB} or less {end}"
    if version.provisioned_concurrency_config is not None:
        yield f"its version has provisioned concurrency: expected none {end}"


def _exceeds(size: float) -> bool:
    return not Token.is_unresolved(size) and size > _MAX_STORAGE_MIB
