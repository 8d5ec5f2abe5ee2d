"""Optional settings without which production lacks a protection."""

from collections.abc import Iterator

from registration_infra.config.environment import EnvironmentConfig


def production_gaps(config: EnvironmentConfig) -> tuple[str, ...]:
    """Return a message for each missing setting of production; other environments need none of them."""
    return tuple(_gaps(config)) if config.name == "prod" else ()


def _gaps(config: EnvironmentConfig) -> Iterator[str]:
    if config.provision_aurora:
        if config.alarms.email is None:
            yield "alarms.email is missing: nobody receives an alarm until someone subscribes to the topic"
        if config.backup.central_account is None and not _copies_to_another_account(config):
            yield (
                "backup.central_account is missing: no account outside of production can copy the backups, "
                "so they are lost together with the account"
            )
    if config.datadog is None:
        yield "datadog.site and datadog.api_key_secret_arn are missing: Datadog receives neither traces nor logs"


def _copies_to_another_account(config: EnvironmentConfig) -> bool:
    vault = config.backup.copy_to_vault_arn
    return vault is not None and vault.split(":")[4] != config.account
