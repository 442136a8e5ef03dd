"""The app's settings: read from the environment, checked all at once, secrets wrapped.

Importing this module reads nothing. `load` raises ConfigInvalid with every error; it never stops at the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

from bridge import setting_values as values
from bridge.errors import ConfigInvalid, FieldError
from bridge.model import FactoryId, Mode
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
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__URL",
        "for mode `resume`: base URL of the Airflow API server; `https`, or `http` on loopback",
    ),
    Setting(
        "BRIDGE_AIRFLOW__<TARGET>__QUEUE",
        "for mode `queue`: the Service Bus queue, with sessions, that the completions for its tasks go to",
    ),
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
    Setting(
        "BRIDGE_SERVICEBUS",
        "for queues: the connection string of the Service Bus namespace, where no identity is used",
        secret=True,
    ),
    Setting(
        "BRIDGE_SERVICEBUS__fullyQualifiedNamespace",
        "for queues: the Service Bus namespace, `NAME.servicebus.windows.net`",
    ),
    Setting(
        "BRIDGE_SERVICEBUS__credential",
        "for queues: `managedidentity`, where the app's identity is a user-assigned one",
    ),
    Setting("BRIDGE_SERVICEBUS__clientId", "for queues: the client id of that identity"),
    Setting(
        "BRIDGE_REQUESTS_QUEUE",
        "the queue that trigger requests come by; without it there is no function `run_request`",
    ),
    Setting(
        "BRIDGE_EVENTS_QUEUE",
        "the queue that Event Grid puts run events into; without it there is no function `run_event_queued`",
    ),
)

# How the relay's trigger finds its event hub: the Functions host reads these settings by itself.
# https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs#identity-based-connections
HUB: Final = "BRIDGE_DIAGNOSTICS_HUB"
CONNECTION: Final = HUB.removesuffix("_HUB")  # what the others begin with
# The same for queues; the bridge itself sends to those of the targets.
# https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#identity-based-connections
BUS: Final = "BRIDGE_SERVICEBUS"
REQUESTS: Final = "BRIDGE_REQUESTS_QUEUE"
EVENTS: Final = "BRIDGE_EVENTS_QUEUE"

_DEFAULTS: Final = {setting.name: setting.default for setting in SETTINGS}
_TARGET_FIELDS: Final = frozenset(
    setting.name.rsplit("__", 1)[1] for setting in SETTINGS if setting.name.startswith(TARGET_PREFIX)
)
_TARGET_NAME: Final = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach and sign in to one Airflow deployment; without a `url` its tasks are only told by its `queue`."""

    name: str
    url: str = ""
    auth: str = ""
    queue: str = ""
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
class BusAccess:
    """Where the Service Bus namespace is: by a connection string, or its host name and the managed identity."""

    connection: Secret
    namespace: str = ""


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
    """All settings, checked.

    Without a `topic` nothing can be published; without `entra` no token counts; without a `bus` there are no queues.
    """

    rules: Rules
    targets: Mapping[str, Target]
    store: str | Tables
    adf_endpoint: str
    adf_token: Secret
    max_body_bytes: int
    topic: TopicAccess | None = None
    entra: EntraTrust | None = None
    bus: BusAccess | None = None

    def secrets(self) -> list[str]:
        """Return every secret there is, so that the log can be kept clean of them."""
        of_targets = [secret for target in self.targets.values() for secret in target.secrets()]
        own = [self.adf_token, *([self.topic.key] if self.topic else [])]
        connection = self.bus.connection.reveal() if self.bus else ""
        of_bus = [connection, *values.keys_in(connection)] if connection else []
        return of_targets + of_bus + [secret.reveal() for secret in own if secret]


def load(environment: Mapping[str, str]) -> Config:
    """Check all settings; raise ConfigInvalid listing everything that is wrong."""
    reader = _Reader(environment)
    reader.refuse_unknown_names()
    factories = reader.read("BRIDGE_FACTORIES", values.factories) or {}
    store = _read_store(reader)
    endpoint, adf_token = _read_adf(reader)
    sweep = reader.read("BRIDGE_SWEEP_SECONDS", values.seconds(10, 3600))
    inline = reader.read("BRIDGE_INLINE_SECONDS", values.seconds(0, 25))
    retention_days = reader.read("BRIDGE_RETENTION_DAYS", values.whole(1, 365))
    correlation = reader.read("BRIDGE_CORRELATION_PARAMETER", values.parameter_name)
    max_body_bytes = reader.read("BRIDGE_MAX_BODY_BYTES", values.whole(1024, 10_485_760))
    topic = _read_relay(reader)
    read_targets = {name: _target(reader, name, factories) for name in reader.target_names()}
    entra = _read_entra(reader)
    bus = _read_bus(reader)
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
        bus=bus,
    )


