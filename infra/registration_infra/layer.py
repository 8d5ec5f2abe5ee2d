"""The code of the functions: their handlers, and one layer with the package and all that it needs."""

from pathlib import Path

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from registration_infra.config import InfraConfigError

INFRA = Path(__file__).parents[1]
LAYER = INFRA / "build" / "layer"
# The newest that the package is tested on.
RUNTIME = lambda_.Runtime.PYTHON_3_13
ARCHITECTURE = lambda_.Architecture.ARM_64


def package_layer(scope: Construct, construct_id: str, *, built: bool) -> lambda_.LayerVersion:
    """Return the layer that `make infra-build` made.

    Args:
        scope: What it belongs to.
        construct_id: Its name there.
        built: Whether it must be there; otherwise a stand-in will do, for a template that is only looked at.

    Raises:
        InfraConfigError: It has not been built.
    """
    folder = LAYER
    if not built:
        folder = INFRA / "migrate_function"
    elif not (LAYER / "python" / "registration_persistence").is_dir():
        raise InfraConfigError("the layer infra/build/layer", ["it is not there: run make infra-build first"])
    return lambda_.LayerVersion(
        scope,
        construct_id,
        code=lambda_.Code.from_asset(str(folder)),
        compatible_runtimes=[RUNTIME],
        compatible_architectures=[ARCHITECTURE],
        description="registration_persistence and what it needs",
    )
