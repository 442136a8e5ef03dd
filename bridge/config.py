"""The app's settings: read from the environment, checked all at once, secrets wrapped.

Importing this module reads nothing. `load` raises ConfigInvalid with every error; it never stops at the first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from bridge.errors import ConfigInvalid, FieldError
from bridge.model import FactoryId
from bridge.policy import DEFAULT_HOLD, Rules, TargetRules

T = TypeVar("T")


class Secret:
    """A text that shows itself to nobody: `repr` and `str` are `***`; `reveal` is for the edge that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, its default (None: it has to be set, or is only needed with another), what it means."""

    name: str
    summary: str
    default: str | None = None
    secret: bool = False


TARGET_PREFIX: Final = "BRIDGE_AIRFLOW__"

SETTINGS: Final = (
    Setting(
        "BRIDGE_FACTORIES", "`alias=ARM id` of each factory the bridge may touch, separated by `;`: the allow-list"
    ),
    Setting(
        "BRIDGE_STORE",
        "where waits and runs are kept: `table` (Azure Table Storage), `sqlite:///relative/path` or "
        "`sqlite:////absolute/path`",
    ),
    Setting(
        "BRIDGE_TABLES__tableServiceUri",
        "for `table`: `https://ACCOUNT.table.core.windows.net`; `http` on loopback only, for Azurite",
    ),
    Setting("BRIDGE_TABLES__tableName", "for `table`: the table; it is made if it is missing", "adfbridge"),
    Setting("BRIDGE_AIRFLOW__<TARGET>__URL", "base URL of the Airflow API server; `https`, or `http` on loopback"),
    Setting("BRIDGE_AIRFLOW__<TARGET>__API", "version of Airflow's REST API", "v2"),
    Setting("BRIDGE_AIRFLOW__<TARGET>__AUTH", "`password` (exchanged for a JWT), `bearer` or `basic`", "password"),
    Setting("BRIDGE_AIRFLOW__<TARGET>__USERNAME", "for `password` and `basic`"),
    Setting("BRIDGE_AIRFLOW__<TARGET>__PASSWORD", "for `password` and `basic`", secret=True),
    Setting("BRIDGE_AIRFLOW__<TARGET>__TOKEN", "for `bearer`", secret=True),
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__CALLER_SECRET",
        "callers that register waits of this target have to send it as `x-adf-bridge-caller-secret`",
        secret=True,
    ),
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__CALLER_APPS",
        "client ids of the Entra apps whose bearer tokens do as well as the secret, separated by `;` or `,`",
    ),
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__FACTORIES",
        "aliases of the factories that are for callers of this target, separated by `;` or `,`; without it, all are",
    ),
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__HOLD_SECONDS", "how long a task has to be parked before it is resumed (0 to 60)", "8"
    ),
    Setting("BRIDGE_AIRFLOW__<TARGET>__OBSERVE", "`true`: decide and record everything, send nothing", "false"),
    Setting("BRIDGE_ENTRA_TENANT", "for `CALLER_APPS`: the id of the Entra tenant whose tokens count"),
    Setting(
        "BRIDGE_ENTRA_AUDIENCE",
        "for `CALLER_APPS`: whom the tokens have to be made for: the bridge's own client id, its app id URI, or both, "
        "separated by `;` or `,`",
    ),
    Setting(
        "BRIDGE_ENTRA_AUTHORITY",
        "where Entra is; sovereign clouds have their own; `http` on loopback only",
        "https://login.microsoftonline.com",
    ),
    Setting("BRIDGE_ADF_ENDPOINT", "Azure Resource Manager; `http` on loopback only", "https://management.azure.com"),
    Setting("BRIDGE_ADF_TOKEN", "a fixed bearer token, for an endpoint on loopback only", secret=True),
    Setting("BRIDGE_SWEEP_SECONDS", "how often a factory with waits is asked which runs changed (10 to 3600)", "60"),
    Setting("BRIDGE_INLINE_SECONDS", "how long an event's invocation may begin attempts to deliver (0 to 25)", "12"),
    Setting(
        "BRIDGE_RETENTION_DAYS",
        "how long waits, runs, requests and events are kept when they are over (1 to 365)",
        "30",
    ),
    Setting(
        "BRIDGE_CORRELATION_PARAMETER",
        "the parameter in which a pipeline without a wrapper gets the request's key, if it declares that parameter",
        "bridge_key",
    ),
    Setting("BRIDGE_MAX_BODY_BYTES", "the largest request body that is read (1024 to 10485760)", "1048576"),
    Setting(
        "BRIDGE_TOPIC_ENDPOINT",
        "for the relay: the Event Grid topic, `https://….eventgrid.azure.net/api/events`; `http` on loopback only",
    ),
    Setting(
        "BRIDGE_TOPIC_KEY", "for the relay: an access key of the topic, instead of the managed identity", secret=True
    ),
    Setting(
        "BRIDGE_DIAGNOSTICS_HUB",
        "the event hub with the factories' diagnostic records; without it there is no function `relay`",
    ),
    Setting(
        "BRIDGE_DIAGNOSTICS__fullyQualifiedNamespace",
        "for the relay: the event hub's namespace, `NAME.servicebus.windows.net`",
    ),
    Setting(
        "BRIDGE_DIAGNOSTICS__credential",
        "for the relay: `managedidentity`, where the app's identity is a user-assigned one",
    ),
    Setting("BRIDGE_DIAGNOSTICS__clientId", "for the relay: the client id of that identity"),
)

# How the relay's trigger finds its event hub: the Functions host reads these settings by itself.
# https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs#identity-based-connections
HUB: Final = "BRIDGE_DIAGNOSTICS_HUB"
CONNECTION: Final = HUB.removesuffix("_HUB")  # what the others begin with

_DEFAULTS: Final = {setting.name: setting.default for setting in SETTINGS}
_TARGET_FIELDS: Final = frozenset(
    setting.name.rsplit("__", 1)[1] for setting in SETTINGS if setting.name.startswith(TARGET_PREFIX)
)
_TARGET_NAME: Final = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)*")
_TABLE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_PARAMETER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,259}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS: Final = 12
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach and sign in to one Airflow deployment."""

    name: str
    url: str
    auth: str
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    token: Secret = field(default_factory=lambda: Secret(""))
    caller_secret: Secret = field(default_factory=lambda: Secret(""))
    caller_apps: frozenset[str] = frozenset()  # client ids, in lower case

    def secrets(self) -> list[str]:
        """Return every secret of this target."""
        return [secret.reveal() for secret in (self.password, self.token, self.caller_secret) if secret]


