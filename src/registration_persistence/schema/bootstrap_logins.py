"""The logins that `bootstrap` creates, and the rules for their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from registration_persistence.database import Credentials
from registration_persistence.schema.grants import MONITORING_ROLE, OWNER_ROLE, READ_WRITE_ROLE

GROUP_ROLES = (OWNER_ROLE, READ_WRITE_ROLE, MONITORING_ROLE)
"""The roles without login that own the objects or have privileges on them."""

IAM_ROLE = "rds_iam"
"""The role of RDS whose members log in with tokens of IAM, and with nothing else."""

# A rotation appends this to the name of the other user if two users alternate.
_CLONE_SUFFIX = "_clone"

MAX_NAME_LENGTH = 63 - len(_CLONE_SUFFIX)
"""The longest user name without the suffix of the clone; PostgreSQL truncates names after 63 bytes."""

_PLAIN_NAME = re.compile(rf"[a-z_][a-z0-9_]{{0,{MAX_NAME_LENGTH - 1}}}")

_RESERVED_NAME = re.compile(r"(pg_|rds).*|public|none|postgres|registration_(owner|rw|monitoring)(_clone)?")


@dataclass(frozen=True, slots=True)
class Logins:
    """The logins of the service and of the monitoring.

    Args:
        application: The login of the service, `NAME` or `NAME_clone`; a name alone logs in with IAM.
        monitoring: The login of the monitoring, or `None`.
    """

    application: Credentials | str
    monitoring: Credentials | None

    @property
    def uses_iam(self) -> bool:
        """Whether the service logs in with IAM."""
        return isinstance(self.application, str)

    @property
    def service(self) -> str:
        """The service's user name."""
        return self.application if isinstance(self.application, str) else self.application.username

    @property
    def base(self) -> str:
        """The service's user name without the suffix of the clone, which a login with IAM does not have."""
        return self.service if self.uses_iam else self.service.removesuffix(_CLONE_SUFFIX)

    @property
    def alternate(self) -> str | None:
        """The other login of an alternating rotation; `None` with IAM, where nothing rotates."""
        if self.uses_iam:
            return None
        return self.base if self.service != self.base else self.service + _CLONE_SUFFIX

    @property
    def group_of(self) -> dict[str, str]:
        """The group role of each login."""
        groups = dict.fromkeys((self.service, *([self.alternate] if self.alternate else [])), READ_WRITE_ROLE)
        return groups | ({self.monitoring.username: MONITORING_ROLE} if self.monitoring else {})

    @property
    def names(self) -> list[str]:
        """The user names: the service's, its alternate's and the monitoring's, if there are any."""
        return list(self.group_of)

    def may_be_member(self, login: str, role: str) -> bool:
        """Return whether *login* is to be a member of *role*."""
        return role == self.group_of[login] or (role == IAM_ROLE and self.uses_iam and login == self.service)

    @property
    def roles(self) -> list[str]:
        """The group roles and the logins."""
        return [*GROUP_ROLES, *self.names]

    @property
    def credentials(self) -> list[Credentials]:
        """The credentials that are known; the alternate and a login with IAM have none here."""
        return [each for each in (self.application, self.monitoring) if isinstance(each, Credentials)]


def name_problems(logins: Logins, admin_name: str) -> Iterator[str]:
    """Yield one sentence for each reason why the names cannot be used.

    Args:
        logins: The logins that are to be created.
        admin_name: The user name of the cluster's own login.
    """
    names = {"for IAM" if logins.uses_iam else "in the application secret": logins.base}
    if logins.monitoring:
        names["in the monitoring secret"] = logins.monitoring.username
    for place, name in names.items():
        if not _PLAIN_NAME.fullmatch(name) or _RESERVED_NAME.fullmatch(name):
            yield (
                f"the user name {place} cannot be used: expected lower-case letters, digits and _, "
                f"at most {MAX_NAME_LENGTH} characters, and no name of PostgreSQL, RDS or this package"
            )
    used = [logins.service, logins.alternate, logins.monitoring and logins.monitoring.username, admin_name]
    used = [name for name in used if name]
    if len(set(used)) < len(used):
        yield "two of the secrets have the same user name: expected one each for cluster, application and monitoring"