def load_adf(environment: Mapping[str, str]) -> tuple[str, Secret]:
    """Check only how to reach ADF, for the command line: the endpoint, and the token; raise ConfigInvalid."""
    reader = _Reader(environment)
    endpoint, token = _read_adf(reader)
    if reader.errors or endpoint is None:
        raise ConfigInvalid(reader.errors)
    return endpoint, token


def load_queues(environment: Mapping[str, str]) -> tuple[BusAccess | None, str, str]:
    """Check only where the queues are, for the command line: Service Bus, the queue of trigger requests, that of run
    events ('' where there is none); raise ConfigInvalid.
    """
    reader = _Reader(environment)
    bus = _read_bus(reader)
    if reader.errors:
        raise ConfigInvalid(reader.errors)
    return bus, requests_queue(environment), events_queue(environment)


def load_allowed(environment: Mapping[str, str]) -> list[FactoryId]:
    """Return the allow-list, for the command line; empty where it is not set. Raises ConfigInvalid."""
    reader = _Reader(environment)
    found = reader.read("BRIDGE_FACTORIES", values.factories) if reader.text("BRIDGE_FACTORIES") else {}
    if reader.errors:
        raise ConfigInvalid(reader.errors)
    return list((found or {}).values())


def load_topic_key(environment: Mapping[str, str]) -> Secret:
    """Check only the topic's key, for the command line; raise ConfigInvalid."""
    reader = _Reader(environment)
    key = reader.secret("BRIDGE_TOPIC_KEY", in_header=True)
    if reader.errors:
        raise ConfigInvalid(reader.errors)
    return key


def _read_adf(reader: _Reader) -> tuple[str | None, Secret]:
    endpoint = reader.read("BRIDGE_ADF_ENDPOINT", values.url)
    token = reader.secret("BRIDGE_ADF_TOKEN", in_header=True)
    if token and endpoint is not None and not values.is_loopback(endpoint):
        reader.wrong("BRIDGE_ADF_TOKEN", "is for an endpoint on loopback; on Azure the managed identity is used")
    return endpoint, token


def relay_hub(environment: Mapping[str, str]) -> str:
    """Return the event hub that the relay reads, or '' where there is none; whatever the other settings are."""
    return environment.get(HUB, "").strip()


def requests_queue(environment: Mapping[str, str]) -> str:
    """Return the queue that trigger requests come by, or '' where there is none; whatever the other settings are."""
    return environment.get(REQUESTS, "").strip()


def events_queue(environment: Mapping[str, str]) -> str:
    """Return the queue that run events come by, or '' where there is none; whatever the other settings are."""
    return environment.get(EVENTS, "").strip()


def _read_bus(reader: _Reader) -> BusAccess | None:
    """Check where the queues are; that is needed as soon as one is named."""
    own = {name: reader.read(name, values.queue) for name in (REQUESTS, EVENTS) if reader.text(name)}
    targets = reader.with_field("QUEUE")
    if own.get(REQUESTS) is not None and own.get(REQUESTS) == own.get(EVENTS):
        reader.wrong(EVENTS, f"has to be another queue than {REQUESTS}")
    for name in targets:
        if any(queue is not None and queue.lower() == reader.text(name).lower() for queue in own.values()):
            reader.wrong(name, f"has to be another queue than {REQUESTS} and {EVENTS}: what is in it is for Airflow")
    connection, namespace = reader.secret(BUS), f"{BUS}__fullyQualifiedNamespace"
    reader.check_identity(BUS)
    host = reader.read(namespace, values.namespace) if reader.text(namespace) else None
    if connection:
        reader.read(BUS, values.connection_string)
        if host is not None:
            reader.wrong(namespace, f"is set beside {BUS}: only one of the two can be meant")
    named = [*own, *targets]
    if named and not connection and not reader.text(namespace):
        reader.wrong(namespace, f"has to be set for {named[0]} (or {BUS})")
    return BusAccess(connection, host or "") if connection or host else None


def _read_relay(reader: _Reader) -> TopicAccess | None:
    """Check the relay's settings; all of them may be left out, and with the hub the others are needed."""
    key = reader.secret("BRIDGE_TOPIC_KEY", in_header=True)
    if reader.text(HUB):
        for name in ("BRIDGE_TOPIC_ENDPOINT", f"{CONNECTION}__fullyQualifiedNamespace"):
            if not reader.text(name):
                reader.wrong(name, f"has to be set for the relay ({HUB})")
    reader.check_identity(CONNECTION)
    if not reader.text("BRIDGE_TOPIC_ENDPOINT"):
        return None
    endpoint = reader.read("BRIDGE_TOPIC_ENDPOINT", values.topic)
    if endpoint is not None and endpoint.startswith("http:") and not key:
        reader.wrong("BRIDGE_TOPIC_KEY", "has to be set for an http endpoint: a token is not sent in the clear")
    return TopicAccess(endpoint, key) if endpoint is not None else None


