"""The endpoint of an Event Grid topic, as it is given on the command line and stands in the wrappers."""

from __future__ import annotations

import argparse
import re
from typing import Final
from urllib.parse import urlsplit

from bridge import setting_values

_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/api/events")
_EXAMPLE: Final = "https://orders.westeurope-1.eventgrid.azure.net/api/events"
# The public cloud, the US government's, China's. The hosts are those of the Functions extension for Event Grid; that
# each is the audience of its tokens, too, is documented for the first, and what Azure's own tools have for the others:
# https://github.com/Azure/azure-iot-ops-cli-extension/blob/dev/azext_edge/edge/util/cloud_config.py
_CLOUDS: Final = ("eventgrid.azure.net", "eventgrid.azure.us", "eventgrid.azure.cn")


def parse(text: str) -> str:
    """Return a topic's endpoint. Everybody who can read the wrapper sees it, so no key may stand in it."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise argparse.ArgumentTypeError("this is no URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise argparse.ArgumentTypeError(f"has to be a URL such as {_EXAMPLE}")
    if parts.username or parts.password or parts.query or parts.fragment or not _HOST.fullmatch(parts.netloc):
        raise argparse.ArgumentTypeError("has to be a plain URL: no user, password, key, query or fragment")
    if parts.scheme == "http" and not setting_values.is_loopback(text):
        raise argparse.ArgumentTypeError("has to be https: http is for this machine only")
    if not _PATH.fullmatch(parts.path):
        raise argparse.ArgumentTypeError("has to end in /api/events: the endpoint of a custom topic")
    _check_names(parts.netloc.partition(":")[0], host)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def is_expected(endpoint: str) -> bool:
    """Whether Event Grid, or this machine, is where the endpoint is."""
    return _cloud_of(host_of(endpoint)) is not None or setting_values.is_loopback(endpoint)


def host_of(endpoint: str) -> str:
    """Return where the endpoint is."""
    return urlsplit(endpoint).hostname or ""


def audience(endpoint: str) -> str:
    """Return what a token for the topic has to be for; for a topic anywhere else, what the public cloud's would be."""
    return f"https://{_cloud_of(host_of(endpoint)) or _CLOUDS[0]}"


def _check_names(written: str, host: str) -> None:
    """Refuse what cannot be a topic's host: the placeholders of the documentation, and a name without its region."""
    if any(label.isupper() for label in written.split(".")):
        raise argparse.ArgumentTypeError(
            "has a name in capitals, such as a placeholder: `az eventgrid topic show --query endpoint` tells the "
            "topic's own (a name that has capitals only may be written in small letters)"
        )
    cloud = _cloud_of(host)
    if cloud is not None:
        names = host.removesuffix(cloud).removesuffix(".").split(".")
        if len(names) < 2 or not all(names):  # noqa: PLR2004 - the topic's and the region's
            raise argparse.ArgumentTypeError(f"has to name the topic and its region, as in {_EXAMPLE}")


def _cloud_of(host: str) -> str | None:
    return next((cloud for cloud in _CLOUDS if host == cloud or host.endswith(f".{cloud}")), None)
