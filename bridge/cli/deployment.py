"""Puts wrappers into a data factory, through azure-mgmt-datafactory: read first, written only where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from bridge.cli.comparison import essence
from bridge.cli.wrapper import is_ours
from bridge.config import Secret
from bridge.model import FactoryId

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.datafactory import DataFactoryManagementClient

_OPTIONS: Final[dict[str, Any]] = {
    "retry_total": 3,  # reading and putting may both be repeated
    "permit_redirects": False,
    "connection_timeout": 10,
    "read_timeout": 60,
}
_OF_ONE_PIPELINE: Final = (400, 409, 412, 413)
_WORDS_SHOWN: Final = 500


class NotDeployedError(Exception):
    """A wrapper is not in the factory as it has to be. `final`: nor would any other be."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


class Deployment:
    """A data factory that gets wrappers."""

    def __init__(self, factory: FactoryId, *, endpoint: str, token: Secret) -> None:
        self._factory = factory
        self._client = _client(factory.subscription_id, endpoint, token)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def put(self, name: str, properties: Mapping[str, Any]) -> str:
        """See to it that a wrapper stands in the factory; return what was done: created, updated, unchanged.

        Raises NotDeployedError. https://learn.microsoft.com/rest/api/datafactory/pipelines/create-or-update
        """
        from azure.core.exceptions import AzureError, HttpResponseError  # noqa: PLC0415 - slow to import
        from azure.mgmt.datafactory.models import PipelineResource  # noqa: PLC0415 - slow to import

        try:
            standing = self._read(name)
            if standing is not None and not is_ours(standing):
                raise NotDeployedError(
                    f"the factory has a pipeline {name} that was not generated here (no label adf-bridge): "
                    "it is left alone. Rename or delete it",
                    final=False,
                )
            if standing is not None and _essence(standing) == _essence(properties):
                return "unchanged"
            self._client.pipelines.create_or_update(
                resource_group_name=self._factory.resource_group,
                factory_name=self._factory.name,
                pipeline_name=name,
                pipeline=PipelineResource({"properties": dict(properties)}),
                **_OPTIONS,
            )
        except HttpResponseError as error:
            raise NotDeployedError(_refusal(error), final=error.status_code not in _OF_ONE_PIPELINE) from None
        except AzureError as error:
            raise NotDeployedError(f"Data Factory could not be asked ({type(error).__name__})", final=True) from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise NotDeployedError("the answer is none of Data Factory's: is the endpoint right?", final=True) from None
        return "created" if standing is None else "updated"

    def _read(self, name: str) -> dict[str, Any] | None:
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - slow to import

        try:
            found = self._client.pipelines.get(
                resource_group_name=self._factory.resource_group,
                factory_name=self._factory.name,
                pipeline_name=name,
                **_OPTIONS,
            )
        except ResourceNotFoundError:
            return None
        return dict(found.as_dict()["properties"]) if found is not None else None


def _client(subscription_id: str, endpoint: str, token: Secret) -> DataFactoryManagementClient:
    from azure.mgmt.datafactory import DataFactoryManagementClient  # noqa: PLC0415 - slow to import

    from bridge.adapters.credentials import FixedToken, azure_credential  # noqa: PLC0415 - slow to import

    if token:
        return DataFactoryManagementClient(
            azure_credential(), subscription_id, base_url=endpoint, authentication_policy=FixedToken(token)
        )
    return DataFactoryManagementClient(
        azure_credential(), subscription_id, base_url=endpoint, credential_scopes=[f"{endpoint}/.default"]
    )


def _essence(properties: Mapping[str, Any]) -> str:
    return essence({"properties": properties})


def _refusal(error: HttpResponseError) -> str:
    if error.status_code is None:
        return "no token could be had: sign in with `az login`, or see that the machine has an identity"
    words = f" {error.error.code}: {error.error.message}" if error.error is not None else ""
    return f"Data Factory answered {error.status_code}{words}"[:_WORDS_SHOWN]