def _read_entra(reader: _Reader) -> EntraTrust | None:
    """Check the settings for tokens of Entra; they are needed as soon as a target names an app, and only then."""
    asking = reader.with_field("CALLER_APPS")
    for name in ("BRIDGE_ENTRA_TENANT", "BRIDGE_ENTRA_AUDIENCE"):
        if asking and not reader.text(name):
            reader.wrong(name, f"has to be set for {asking[0]}")
    tenant = reader.some("BRIDGE_ENTRA_TENANT", values.guid)
    audiences = reader.some("BRIDGE_ENTRA_AUDIENCE", str)
    authority = reader.read("BRIDGE_ENTRA_AUTHORITY", values.origin)
    if len(tenant) > 1:
        reader.wrong("BRIDGE_ENTRA_TENANT", "names several tenants: a bridge has one")
    return EntraTrust(min(tenant), audiences, authority) if asking and tenant and audiences and authority else None


def _read_store(reader: _Reader) -> str | Tables | None:
    store = reader.read("BRIDGE_STORE", values.store)
    name = reader.read("BRIDGE_TABLES__tableName", values.table)
    if store != "table":
        return store
    uri = reader.read("BRIDGE_TABLES__tableServiceUri", values.url)
    return Tables(uri, name) if uri is not None and name is not None else None


def _target(reader: _Reader, name: str, factories: Mapping[str, FactoryId]) -> tuple[Target, TargetRules]:
    prefix = f"{TARGET_PREFIX}{name.upper()}__"
    queue = reader.read(prefix + "QUEUE", values.queue) if reader.text(prefix + "QUEUE") else None
    if not reader.text(prefix + "URL") and not reader.text(prefix + "QUEUE"):
        reader.wrong(prefix + "URL", "has to be set (or QUEUE, for tasks in mode queue)")
    url, auth = _read_airflow(reader, prefix) if reader.text(prefix + "URL") else (None, None)
    hold = reader.read(prefix + "HOLD_SECONDS", values.seconds(0, 60))
    observe = reader.read(prefix + "OBSERVE", values.truth)
    target = Target(
        name=name,
        url=url or "",
        auth=auth or "",
        queue=queue or "",
        username=reader.text(prefix + "USERNAME"),
        password=reader.secret(prefix + "PASSWORD"),
        token=reader.secret(prefix + "TOKEN", in_header=True),
        caller_secret=reader.secret(prefix + "CALLER_SECRET"),
        caller_apps=reader.some(prefix + "CALLER_APPS", values.guid),
    )
    rules = TargetRules(
        hold=DEFAULT_HOLD if hold is None else hold,
        observe=bool(observe),
        factories=reader.some(prefix + "FACTORIES", values.known(factories)) if factories else frozenset(),
        modes=frozenset({mode for mode, way in ((Mode.RESUME, url), (Mode.QUEUE, queue)) if way}),
    )
    return target, rules


def _read_airflow(reader: _Reader, prefix: str) -> tuple[str | None, str | None]:
    """Check how a target's Airflow is reached: its URL, and how to sign in there."""
    url = reader.read(prefix + "URL", values.url)
    reader.read(prefix + "API", values.one_of("v2"))
    auth = reader.read(prefix + "AUTH", values.one_of("password", "bearer", "basic"))
    needs = {"password": ("USERNAME", "PASSWORD"), "basic": ("USERNAME", "PASSWORD"), "bearer": ("TOKEN",)}
    for suffix in needs.get(auth or "", ()):
        if not reader.text(prefix + suffix):
            reader.wrong(prefix + suffix, f"has to be set for AUTH={auth}")
    return url, auth


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
        found = self.read(name, lambda text: frozenset(convert(word) for word in values.words(text)))
        return found or frozenset()

    def check_identity(self, connection: str) -> None:
        """Check how the Functions host signs in by a connection: a user-assigned identity needs both settings."""
        credential, client_id = (self.text(f"{connection}__{name}") for name in ("credential", "clientId"))
        if credential and credential.lower() != "managedidentity":
            self.wrong(f"{connection}__credential", "has to be managedidentity")
        if bool(credential) != bool(client_id):
            self.wrong(
                f"{connection}__{'clientId' if credential else 'credential'}", "has to be set with the other one"
            )

    def with_field(self, field_name: str) -> list[str]:
        """Return the names of the settings of that kind that targets have."""
        names = [f"{TARGET_PREFIX}{target.upper()}__{field_name}" for target in self.target_names()]
        return [name for name in names if self.text(name)]

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