@dataclass(frozen=True, slots=True)
class Tables:
    """Where Azure Table Storage is, and which table is the bridge's."""

    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class TopicAccess:
    """Where the Event Grid topic is, and the key for it; without one, the managed identity is used."""

    endpoint: str
    key: Secret


@dataclass(frozen=True, slots=True)
class EntraTrust:
    """Whose tokens count, and for whom they have to be made. `tenant` is an id in lower case."""

    tenant: str
    audiences: frozenset[str]
    authority: str

    @property
    def keys_url(self) -> str:
        """Where the tenant's signing keys are.

        https://learn.microsoft.com/entra/identity-platform/signing-key-rollover
        """
        return f"{self.authority}/{self.tenant}/discovery/v2.0/keys"


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, checked. Without a `topic` nothing can be published; without `entra` no token counts."""

    rules: Rules
    targets: Mapping[str, Target]
    store: str | Tables
    adf_endpoint: str
    adf_token: Secret
    max_body_bytes: int
    topic: TopicAccess | None = None
    entra: EntraTrust | None = None

    def secrets(self) -> list[str]:
        """Return every secret there is, so that the log can be kept clean of them."""
        of_targets = [secret for target in self.targets.values() for secret in target.secrets()]
        own = [self.adf_token, *([self.topic.key] if self.topic else [])]
        return of_targets + [secret.reveal() for secret in own if secret]


def load(environment: Mapping[str, str]) -> Config:
    """Check all settings; raise ConfigInvalid listing everything that is wrong."""
    reader = _Reader(environment)
    reader.refuse_unknown_names()
    factories = reader.read("BRIDGE_FACTORIES", _factories) or {}
    store = _read_store(reader)
    endpoint, adf_token = _read_adf(reader)
    sweep = reader.read("BRIDGE_SWEEP_SECONDS", _seconds(10, 3600))
    inline = reader.read("BRIDGE_INLINE_SECONDS", _seconds(0, 25))
    retention_days = reader.read("BRIDGE_RETENTION_DAYS", _whole(1, 365))
    correlation = reader.read("BRIDGE_CORRELATION_PARAMETER", _parameter_name)
    max_body_bytes = reader.read("BRIDGE_MAX_BODY_BYTES", _whole(1024, 10_485_760))
    topic = _read_relay(reader)
    read_targets = {name: _target(reader, name, factories) for name in reader.target_names()}
    entra = _read_entra(reader)
    if reader.errors or store is None or endpoint is None:
        raise ConfigInvalid(reader.errors)
    return Config(
        rules=Rules(
            factories=factories,
            targets={name: rules for name, (_, rules) in read_targets.items()},
            sweep=sweep or timedelta(),
            inline=inline or timedelta(),
            retention=timedelta(days=retention_days or 0),
            correlation=correlation or "",
        ),
        targets={name: target for name, (target, _) in read_targets.items()},
        store=store,
        adf_endpoint=endpoint,
        adf_token=adf_token,
        max_body_bytes=max_body_bytes or 0,
        topic=topic,
        entra=entra,
    )


def load_adf(environment: Mapping[str, str]) -> tuple[str, Secret]:
    """Check only how to reach ADF, for the command line: the endpoint, and the token; raise ConfigInvalid."""
    reader = _Reader(environment)
    endpoint, token = _read_adf(reader)
    if reader.errors or endpoint is None:
        raise ConfigInvalid(reader.errors)
    return endpoint, token


def _read_adf(reader: _Reader) -> tuple[str | None, Secret]:
    endpoint = reader.read("BRIDGE_ADF_ENDPOINT", _url)
    token = reader.secret("BRIDGE_ADF_TOKEN", in_header=True)
    if token and endpoint is not None and not is_loopback(endpoint):
        reader.wrong("BRIDGE_ADF_TOKEN", "is for an endpoint on loopback; on Azure the managed identity is used")
    return endpoint, token


def relay_hub(environment: Mapping[str, str]) -> str:
    """Return the event hub that the relay reads, or '' where there is none; whatever the other settings are."""
    return environment.get(HUB, "").strip()


def _read_relay(reader: _Reader) -> TopicAccess | None:
    """Check the relay's settings; all of them may be left out, and with the hub the others are needed."""
    key = reader.secret("BRIDGE_TOPIC_KEY", in_header=True)
    if reader.text(HUB):
        for name in ("BRIDGE_TOPIC_ENDPOINT", f"{CONNECTION}__fullyQualifiedNamespace"):
            if not reader.text(name):
                reader.wrong(name, f"has to be set for the relay ({HUB})")
    credential, client_id = (reader.text(f"{CONNECTION}__{name}") for name in ("credential", "clientId"))
    if credential and credential.lower() != "managedidentity":
        reader.wrong(f"{CONNECTION}__credential", "has to be managedidentity")
    if bool(credential) != bool(client_id):
        reader.wrong(f"{CONNECTION}__{'clientId' if credential else 'credential'}", "has to be set with the other one")
    if not reader.text("BRIDGE_TOPIC_ENDPOINT"):
        return None
    endpoint = reader.read("BRIDGE_TOPIC_ENDPOINT", _topic)
    if endpoint is not None and endpoint.startswith("http:") and not key:
        reader.wrong("BRIDGE_TOPIC_KEY", "has to be set for an http endpoint: a token is not sent in the clear")
    return TopicAccess(endpoint, key) if endpoint is not None else None


