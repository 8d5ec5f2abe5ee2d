"""The announcements of AWS about the support of RDS, sent to the alarm topic."""

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct


class SupportEvents(Construct):
    """A rule for the events of AWS Health about RDS: ends of support, and maintenance that AWS plans.

    AWS does not upgrade minor versions by itself here, so nothing else would tell that a version must be replaced.

    Args:
        scope: The parent construct.
        construct_id: The id within *scope*.
        topic: The alarm topic.
        role: The role with which EventBridge publishes to *topic*.
    """

    def __init__(self, scope: Construct, construct_id: str, *, topic: sns.ITopic, role: iam.IRole) -> None:
        super().__init__(scope, construct_id)
        rule = events.Rule(
            self,
            "Rule",
            description="AWS plans a change of RDS, or ends a support: read docs/runbooks/upgrade-postgresql.md",
            event_pattern=events.EventPattern(
                source=["aws.health"],
                detail_type=["AWS Health Event"],
                detail={"service": ["RDS"], "eventTypeCategory": ["accountNotification", "scheduledChange"]},
            ),
        )
        rule.add_target(targets.SnsTopic(topic, role=role))
