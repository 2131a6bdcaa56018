"""Changes settings of a topic of usage, as nobody should."""

from collections.abc import Mapping

from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tollbook.stack_file import Stack


def set_topic(stack: Stack, topic: str, settings: Mapping[str, str | None]) -> None:
    """Change settings of a topic; None is the broker's own setting."""
    # The client has to live until the answer is there.
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    entries = [
        ConfigEntry(
            name,
            value,
            incremental_operation=(
                AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            ),
        )
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(20)