def _read_entra(reader: _Reader) -> EntraTrust | None:
    """Check the settings for tokens of Entra; they are needed as soon as a target names an app, and only then."""
    asking = [name for name in reader.target_names() if reader.text(f"{TARGET_PREFIX}{name.upper()}__CALLER_APPS")]
    for name in ("BRIDGE_ENTRA_TENANT", "BRIDGE_ENTRA_AUDIENCE"):
        if asking and not reader.text(name):
            reader.wrong(name, f"has to be set for {TARGET_PREFIX}{asking[0].upper()}__CALLER_APPS")
    tenant = reader.some("BRIDGE_ENTRA_TENANT", _guid)
    audiences = reader.some("BRIDGE_ENTRA_AUDIENCE", str)
    authority = reader.read("BRIDGE_ENTRA_AUTHORITY", _origin)
    if len(tenant) > 1:
        reader.wrong("BRIDGE_ENTRA_TENANT", "names several tenants: a bridge has one")
    return EntraTrust(min(tenant), audiences, authority) if asking and tenant and audiences and authority else None


def _read_store(reader: _Reader) -> str | Tables | None:
    store = reader.read("BRIDGE_STORE", _store)
    name = reader.read("BRIDGE_TABLES__tableName", _table)
    if store != "table":
        return store
    uri = reader.read("BRIDGE_TABLES__tableServiceUri", _url)
    return Tables(uri, name) if uri is not None and name is not None else None


