"""The HTTP client of a server, and why one cannot be reached."""

from typing import Any

from ...errors import DeviceError
from ...system import network

KEY = "EDGE_API_KEY"
CONNECT, SILENCE = 10.0, 300.0  # seconds: to connect, and between two parts of a response (a long prompt is prefilled)


def create_client(url: str, key: str) -> Any:
    """Create a client for a server. A server on this machine is reached without a proxy, whatever the environment
    says."""
    import httpx2

    if not (key.isascii() and key.isprintable()):
        raise DeviceError(f"{KEY} has characters that no key has", hint="set it to the server's key")
    try:
        # Given a transport, httpx2 does not read the proxies of the environment.
        direct = None if network.find_proxy(url) else httpx2.HTTPTransport(trust_env=url.lower().startswith("https"))
        return httpx2.Client(
            base_url=f"{url}/",
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(SILENCE, connect=CONNECT),
            transport=direct,
        )
    except (OSError, ImportError, ValueError, httpx2.InvalidURL) as exc:
        raise unreachable(exc, url) from exc


def unreachable(exc: Exception, url: str) -> DeviceError:
    """Return the error of a server that does not answer, with the cause and its cure."""
    fault = network.explain(exc, url) or network.NetworkFault(" ".join(str(exc).split()))
    if fault.hint:
        return DeviceError(f"{url} cannot be reached: {fault.cause}", hint=fault.hint)
    return DeviceError(f"no server answers at {url}: {fault.cause}", hint="start it, or check the URL")
