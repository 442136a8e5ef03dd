"""What Airflow's provider manager asks of this package: its connection type, hook, operators and links."""

from __future__ import annotations

from typing import Any


def _text(label: str, description: str, *, secret: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if secret:
        schema["format"] = "password"
    return {"label": label, "description": description, "schema": schema}


def get_provider_info() -> dict[str, Any]:
    """Describe this provider, in the form of Airflow's provider_info.schema.json.

    The connection's fields are declared here, without Flask or WTForms. Airflow before 3.2 does not know such fields
    and shows the plain form: there they go into Extra, under the same names.
    """
    return {
        "package-name": "airflow-provider-adf-bridge",
        "name": "ADF bridge",
        "description": "Waits for Azure Data Factory runs without polling.",
        "connection-types": [
            {
                "connection-type": "adf_bridge",
                "hook-class-name": "airflow_adf_bridge.hooks.AdfBridgeHook",
                "hook-name": "ADF bridge",
                "ui-field-behaviour": {
                    "hidden-fields": ["login"],
                    "relabeling": {
                        "host": "Bridge URL or host",
                        "schema": "Scheme (https; http only on this machine)",
                        "password": "Function key",
                    },
                    "placeholders": {"host": "https://my-bridge.azurewebsites.net", "schema": "https"},
                },
                "conn-fields": {
                    "target": _text("Target", "This Airflow's name on the bridge."),
                    "factory": _text("Default factory", "An alias that the bridge knows, or a factory's ARM id."),
                    "subscription_id": _text(
                        "Subscription id", "For tasks that name a resource group and a factory, as with Airflow's own."
                    ),
                    "resource_group_name": _text("Resource group", "For tasks that name a factory without its group."),
                    "caller_secret": _text(
                        "Caller secret", "Only if the bridge asks a secret of this target.", secret=True
                    ),
                    "entra_scope": _text(
                        "Entra scope",
                        "Only if the bridge asks for a token of Entra: api://…/.default. Needs azure-identity.",
                    ),
                    "mode": _text("Mode", "How tasks wait: auto (as this Airflow can), resume or queue."),
                    "servicebus_namespace": _text(
                        "Service Bus namespace", "Mode queue: my-namespace.servicebus.windows.net, as this machine."
                    ),
                    "servicebus_connection_string": _text(
                        "Service Bus connection string", "Mode queue, in place of the namespace.", secret=True
                    ),
                    "completions_queue": _text(
                        "Completions queue", "Mode queue: the queue's name, if it is not adf-bridge-completions."
                    ),
                },
            }
        ],
        "extra-links": ["airflow_adf_bridge.links.AdfBridgeRunLink"],
    }