def _target(reader: _Reader, name: str, factories: Mapping[str, FactoryId]) -> tuple[Target, TargetRules]:
    prefix = f"{TARGET_PREFIX}{name.upper()}__"
    url = reader.read(prefix + "URL", _url)
    reader.read(prefix + "API", _one_of("v2"))
    auth = reader.read(prefix + "AUTH", _one_of("password", "bearer", "basic"))
    needs = {"password": ("USERNAME", "PASSWORD"), "basic": ("USERNAME", "PASSWORD"), "bearer": ("TOKEN",)}
    for suffix in needs.get(auth or "", ()):
        if not reader.text(prefix + suffix):
            reader.wrong(prefix + suffix, f"has to be set for AUTH={auth}")
    hold = reader.read(prefix + "HOLD_SECONDS", _seconds(0, 60))
    observe = reader.read(prefix + "OBSERVE", _truth)
    target = Target(
        name=name,
        url=url or "",
        auth=auth or "",
        username=reader.text(prefix + "USERNAME"),
        password=reader.secret(prefix + "PASSWORD"),
        token=reader.secret(prefix + "TOKEN", in_header=True),
        caller_secret=reader.secret(prefix + "CALLER_SECRET"),
        caller_apps=reader.some(prefix + "CALLER_APPS", _guid),
    )
    rules = TargetRules(
        hold=DEFAULT_HOLD if hold is None else hold,
        observe=bool(observe),
        factories=reader.some(prefix + "FACTORIES", _known(factories)) if factories else frozenset(),
    )
    return target, rules


