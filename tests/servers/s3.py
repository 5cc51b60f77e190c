"""What servers of S3 have in common: who may ask, and how a bucket comes to be (by boto3, which is not our client)."""

import os
import subprocess

from obstore.store import S3Store

from servers.installed import installed

KEY, SECRET = "testkey", "testsecret"

_CLIENT = """
import boto3, sys
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
    config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"))
"""


def direct(url: str, bucket: str, key: str = KEY) -> S3Store:
    """As somebody who knows the secret."""
    return S3Store(
        bucket, endpoint=url, region="us-east-1", access_key_id=key, secret_access_key=SECRET,
        client_options={"allow_http": True}, retry_config={"max_retries": 0}, virtual_hosted_style_request=False,
    )  # fmt: skip


def credentials(key: str = KEY) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": SECRET}


def by_boto3(url: str, program: str, *words: str, key: str = KEY) -> str:
    """What a program prints that has `s3`, a client of boto3's, and its words from sys.argv[2] on."""
    done = subprocess.run(
        [installed("bin/python"), "-c", _CLIENT + program, url, *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **credentials(key)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_bucket(url: str, name: str, key: str = KEY) -> None:
    by_boto3(url, "s3.create_bucket(Bucket=sys.argv[2])", name, key=key)


class Owned:
    """What every server of S3 has here: its endpoint, a bucket, and the key of whoever owns that."""

    url: str
    bucket: str
    key: str

    def store(self, bucket: str = "") -> S3Store:
        """As somebody who knows the secret."""
        return direct(self.url, bucket or self.bucket, self.key)

    def credentials(self) -> dict[str, str]:
        return credentials(self.key)
