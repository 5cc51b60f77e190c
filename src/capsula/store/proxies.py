"""Which proxy leads to a server: what `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say, as for curl and most
other programs. No proxy leads to this machine itself."""

from __future__ import annotations

from capsula.errors import UsageError
from capsula.store.address import parts_of, unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """`headers` are for the proxy alone: who we are to it."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str]) -> None:
        self.host = host
        self.port = port
        self.headers = headers


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """UsageError for a value that is no address of a proxy that we can use."""
    name, value = _value(scheme, environ)
    if not value or _is_here(host) or _is_left_out(host, port, environ):
        return None
    parts = parts_of(value if "://" in value else f"http://{value}")
    try:
        at = parts.port or 80
    except ValueError:
        at = 0
    if parts.scheme != "http" or not parts.hostname or not at:
        raise UsageError(
            f"the variable {name} names no proxy that can be used here",
            hint=f"one like http://proxy.example:3128, or no_proxy={host}",
        )
    headers = {}
    if parts.username is not None:
        import base64

        pair = f"{unquoted(parts.username)}:{unquoted(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, at, headers)


def _value(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if scheme == "http" and "REQUEST_METHOD" in environ:
        # In a CGI script, HTTP_PROXY is what a request says in its header "Proxy".
        names.remove("HTTP_PROXY")
    # One that is empty says that there is none.
    return next(((name, environ[name].strip()) for name in names if name in environ), ("", ""))


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_left_out(host: str, port: int, environ: Mapping[str, str]) -> bool:
    """Names stand for themselves and what is below them, addresses with a slash for a network."""
    for each in environ.get("no_proxy", environ.get("NO_PROXY", "")).split(","):
        rule = each.strip().lower()
        if rule == "*":
            return True
        if "/" in rule and _is_in(host, rule):
            return True
        name, colon, its_port = rule.rpartition(":")
        # Of an address of IPv6 without brackets, all colons are its own.
        if colon and its_port.isdigit() and (":" not in name or name.endswith("]")):
            if int(its_port) != port:
                continue
            rule = name
        rule = rule.strip("[]").removeprefix("*").removeprefix(".")
        if rule and (host == rule or host.endswith(f".{rule}")):
            return True
    return False


def _is_in(host: str, network: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
