"""Rules across the keys of [backup], and between them and the keys of the environment."""

from collections.abc import Iterator

from registration_infra.config.toml_text import toml_text
from registration_infra.config.valid_values import Values


def backup_problems(environment: Values) -> Iterator[str]:
    """Yield the problems of the backups, for the valid values of an environment."""
    backup, account = environment.get("backup", {}), environment.get("account")
    central_account, vault = backup.get("central_account"), backup.get("copy_to_vault_arn")
    if central_account is not None and central_account == account:
        yield (
            f"backup.central_account is {toml_text(central_account)}: expected another account, "
            "because a copy in this account is lost together with it"
        )
    if backup.get("restore_test") is True and backup.get("own_plan") is False:
        yield (
            "backup.restore_test is true: expected only if backup.own_plan is true, "
            "because it restores from the vault of that plan"
        )
    if vault is None:
        return
    if backup.get("own_plan") is False:
        yield "backup.copy_to_vault_arn is set: expected only if backup.own_plan is true"
    elif vault.split(":", 3)[3] == _own_vault(environment):
        yield (
            f"backup.copy_to_vault_arn is {toml_text(vault)}: expected another vault, "
            "because it is the vault that backup.own_plan writes to"
        )


def _own_vault(environment: Values) -> str:
    """Return the end of the ARN of the vault of `backup.own_plan`, from the region on."""
    region, account, name = (environment.get(key) for key in ("region", "account", "name"))
    return f"{region}:{account}:backup-vault:registration-{name}"
