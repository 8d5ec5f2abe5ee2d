"""Delivering the messages of the outbox, each at least once."""

from registration_persistence.outbox_worker.worker import OutboxWorker

__all__ = ["OutboxWorker"]
