"""A strict CloudFormation in moto, with shims for the resource types that moto lacks or gets wrong.

Each shim calls the API of the service in moto, so botocore rejects unknown values, and tests can query the services for
the result. Before that, the properties of every resource must match CloudFormation's schema of its type, because moto
ignores unknown properties.
"""

import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import boto3
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from jsonschema import Draft7Validator
from moto import mock_aws
from moto.cloudformation import parsing

ACCOUNT = "123456789012"  # the default of moto
REGION = "eu-central-1"
# The parameter that `cdk bootstrap` creates; a rule in the templates checks this version.
_BOOTSTRAP = ("/cdk-bootstrap/hnb659fds/version", "30")
_DYNAMIC_REFERENCE = re.compile(r"\{\{resolve:secretsmanager:(?P<arn>arn:[^}]+?):SecretString:(?P<key>\w+)::\}\}")
_Properties = dict[str, Any]


class ResourceRejected(Exception):
    """A resource that CloudFormation would reject, or that cannot be simulated."""


class Resource:
    """A created resource, in the form that moto's CloudFormation needs.

    Args:
        identifier: The value of `Ref`.
        attributes: The values of `Fn::GetAtt`, if a template uses it.
    """

    def __init__(self, identifier: str, attributes: Mapping[str, str | int] | None = None) -> None:
        self.physical_resource_id = identifier
        self._attributes = attributes or {}

    def get_cfn_attribute(self, name: str) -> str | int:
        """Return an attribute for moto."""
        return self._attributes[name]

    def is_created(self) -> bool:
        """Return that the resource is complete, for moto."""
        return True


class _Shim:
    """The model of a resource type, in the form that moto needs."""

    def __init__(self, make: Callable[[_Properties, str], Resource]) -> None:
        self._make = make

    def has_cfn_attr(self, _name: str) -> bool:
        """Return that the resource itself may know the attribute."""
        return True

    def create_from_cloudformation_json(
        self, name: str, resource: Mapping[str, Any], _account: str, _region: str, **_of_moto: str
    ) -> Resource:
        """Create the resource; *name* is a generated name."""
        return self._make(dict(resource["Properties"]), name)


_SHIMS: dict[str, _Shim] = {}


def _shim(kind: str) -> Callable[[Callable[[_Properties, str], Resource]], Callable[[_Properties, str], Resource]]:
    def register(make: Callable[[_Properties, str], Resource]) -> Callable[[_Properties, str], Resource]:
        _SHIMS[f"AWS::{kind}"] = _Shim(make)
        return make

    return register


@cache
def client(service: str) -> Any:
    """Return a client of the simulated AWS."""
    return boto3.client(service, region_name=REGION)


@contextmanager
def simulated_aws() -> Iterator[None]:
    """Simulate an account after `cdk bootstrap`, with a strict CloudFormation."""
    handler = _WarningsAsErrors(logging.WARNING)
    moto_logger = logging.getLogger("moto")
    with (
        mock_aws(),
        patch.object(parsing, "resource_class_from_type", _class_of),
        patch.object(parsing, "parse_resource_and_generate_name", _checked(parsing)),
    ):
        moto_logger.addHandler(handler)
        try:
            client("ssm").put_parameter(Name=_BOOTSTRAP[0], Value=_BOOTSTRAP[1], Type="String")
            client("s3").create_bucket(
                Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}",
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )
            yield
        finally:
            moto_logger.removeHandler(handler)


def deploy(name: str, template: Mapping[str, Any]) -> list[dict[str, str]]:
    """Create a stack, check that it has all its resources, and return its outputs as CloudFormation describes them.

    Raises:
        ResourceRejected: A resource has a type that cannot be simulated, or properties that its type does not have.
    """
    _publish_assets(template)
    cloudformation = client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    created = {
        each["LogicalResourceId"]
        for each in cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    }
    if missing := template["Resources"].keys() - created:
        raise ResourceRejected(f"not created: {', '.join(sorted(missing))}")
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack["StackStatus"]
    outputs: list[dict[str, str]] = stack.get("Outputs", [])
    return outputs


