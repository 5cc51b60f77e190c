"""What is found in the environment of Azure's account."""

import pytest

from capsula.errors import UsageError
from capsula.store.azure import account, is_in_clear

WHOLE = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a2V5==;EndpointSuffix=core.windows.net"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": "key"}, {}),
        (
            {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_KEY": "key"},
            {"account_name": "me", "account_key": "key"},
        ),
        ({"AZURE_STORAGE_ACCOUNT": "cli", "AZURE_STORAGE_ACCOUNT_NAME": "obstore"}, {}),
        ({"AZURE_STORAGE_CONNECTION_STRING": WHOLE}, {"account_name": "me", "account_key": "a2V5=="}),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": WHOLE.replace("core.windows.net", "core.usgovcloudapi.net")},
            {
                "account_name": "me",
                "account_key": "a2V5==",
                "endpoint": "https://me.blob.core.usgovcloudapi.net",
            },
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=http://h:1/me ; SharedAccessSignature=sv=1&sig=x=;"
            },
            {"endpoint": "http://h:1/me", "sas_key": "sv=1&sig=x="},
        ),
    ],
)
def test_the_names_of_azure_s_command_line_are_known(environ, found) -> None:
    assert account(environ) == found


def test_what_is_no_connection_string_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as refused:
        account({"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=secret"})
    assert "secret" not in str(refused.value) + refused.value.hint


def test_http_is_taken_where_the_endpoint_says_so() -> None:
    assert is_in_clear({"endpoint": "http://127.0.0.1"}, {})
    assert is_in_clear({}, {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1"})
    assert not is_in_clear({}, {})
