"""Where the bridge is, from what a person wrote into the connection."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from airflow_adf_bridge.errors import AdfBridgeConfigurationError


def bridge_url(host: str | None, scheme: str | None = None, port: int | None = None) -> str:
    """Return the root of the bridge's API, without a slash at its end.

    `host` is a host name or a whole URL; `/api` is added unless it has a path. Raises AdfBridgeConfigurationError when
    there is no host, or when it would send the function key unencrypted over a network.
    """
    host = (host or "").strip()
    if not host:
        raise AdfBridgeConfigurationError("The connection has no host: set it to the bridge's URL.")
    if "://" not in host:
        host = f"{scheme or 'https'}://{f'[{host}]' if host.count(':') > 1 and host[0] != '[' else host}"
    try:
        parts = urlsplit(host)
        name, own_port = parts.hostname, parts.port
    except ValueError as error:
        raise AdfBridgeConfigurationError(f"The connection's host is no URL: {error}.") from None
    if not name or parts.username or parts.password or parts.query or parts.fragment:
        raise AdfBridgeConfigurationError(
            "The connection's host must be a plain URL such as https://my-bridge.azurewebsites.net: "
            "no user, query or fragment. The function key goes into the password."
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(name)):
        raise AdfBridgeConfigurationError(f"The bridge must be called over https, not {parts.scheme} (host {name}).")
    number = own_port or port
    address = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{address}{f':{number}' if number else ''}{parts.path.rstrip('/') or '/api'}"


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
