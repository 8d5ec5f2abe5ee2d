"""CloudFormation in moto, for tests alone: strict, and with the resource types that moto lacks or has wrong.

Each shim calls the API of the service, which moto has: so botocore refuses what the API does not know, and the test can
ask the services what has been made. Before that, the properties of every resource, moto's own too, must be what
CloudFormation's schema of its type allows, for moto ignores what it does not know.
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

ACCOUNT = "123456789012"  # moto's own
REGION = "eu-central-1"
# What `cdk bootstrap` leaves in an account, for the templates' rule that asks which version it was.
_BOOTSTRAP = ("/cdk-bootstrap/hnb659fds/version", "30")
_DYNAMIC_REFERENCE = re.compile(r"\{\{resolve:secretsmanager:(?P<arn>arn:[^}]+?):SecretString:(?P<key>\w+)::\}\}")
_Properties = dict[str, Any]


class Refused(Exception):
    """A resource that CloudFormation would refuse, or that nobody here can make."""


class Made:
    """A resource as moto's CloudFormation looks at it.

    Args:
        identifier: What `Ref` gives.
        attributes: What `Fn::GetAtt` gives, where a template asks for it.
    """

    def __init__(self, identifier: str, attributes: Mapping[str, str | int] | None = None) -> None:
        self.physical_resource_id = identifier
        self._attributes = attributes or {}

    def get_cfn_attribute(self, name: str) -> str | int:
        """Return an attribute for moto."""
        return self._attributes[name]

    def is_created(self) -> bool:
        """Tell moto that there is nothing to wait for."""
        return True


class _Shim:
    """What moto takes for the model of a type."""

    def __init__(self, make: Callable[[_Properties, str], Made]) -> None:
        self._make = make

    def has_cfn_attr(self, _name: str) -> bool:
        """Let moto ask the resource, which knows."""
        return True

    def create_from_cloudformation_json(
        self, name: str, resource: Mapping[str, Any], _account: str, _region: str, **_of_moto: str
    ) -> Made:
        """Make the resource; *name* is one that CloudFormation would make up."""
        return self._make(dict(resource["Properties"]), name)


_SHIMS: dict[str, _Shim] = {}


def _shim(kind: str) -> Callable[[Callable[[_Properties, str], Made]], Callable[[_Properties, str], Made]]:
    def register(make: Callable[[_Properties, str], Made]) -> Callable[[_Properties, str], Made]:
        _SHIMS[f"AWS::{kind}"] = _Shim(make)
        return make

    return register


@cache
def client(service: str) -> Any:
    """Return a client of the simulated AWS."""
    return boto3.client(service, region_name=REGION)


@contextmanager
def simulated_aws() -> Iterator[None]:
    """Simulate an account in which `cdk bootstrap` has been run, with a CloudFormation that is strict."""
    refusing = _RefuseWarnings(logging.WARNING)
    moto_logger = logging.getLogger("moto")
    with (
        mock_aws(),
        patch.object(parsing, "resource_class_from_type", _class_of),
        patch.object(parsing, "parse_resource_and_generate_name", _checked(parsing)),
    ):
        moto_logger.addHandler(refusing)
        try:
            client("ssm").put_parameter(Name=_BOOTSTRAP[0], Value=_BOOTSTRAP[1], Type="String")
            client("s3").create_bucket(
                Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}",
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )
            yield
        finally:
            moto_logger.removeHandler(refusing)


def deploy(name: str, template: Mapping[str, Any]) -> list[dict[str, str]]:
    """Create a stack, all of it, and return its outputs as CloudFormation describes them.

    Raises:
        Refused: A resource of a type that nothing here can make, or with properties that its type does not have.
    """
    _publish_assets(template)
    cloudformation = client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    made = {
        each["LogicalResourceId"]
        for each in cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    }
    if missing := template["Resources"].keys() - made:
        raise Refused(f"not made: {', '.join(sorted(missing))}")
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack["StackStatus"]
    outputs: list[dict[str, str]] = stack.get("Outputs", [])
    return outputs


class _RefuseWarnings(logging.Handler):
    """Makes what moto only warns about an error, such as an attribute that it does not know."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Refused(record.getMessage())


def _class_of(kind: str) -> Any:
    found = _SHIMS.get(kind) or parsing.get_model_map().get(kind)
    if found is None:  # moto would warn and go on
        raise Refused(f"{kind}: neither moto nor a shim can make it")
    return found