class _Reader:
    """Reads settings and collects what is wrong with them. No message holds a value of a secret."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {name: value for name, value in environment.items() if name.startswith("BRIDGE_")}
        self.errors: list[FieldError] = []

    def wrong(self, name: str, message: str) -> None:
        self.errors.append(FieldError(name, message))

    def text(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def secret(self, name: str, *, in_header: bool = False) -> Secret:
        """Read a secret; one that goes into a header as it is has to be printable ASCII."""
        text = self.text(name)
        if not text.isprintable():
            self.wrong(name, "holds a line break or another control character: pasted with its wrapping?")
        elif in_header and not text.isascii():
            self.wrong(name, "has to be ASCII: it is sent in a header")
        return Secret(text)

    def read(self, name: str, convert: Callable[[str], T]) -> T | None:
        text = self.text(name) or (_DEFAULTS[_general(name)] or "")
        if not text:
            self.wrong(name, "has to be set")
            return None
        try:
            return convert(text)
        except ValueError as error:
            self.wrong(name, str(error))
            return None

    def some(self, name: str, convert: Callable[[str], T]) -> frozenset[T]:
        """Read a list that may be left out. One that is there and names nothing would leave a door open."""
        if not self.text(name):
            return frozenset()
        found = self.read(name, lambda text: frozenset(convert(word) for word in _words(text)))
        return found or frozenset()

    def target_names(self) -> list[str]:
        names = {_split(name)[0] for name in self._environment if name.startswith(TARGET_PREFIX)}
        return sorted(name.lower() for name in names if _TARGET_NAME.fullmatch(name))

    def refuse_unknown_names(self) -> None:
        """A misspelt name would be an option silently left off, which for a secret is a door left open."""
        for name in sorted(self._environment):
            if not name.startswith(TARGET_PREFIX):
                if name not in _DEFAULTS:
                    self.wrong(name, "is no setting of the bridge: misspelt?")
                continue
            target, suffix = _split(name)
            if not _TARGET_NAME.fullmatch(target):
                self.wrong(name, "a target's name has upper-case letters, digits and single underscores")
            elif suffix not in _TARGET_FIELDS:
                self.wrong(name, f"a target has no setting {suffix!r}; it has {', '.join(sorted(_TARGET_FIELDS))}")


def _split(name: str) -> tuple[str, str]:
    target, _, suffix = name.removeprefix(TARGET_PREFIX).rpartition("__")
    return target, suffix


def _general(name: str) -> str:
    return f"{TARGET_PREFIX}<TARGET>__{_split(name)[1]}" if name.startswith(TARGET_PREFIX) else name


def _factories(text: str) -> dict[str, FactoryId]:
    factories: dict[str, FactoryId] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        alias, equals, arm_id = (part.strip() for part in entry.partition("="))
        if not equals or not _ALIAS.fullmatch(alias):
            raise ValueError(f"{entry!r} is not of the form alias=ARM id")
        if alias.lower() in factories:
            raise ValueError(f"the alias {alias!r} stands there twice")
        try:
            factories[alias.lower()] = FactoryId.parse(arm_id)
        except ValueError as error:
            raise ValueError(f"{alias!r} is {error}") from None
    if not factories:
        raise ValueError("names no factory")
    return factories


def _known(factories: Mapping[str, FactoryId]) -> Callable[[str], FactoryId]:
    def convert(text: str) -> FactoryId:
        if text.lower() not in factories:
            raise ValueError(f"{text!r} is no alias of BRIDGE_FACTORIES")
        return factories[text.lower()]

    return convert


def _words(text: str) -> list[str]:
    words = [word for part in re.split("[;,]", text) if (word := part.strip())]
    if not words:
        raise ValueError("names nothing")
    return words


def _guid(text: str) -> str:
    if not _GUID.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is no id of the form 00000000-0000-0000-0000-000000000000")
    return text.lower()


def _store(text: str) -> str:
    if text == "table":
        return text
    if not text.startswith("sqlite:///") or text == "sqlite:///":
        raise ValueError("has to be table or sqlite:///path")
    return text


def _table(text: str) -> str:
    # https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#table-names
    if not _TABLE_NAME.fullmatch(text):
        raise ValueError("has to be 3 to 63 letters and digits, a letter first")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("has to be an https URL")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is none") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("has to be a plain URL: no user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(text):
        raise ValueError("has to be https: http is for loopback only")
    return text.rstrip("/")


def _origin(text: str) -> str:
    url = _url(text)
    if urlsplit(url).path:
        raise ValueError("has to be a host alone: the tenant has a setting of its own")
    return url


def _topic(text: str) -> str:
    url = _url(text)
    if not url.endswith("/api/events"):
        raise ValueError("has to be the topic's endpoint, which ends in /api/events")
    return url


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _one_of(*words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"has to be {' or '.join(words)}")
        return text.lower()

    return convert


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("has to be true or false")
    return _TRUTH[text.lower()]


def _parameter_name(text: str) -> str:
    if _PARAMETER_NAME.fullmatch(text) is None:
        raise ValueError("has to be the name of a pipeline's parameter: letters, digits and underscores")
    return text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and low <= int(text) <= high):
            raise ValueError(f"has to be a whole number from {low} to {high}")
        return int(text)

    return convert


def _seconds(low: int, high: int) -> Callable[[str], timedelta]:
    def convert(text: str) -> timedelta:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not low <= seconds <= high:
            raise ValueError(f"has to be a number of seconds from {low} to {high}")
        return timedelta(seconds=seconds)

    return convert