class _WarningsAsErrors(logging.Handler):
    """Turns warnings of moto into errors, for example about an unknown attribute."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ResourceRejected(record.getMessage())


def _class_of(kind: str) -> Any:
    found = _SHIMS.get(kind) or parsing.get_model_map().get(kind)
    if found is None:  # moto would only warn
        raise ResourceRejected(f"{kind}: neither moto nor a shim can create it")
    return found


def _checked(module: Any) -> Callable[..., Any]:
    original = module.parse_resource_and_generate_name

    def parse(logical_id: str, *args: Any) -> Any:
        resource_class, resource, name = original(logical_id, *args)
        found = _schema_of(resource["Type"]).iter_errors(resource["Properties"])
        if problems := [f"{problem.json_path}: {problem.message}" for problem in found]:
            raise ResourceRejected(f"{logical_id}, {resource['Type']}: {'; '.join(problems)}")
        return resource_class, resource, name

    return parse


@cache
def _schema_of(kind: str) -> Any:
    return Draft7Validator(_without_patterns(PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema))


def _without_patterns(schema: Any) -> Any:
    """Remove regular expressions, whose dialect Python does not support; cfn-lint checks them."""
    if isinstance(schema, list):
        return [_without_patterns(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    removed = {"patternProperties", "additionalProperties"} if "patternProperties" in schema else set()
    if isinstance(schema.get("pattern"), str):  # the keyword, not a property of that name
        removed.add("pattern")
    return {key: _without_patterns(value) for key, value in schema.items() if key not in removed}


def _publish_assets(template: Mapping[str, Any]) -> None:
    """Upload an empty archive for each asset of a function or a layer."""
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        code = properties.get("Code") or properties.get("Content")
        if resource["Type"].startswith("AWS::Lambda::") and code:
            client("s3").put_object(Bucket=code["S3Bucket"], Key=code["S3Key"], Body=archive.getvalue())


def _renamed(properties: _Properties, **names: str) -> _Properties:
    """Return the properties with *names* replaced by the names that the API uses."""
    return {names.get(name, name): value for name, value in properties.items()}


def _tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _secret_of(arn: str) -> dict[str, Any]:
    value = json.loads(client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    assert isinstance(value, dict)
    return value


def _resolved(value: str) -> str:
    """Return the value of a dynamic reference to a key of a secret, or *value* itself."""
    match = _DYNAMIC_REFERENCE.fullmatch(value)
    return value if match is None else str(_secret_of(match["arn"])[match["key"]])


@_shim("KMS::Key")  # moto has it, but confuses the tags of CloudFormation with those of the API: KeyError 'TagKey'
def _key(properties: _Properties, _name: str) -> Resource:
    kms = client("kms")
    rotates = properties.pop("EnableKeyRotation", False)
    properties["KeyPolicy"] = json.dumps(properties["KeyPolicy"])
    properties["Tags"] = [{"TagKey": key, "TagValue": value} for key, value in _tags(properties["Tags"]).items()]
    created = kms.create_key(**_renamed(properties, KeyPolicy="Policy"))["KeyMetadata"]
    if rotates:
        kms.enable_key_rotation(KeyId=created["KeyId"])
    return Resource(created["KeyId"], {"Arn": created["Arn"], "KeyId": created["KeyId"]})


@_shim("EC2::SecurityGroupEgress")
def _egress(properties: _Properties, name: str) -> Resource:
    pair = {"GroupId": properties.pop("DestinationSecurityGroupId"), "Description": properties.pop("Description")}
    group = properties.pop("GroupId")
    client("ec2").authorize_security_group_egress(
        GroupId=group, IpPermissions=[{**properties, "UserIdGroupPairs": [pair]}]
    )
    return Resource(name)


@_shim("SecretsManager::Secret")
def _secret(properties: _Properties, _name: str) -> Resource:
    secrets = client("secretsmanager")
    generated = properties.pop("GenerateSecretString")
    template, key = generated.pop("SecretStringTemplate", None), generated.pop("GenerateStringKey", None)
    value = secrets.get_random_password(**generated)["RandomPassword"]
    if template is not None:
        value = json.dumps(json.loads(template) | {key: value})
    arn = secrets.create_secret(**properties, SecretString=value)["ARN"]
    return Resource(arn, {"Id": arn})


@_shim("SecretsManager::SecretTargetAttachment")
def _attachment(properties: _Properties, _name: str) -> Resource:
    assert properties["TargetType"] == "AWS::RDS::DBCluster"
    (cluster,) = client("rds").describe_db_clusters(DBClusterIdentifier=properties["TargetId"])["DBClusters"]
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
    address = {
        "engine": "postgres",
        "host": cluster["Endpoint"],
        "port": cluster["Port"],
        "dbname": cluster["DatabaseName"],
        "dbClusterIdentifier": cluster["DBClusterIdentifier"],
    }
    arn = properties["SecretId"]
    client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(_secret_of(arn) | address))
    return Resource(arn, {"Id": arn})


@_shim("SecretsManager::RotationSchedule")
def _rotation(properties: _Properties, _name: str) -> Resource:
    arn, function = properties["SecretId"], properties.pop("RotationLambdaARN")
    # The function is not simulated, because moto would invoke it; it must exist and be open to Secrets Manager.
    assert "secretsmanager.amazonaws.com" in client("lambda").get_policy(FunctionName=function)["Policy"]
    value = json.dumps(_secret_of(arn))
    secrets = client("secretsmanager")
    secrets.rotate_secret(**_renamed(properties, RotateImmediatelyOnUpdate="RotateImmediately"))
    # Without a function, moto makes the first value current again, which has no address.
    secrets.put_secret_value(SecretId=arn, SecretString=value)
    return Resource(arn, {"Id": arn})


@_shim("SecretsManager::ResourcePolicy")
def _secret_policy(properties: _Properties, _name: str) -> Resource:
    properties["ResourcePolicy"] = json.dumps(properties["ResourcePolicy"])
    client("secretsmanager").put_resource_policy(**properties)
    return Resource(properties["SecretId"])


@_shim("RDS::DBSubnetGroup")  # moto has it, but `Ref` returns the object instead of its name
def _subnet_group(properties: _Properties, _name: str) -> Resource:
    created = client("rds").create_db_subnet_group(**properties)["DBSubnetGroup"]
    return Resource(created["DBSubnetGroupName"])


@_shim("RDS::DBClusterParameterGroup")
def _parameter_group(properties: _Properties, _name: str) -> Resource:
    rds, name = client("rds"), properties["DBClusterParameterGroupName"]
    parameters = properties.pop("Parameters")
    rds.create_db_cluster_parameter_group(**_renamed(properties, Family="DBParameterGroupFamily"))
    rds.modify_db_cluster_parameter_group(
        DBClusterParameterGroupName=name,
        Parameters=[
            {"ParameterName": key, "ParameterValue": value, "ApplyMethod": "pending-reboot"}
            for key, value in parameters.items()
        ],
    )
    return Resource(name)


@_shim("RDS::DBCluster")
def _cluster(properties: _Properties, _name: str) -> Resource:
    for key in ("MasterUsername", "MasterUserPassword"):
        properties[key] = _resolved(properties[key])
    # The API takes this only when the cluster is deleted.
    properties.pop("DeleteAutomatedBackups", None)
    created = client("rds").create_db_cluster(**properties)["DBCluster"]
    # The port is a string in CloudFormation, which converts it to a number if needed; moto does not.
    attributes = {"Endpoint.Address": created["Endpoint"], "Endpoint.Port": created["Port"]}
    return Resource(created["DBClusterIdentifier"], attributes)


@_shim("RDS::DBInstance")  # moto has it, but not for Aurora: KeyError 'aurora-postgresql'
def _instance(properties: _Properties, _name: str) -> Resource:
    created = client("rds").create_db_instance(**properties)["DBInstance"]
    return Resource(created["DBInstanceIdentifier"])


@_shim("RDS::DBProxy")
def _proxy(properties: _Properties, _name: str) -> Resource:
    for each in properties["Auth"]:
        _secret_of(each["SecretArn"])
    created = client("rds").create_db_proxy(**properties)["DBProxy"]
    return Resource(created["DBProxyName"], {"Endpoint": created["Endpoint"], "DBProxyArn": created["DBProxyArn"]})


@_shim("RDS::DBProxyTargetGroup")
def _proxy_targets(properties: _Properties, name: str) -> Resource:
    del properties["ConnectionPoolConfigurationInfo"]  # moto has no pool; the schema has been checked
    client("rds").register_db_proxy_targets(**properties)
    return Resource(name)


@_shim("RDS::EventSubscription")
def _event_subscription(properties: _Properties, name: str) -> Resource:
    properties.setdefault("SubscriptionName", name)
    created = client("rds").create_event_subscription(**properties)["EventSubscription"]
    return Resource(created["CustSubscriptionId"])


@_shim("SSM::Parameter")  # moto has it, but expects a list of tags instead of a mapping: TypeError
def _parameter(properties: _Properties, _name: str) -> Resource:
    properties["Tags"] = [{"Key": key, "Value": value} for key, value in properties["Tags"].items()]
    client("ssm").put_parameter(**properties)
    return Resource(properties["Name"], {"Type": properties["Type"], "Value": properties["Value"]})


@_shim("CloudWatch::Alarm")
def _alarm(properties: _Properties, _name: str) -> Resource:
    client("cloudwatch").put_metric_alarm(**properties)
    return Resource(properties["AlarmName"])


@_shim("SNS::TopicPolicy")
def _topic_policy(properties: _Properties, name: str) -> Resource:
    policy = json.dumps(properties["PolicyDocument"])
    for topic in properties["Topics"]:
        client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    return Resource(name)


@_shim("Lambda::LayerVersion")  # moto has it, but ignores the architectures
def _layer(properties: _Properties, name: str) -> Resource:
    properties.setdefault("LayerName", name[:64])
    return Resource(client("lambda").publish_layer_version(**properties)["LayerVersionArn"])


@_shim("Lambda::Function")  # moto has it, but ignores layers, architecture, logging and tags
def _function(properties: _Properties, _name: str) -> Resource:
    functions, name = client("lambda"), properties["FunctionName"]
    reserved = properties.pop("ReservedConcurrentExecutions", None)
    properties["Tags"] = _tags(properties["Tags"])
    # Layers of other accounts are not simulated.
    properties["Layers"] = [layer for layer in properties["Layers"] if f":{ACCOUNT}:" in layer]
    arn = functions.create_function(**properties)["FunctionArn"]
    if reserved is not None:
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return Resource(name, {"Arn": arn})


@_shim("ApiGatewayV2::Api")
def _http_api(properties: _Properties, _name: str) -> Resource:
    created = client("apigatewayv2").create_api(**properties)
    return Resource(created["ApiId"], {"ApiEndpoint": created["ApiEndpoint"]})


@_shim("ApiGatewayV2::Integration")
def _integration(properties: _Properties, _name: str) -> Resource:
    return Resource(client("apigatewayv2").create_integration(**properties)["IntegrationId"])


@_shim("ApiGatewayV2::Route")
def _route(properties: _Properties, _name: str) -> Resource:
    return Resource(client("apigatewayv2").create_route(**properties)["RouteId"])


@_shim("ApiGatewayV2::Stage")
def _stage(properties: _Properties, _name: str) -> Resource:
    client("apigatewayv2").create_stage(**properties)
    return Resource(properties["StageName"])