def _checked(module: Any) -> Callable[..., Any]:
    original = module.parse_resource_and_generate_name

    def parse(logical_id: str, *args: Any) -> Any:
        resource_class, resource, name = original(logical_id, *args)
        found = _schema_of(resource["Type"]).iter_errors(resource["Properties"])
        if problems := [f"{problem.json_path}: {problem.message}" for problem in found]:
            raise Refused(f"{logical_id}, {resource['Type']}: {'; '.join(problems)}")
        return resource_class, resource, name

    return parse


@cache
def _schema_of(kind: str) -> Any:
    return Draft7Validator(_without_patterns(PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema))


def _without_patterns(schema: Any) -> Any:
    """Leave out regular expressions, which are of a dialect that Python does not understand; cfn-lint looks at them."""
    if isinstance(schema, list):
        return [_without_patterns(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"patternProperties", "additionalProperties"} if "patternProperties" in schema else set()
    if isinstance(schema.get("pattern"), str):  # a keyword, and not a property of that name
        left_out.add("pattern")
    return {key: _without_patterns(value) for key, value in schema.items() if key not in left_out}


def _publish_assets(template: Mapping[str, Any]) -> None:
    """Put an empty archive wherever the template expects the code of a function or a layer."""
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        code = properties.get("Code") or properties.get("Content")
        if resource["Type"].startswith("AWS::Lambda::") and code:
            client("s3").put_object(Bucket=code["S3Bucket"], Key=code["S3Key"], Body=archive.getvalue())


def _renamed(properties: _Properties, **names: str) -> _Properties:
    """Return the properties under the names that the API gives them; the others keep theirs."""
    return {names.get(name, name): value for name, value in properties.items()}


def _tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _secret_of(arn: str) -> dict[str, Any]:
    value = json.loads(client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    assert isinstance(value, dict)
    return value


def _resolved(value: str) -> str:
    """Return what a dynamic reference to a key of a secret stands for."""
    match = _DYNAMIC_REFERENCE.fullmatch(value)
    return value if match is None else str(_secret_of(match["arn"])[match["key"]])


@_shim("KMS::Key")  # moto has it, but takes the tags of CloudFormation for those of the API: KeyError 'TagKey'
def _key(properties: _Properties, _name: str) -> Made:
    kms = client("kms")
    rotates = properties.pop("EnableKeyRotation", False)
    properties["KeyPolicy"] = json.dumps(properties["KeyPolicy"])
    properties["Tags"] = [{"TagKey": key, "TagValue": value} for key, value in _tags(properties["Tags"]).items()]
    made = kms.create_key(**_renamed(properties, KeyPolicy="Policy"))["KeyMetadata"]
    if rotates:
        kms.enable_key_rotation(KeyId=made["KeyId"])
    return Made(made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]})


@_shim("EC2::SecurityGroupEgress")
def _egress(properties: _Properties, name: str) -> Made:
    pair = {"GroupId": properties.pop("DestinationSecurityGroupId"), "Description": properties.pop("Description")}
    group = properties.pop("GroupId")
    client("ec2").authorize_security_group_egress(
        GroupId=group, IpPermissions=[{**properties, "UserIdGroupPairs": [pair]}]
    )
    return Made(name)


@_shim("SecretsManager::Secret")
def _secret(properties: _Properties, _name: str) -> Made:
    secrets = client("secretsmanager")
    generated = properties.pop("GenerateSecretString")
    value = json.loads(generated.pop("SecretStringTemplate"))
    key = generated.pop("GenerateStringKey")
    value[key] = secrets.get_random_password(**generated)["RandomPassword"]
    arn = secrets.create_secret(**properties, SecretString=json.dumps(value))["ARN"]
    return Made(arn, {"Id": arn})


@_shim("SecretsManager::SecretTargetAttachment")
def _attachment(properties: _Properties, _name: str) -> Made:
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
    return Made(arn, {"Id": arn})


@_shim("SecretsManager::RotationSchedule")
def _rotation(properties: _Properties, _name: str) -> Made:
    hosted = properties.pop("HostedRotationLambda")  # the function is AWS's own, and is not simulated
    if "MasterSecretArn" in hosted:
        _secret_of(hosted["MasterSecretArn"])
    arn = properties["SecretId"]
    value = json.dumps(_secret_of(arn))
    secrets = client("secretsmanager")
    secrets.rotate_secret(**_renamed(properties, RotateImmediatelyOnUpdate="RotateImmediately"))
    # Without a function, moto makes the first value current again, which has no address yet.
    secrets.put_secret_value(SecretId=arn, SecretString=value)
    return Made(arn, {"Id": arn})


