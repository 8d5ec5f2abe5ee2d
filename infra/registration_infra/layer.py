"""The Lambda layer that contains the package and its dependencies."""

from pathlib import Path

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from registration_infra.config import InfraConfigError

INFRA = Path(__file__).parents[1]
MIGRATE_FUNCTION = INFRA / "migrate_function"
ROTATE_FUNCTION = INFRA / "rotate_function"
LAYER = INFRA / "build" / "layer"
# The newest Python version that the package is tested on.
RUNTIME = lambda_.Runtime.PYTHON_3_13
ARCHITECTURE = lambda_.Architecture.ARM_64


def package_layer(scope: Construct, construct_id: str, *, require_layer: bool) -> lambda_.LayerVersion:
    """Return the layer that `make infra-build` has built.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        require_layer: Whether the layer must have been built. If `False`, a placeholder takes its place, which is
            enough for a template that is never deployed.

    Raises:
        InfraConfigError: The layer is required and has not been built.
    """
    folder = LAYER if require_layer else MIGRATE_FUNCTION
    if require_layer and not (LAYER / "python" / "registration_persistence").is_dir():
        raise InfraConfigError("the layer infra/build/layer", ["it does not exist: run make infra-build first"])
    return lambda_.LayerVersion(
        scope,
        construct_id,
        code=lambda_.Code.from_asset(str(folder)),
        compatible_runtimes=[RUNTIME],
        compatible_architectures=[ARCHITECTURE],
        description="registration_persistence and its dependencies",
    )
