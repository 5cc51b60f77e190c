"""Whose account of Azure's object store it is: what Azure's own command line finds in the environment, for obstore.

obstore knows AZURE_STORAGE_ACCOUNT_NAME and its kin; the command line has other names, and connection strings.
https://learn.microsoft.com/cli/azure/azure-cli-configuration
"""

from collections.abc import Mapping

from capsula.errors import UsageError

_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
# As the command line calls it: as obstore does, in its configuration and as variables.
_NAMES = {
    "AZURE_STORAGE_ACCOUNT": ("account_name", ("AZURE_STORAGE_ACCOUNT_NAME",)),
    "AZURE_STORAGE_KEY": ("account_key", ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY")),
    "AZURE_STORAGE_SERVICE_ENDPOINT": ("endpoint", ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")),
}
_PARTS = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}


def account(environ: Mapping[str, str]) -> dict[str, str]:
    """What has to be said to obstore beside what it finds itself. UsageError for a connection string that is none."""
    found = {
        name: environ[variable]
        for variable, (name, others) in _NAMES.items()
        if environ.get(variable) and not any(environ.get(other) for other in others)
    }
    return {**_connection(environ.get(_CONNECTION, "")), **found}


def is_in_clear(found: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Whether the endpoint does without TLS, as one of a test does."""
    endpoint = found.get("endpoint") or environ.get("AZURE_STORAGE_ENDPOINT") or environ.get("AZURE_ENDPOINT")
    return (endpoint or "").startswith("http://")


def _connection(text: str) -> dict[str, str]:
    """`AccountName=…;AccountKey=…;…`, as the portal gives it out."""
    if not text:
        return {}
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    told = {name.strip(): value.strip() for name, equals, value in pairs if equals}
    found = {ours: told[theirs] for theirs, ours in _PARTS.items() if told.get(theirs)}
    if "account_name" not in found and "endpoint" not in found:
        # Not a word of it is repeated: there is a key in it.
        raise UsageError(f"{_CONNECTION} names no account", hint="it is AccountName=…;AccountKey=…;…")
    suffix = told.get("EndpointSuffix", "")
    if "endpoint" not in found and suffix not in ("", "core.windows.net"):
        scheme = told.get("DefaultEndpointsProtocol", "https")
        found["endpoint"] = f"{scheme}://{found['account_name']}.blob.{suffix}"
    return found