@_shim("SecretsManager::ResourcePolicy")
def _secret_policy(properties: _Properties, _name: str) -> Made:
    properties["ResourcePolicy"] = json.dumps(properties["ResourcePolicy"])
    client("secretsmanager").put_resource_policy(**properties)
    return Made(properties["SecretId"])


@_shim("RDS::DBSubnetGroup")  # moto has it, but `Ref` gives the object in place of its name
def _subnet_group(properties: _Properties, _name: str) -> Made:
    made = client("rds").create_db_subnet_group(**properties)["DBSubnetGroup"]
    return Made(made["DBSubnetGroupName"])


@_shim("RDS::DBClusterParameterGroup")
def _parameter_group(properties: _Properties, _name: str) -> Made:
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
    return Made(name)


@_shim("RDS::DBCluster")
def _cluster(properties: _Properties, _name: str) -> Made:
    for key in ("MasterUsername", "MasterUserPassword"):
        properties[key] = _resolved(properties[key])
    # Only what happens when the cluster is deleted; the API takes it then.
    properties.pop("DeleteAutomatedBackups", None)
    made = client("rds").create_db_cluster(**properties)["DBCluster"]
    # The port is text in CloudFormation, which makes a number of it where one is expected; moto does not.
    attributes = {"Endpoint.Address": made["Endpoint"], "Endpoint.Port": made["Port"]}
    return Made(made["DBClusterIdentifier"], attributes)


@_shim("RDS::DBInstance")  # moto has it, but not for Aurora: KeyError 'aurora-postgresql'
def _instance(properties: _Properties, _name: str) -> Made:
    made = client("rds").create_db_instance(**properties)["DBInstance"]
    return Made(made["DBInstanceIdentifier"])


@_shim("RDS::DBProxy")
def _proxy(properties: _Properties, _name: str) -> Made:
    for each in properties["Auth"]:
        _secret_of(each["SecretArn"])
    made = client("rds").create_db_proxy(**properties)["DBProxy"]
    return Made(made["DBProxyName"], {"Endpoint": made["Endpoint"], "DBProxyArn": made["DBProxyArn"]})


@_shim("RDS::DBProxyTargetGroup")
def _proxy_targets(properties: _Properties, name: str) -> Made:
    del properties["ConnectionPoolConfigurationInfo"]  # moto keeps no pool; the schema of the type has checked it
    client("rds").register_db_proxy_targets(**properties)
    return Made(name)


@_shim("RDS::EventSubscription")
def _event_subscription(properties: _Properties, name: str) -> Made:
    properties.setdefault("SubscriptionName", name)
    made = client("rds").create_event_subscription(**properties)["EventSubscription"]
    return Made(made["CustSubscriptionId"])


@_shim("SSM::Parameter")  # moto has it, but takes the tags, here a mapping, for a list: TypeError
def _parameter(properties: _Properties, _name: str) -> Made:
    properties["Tags"] = [{"Key": key, "Value": value} for key, value in properties["Tags"].items()]
    client("ssm").put_parameter(**properties)
    return Made(properties["Name"], {"Type": properties["Type"], "Value": properties["Value"]})


@_shim("CloudWatch::Alarm")
def _alarm(properties: _Properties, _name: str) -> Made:
    client("cloudwatch").put_metric_alarm(**properties)
    return Made(properties["AlarmName"])


@_shim("SNS::TopicPolicy")
def _topic_policy(properties: _Properties, name: str) -> Made:
    policy = json.dumps(properties["PolicyDocument"])
    for topic in properties["Topics"]:
        client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    return Made(name)


@_shim("Lambda::LayerVersion")  # moto has it, but leaves out the architectures
def _layer(properties: _Properties, name: str) -> Made:
    properties.setdefault("LayerName", name[:64])
    return Made(client("lambda").publish_layer_version(**properties)["LayerVersionArn"])


@_shim("Lambda::Function")  # moto has it, but leaves out layers, architecture, logging and tags
def _function(properties: _Properties, _name: str) -> Made:
    functions, name = client("lambda"), properties["FunctionName"]
    reserved = properties.pop("ReservedConcurrentExecutions", None)
    properties["Tags"] = _tags(properties["Tags"])
    # Layers of other accounts are not simulated.
    properties["Layers"] = [layer for layer in properties["Layers"] if f":{ACCOUNT}:" in layer]
    arn = functions.create_function(**properties)["FunctionArn"]
    if reserved is not None:
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return Made(name, {"Arn": arn})
