"""Where the bridge is, from what a person wrote into the connection."""

import pytest

from airflow_adf_bridge.bridge_url import bridge_url
from airflow_adf_bridge.errors import AdfBridgeConfigurationError


@pytest.mark.parametrize(
    ("host", "scheme", "port", "url"),
    [
        ("b.azurewebsites.net", None, None, "https://b.azurewebsites.net/api"),
        ("https://b.azurewebsites.net/", None, None, "https://b.azurewebsites.net/api"),
        ("https://gateway.example/adf/api/", None, None, "https://gateway.example/adf/api"),
        ("b.example", "https", 8443, "https://b.example:8443/api"),
        ("127.0.0.1", "http", 7071, "http://127.0.0.1:7071/api"),
        ("localhost", "http", 7071, "http://localhost:7071/api"),
        ("::1", "http", 7071, "http://[::1]:7071/api"),
    ],
)
def test_a_host_or_a_url_leads_to_the_api(host: str, scheme: str | None, port: int | None, url: str) -> None:
    """A host name with scheme and port, or a whole URL: both lead to the bridge's API."""
    assert url == bridge_url(host, scheme, port)


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("b.example", "http"),
        ("http://10.0.0.4", None),
        ("http://localhost.example", None),
        ("ftp://127.0.0.1", None),
        ("https://user:pw@b.example", None),
        ("https://b.example?code=key", None),
        ("https://b.example:port", None),
        ("", None),
        (None, None),
    ],
)
def test_no_key_leaves_the_machine_unencrypted_or_inside_a_url(host: str | None, scheme: str | None) -> None:
    """S37: only https, or http to this machine; a URL with a secret or without a host is refused."""
    with pytest.raises(AdfBridgeConfigurationError):
        bridge_url(host, scheme)
