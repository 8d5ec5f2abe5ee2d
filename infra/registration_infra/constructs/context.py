"""The objects that most constructs of the database stack need."""

from dataclasses import dataclass

from aws_cdk import aws_kms as kms

from registration_infra.config import AuroraConfig, EnvironmentConfig
from registration_infra.constructs.network import Network


@dataclass(frozen=True, slots=True)
class DatabaseContext:
    """The environment, the encryption key and the network of the database.

    Attributes:
        config: The environment.
        key: The key that encrypts all data at rest.
        network: The network of the database.
    """

    config: EnvironmentConfig
    key: kms.IKey
    network: Network

    @property
    def aurora(self) -> AuroraConfig:
        """The configuration of the cluster."""
        assert self.config.aurora is not None
        return self.config.aurora
