"""The logins that `bootstrap` creates, and the rules for their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from registration_persistence.database import Credentials
from registration_persistence.schema.grants import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

GROUP_ROLES = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)
"""The roles without login that own the objects or have privileges on them."""

# A rotation appends this to the name of the other user if two users alternate.
_CLONE_SUFFIX = "_clone"

# PostgreSQL truncates names after 63 bytes.
_MAX_NAME_LENGTH = 63 - len(_CLONE_SUFFIX)

_PLAIN_NAME = re.compile(rf"[a-z_][a-z0-9_]{{0,{_MAX_NAME_LENGTH - 1}}}")

_RESERVED_NAME = re.compile(r"(pg_|rds).*|public|none|postgres|registration_(owner|rw|monitoring)(_clone)?")


@dataclass(frozen=True, slots=True)
class Logins:
    """The logins of the service and of the monitoring.

    Args:
        application: The login of the service, `NAME` or `NAME_clone`.
        monitoring: The login of the monitoring, or `None`.
    """

    application: Credentials
    monitoring: Credentials | None

    @property
    def base(self) -> str:
        """The service's user name without the suffix of the clone."""
        return self.application.username.removesuffix(_CLONE_SUFFIX)

    @property
    def alternate(self) -> str:
        """The other login of an alternating rotation."""
        current = self.application.username
        return self.base if current != self.base else current + _CLONE_SUFFIX

    @property
    def group_of(self) -> dict[str, str]:
        """The group role of each login."""
        groups = dict.fromkeys((self.application.username, self.alternate), READ_WRITE_ROLE)
        return groups | ({self.monitoring.username: MONITORING_ROLE} if self.monitoring else {})

    @property
    def names(self) -> list[str]:
        """The user names: the service's, its alternate's, and the monitoring's, if there is one."""
        return [self.application.username, self.alternate, *([self.monitoring.username] if self.monitoring else [])]

    @property
    def roles(self) -> list[str]:
        """The group roles and the logins."""
        return [*GROUP_ROLES, *self.names]

    @property
    def credentials(self) -> list[Credentials]:
        """The credentials that are known; the alternate has none here."""
        return [self.application, *([self.monitoring] if self.monitoring else [])]


def name_problems(logins: Logins, admin_name: str) -> Iterator[str]:
    """Yield one sentence for each reason why the names cannot be used.

    Args:
        logins: The logins that are to be created.
        admin_name: The user name of the cluster's own login.
    """
    names = {"application": logins.base}
    if logins.monitoring:
        names["monitoring"] = logins.monitoring.username
    for secret, name in names.items():
        if not _PLAIN_NAME.fullmatch(name) or _RESERVED_NAME.fullmatch(name):
            yield (
                f"the user name in the {secret} secret cannot be used: expected lower-case letters, digits and _, "
                f"at most {_MAX_NAME_LENGTH} characters, and no name of PostgreSQL, RDS or this package"
            )
    if len({*logins.names, admin_name}) < len(logins.names) + 1:
        yield "two of the secrets have the same user name: expected one each for cluster, application and monitoring"
