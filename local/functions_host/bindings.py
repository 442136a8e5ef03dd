"""What a function declares: its trigger and its other bindings."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.functions_host.retry_policy import RetryPolicy

_SETTING = re.compile(r"%([^%]+)%")


class BindingError(Exception):
    """A function's declaration cannot be served. The message says which and why."""


@dataclass(frozen=True)
class Function:
    """An indexed function. `trigger` is its trigger's binding with app settings filled in; `bindings` are
    as declared; without a `retry` policy a failure is final.
    """

    name: str
    id: str
    bindings: tuple[Mapping[str, Any], ...]
    trigger: Mapping[str, Any]
    retry: RetryPolicy | None = None

    @property
    def trigger_type(self) -> str:
        """The trigger's type, such as `httpTrigger`."""
        return str(self.trigger["type"])

    @property
    def trigger_parameter(self) -> str:
        """The name of the parameter that takes what triggered the function."""
        return str(self.trigger["name"])


def parse_function(
    name: str,
    function_id: str,
    raw_bindings: list[str],
    settings: Mapping[str, str] | None = None,
    retry: RetryPolicy | None = None,
) -> Function:
    """Read a function from the JSON of its bindings; `%NAME%` stands for an app setting (an environment
    variable).

    Raises BindingError for a setting that is missing. See
    https://learn.microsoft.com/azure/azure-functions/functions-bindings-expressions-patterns#binding-expressions---app-settings
    """
    bindings = tuple(json.loads(raw) for raw in raw_bindings)
    trigger = next((binding for binding in bindings if str(binding.get("type", "")).lower().endswith("trigger")), None)
    if trigger is None:
        raise BindingError(f"the function {name} has no trigger")
    known = os.environ if settings is None else settings
    filled = {key: _fill(name, value, known) for key, value in trigger.items()}
    return Function(name=name, id=function_id, bindings=bindings, trigger=filled, retry=retry)


def _fill(function: str, value: object, settings: Mapping[str, str]) -> object:
    """Put app settings in the place of their names."""
    if not isinstance(value, str):
        return value

    def setting(match: re.Match[str]) -> str:
        try:
            return settings[match[1]]
        except KeyError:
            raise BindingError(
                f"the function {function} uses %{match[1]}%, but there is no app setting {match[1]}"
            ) from None

    return _SETTING.sub(setting, value)
