"""Azurite: Microsoft's own stand-in for Azure's object store, from npm."""

import os
import subprocess
from pathlib import Path

from obstore.store import AzureStore

from servers.installed import installed_for_all
from servers.ports import free_port
from servers.process import Server, program

# The account that every Azurite has, with the key that its documentation prints.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_CONTAINER = """
import sys
from azure.storage.blob import ContainerClient
container = ContainerClient(sys.argv[1], sys.argv[2], credential=sys.argv[3])
"""


class Azurite(Server):
    """`container` is there when it has started; `url` is the account's."""

    container = bucket = "test"

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/{ACCOUNT}"
        words = [
            program("node"), installed_for_all("node_modules/azurite/dist/src/blob/main.js"), "--location", base,
            "--blobHost", "127.0.0.1", "--blobPort", str(port), "--disableTelemetry", "--silent",
            # Azure's library is ahead of it.
            "--skipApiVersionCheck",
        ]  # fmt: skip
        super().__init__(words, port, base / "log")
        try:
            self.by_azure("container.create_container()")
        except BaseException:
            self.stop()
            raise

    def environs(self) -> dict[str, dict[str, str]]:
        """What somebody who uses it may have set."""
        return {
            "obstore": {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": self.url,
            },
            "the command line": {
                "AZURE_STORAGE_ACCOUNT": ACCOUNT,
                "AZURE_STORAGE_KEY": KEY,
                "AZURE_STORAGE_SERVICE_ENDPOINT": self.url,
            },
            "a connection string": {
                "AZURE_STORAGE_CONNECTION_STRING": f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
            },
        }

    def credentials(self) -> dict[str, str]:
        return self.environs()["obstore"]

    def store(self) -> AzureStore:
        """As somebody who knows the key."""
        return AzureStore(
            self.container, account_name=ACCOUNT, account_key=KEY, endpoint=self.url,
            client_options={"allow_http": True}, retry_config={"max_retries": 0},
        )  # fmt: skip

    def by_azure(self, code: str, *words: str) -> str:
        """What this code prints that has `container`, of Azure's own library, and its words from sys.argv[4] on."""
        done = subprocess.run(
            [
                installed_for_all("python/bin/python"),
                "-c",
                _CONTAINER + code,
                self.url,
                self.container,
                KEY,
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env=dict(os.environ),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
