"""OpenStack Swift with its layer for S3: the server that has no writes on condition, and says so."""

import subprocess
from pathlib import Path

from servers.ports import free_port
from servers.process import Server, program
from servers.s3 import SECRET, Owned, make_bucket

# Names of users have a colon.
KEY = "test:tester"
_PYTHON = "/usr/bin/python3"
_SWIFT = """
[swift-hash]
swift_hash_path_suffix = suffix
swift_hash_path_prefix = prefix
[storage-policy:0]
name = Policy-0
default = yes
"""
_DEFAULT = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {base}
devices = {base}/devices
mount_check = false
log_name = {name}
log_level = WARNING
"""
_STORAGE = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
"""
_PLAIN = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "slo", "dlo")
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for word in sys.argv[2:]:
    name, port = word.split("=")
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d", "weight": 1})
    ring.rebalance()
    ring.get_ring().save(sys.argv[1] + "/" + name + ".ring.gz")
"""


class Swift(Owned):
    """`bucket` is there when it has started; `url` is S3's."""

    bucket, key = "test", KEY

    def __init__(self, base: Path) -> None:
        (base / "devices/d").mkdir(parents=True)
        (base / "swift.conf").write_text(_SWIFT)
        self._base = base
        self._servers: list[Server] = []
        ports = {name: free_port() for name in ("account", "container", "object", "proxy")}
        rings = [f"{name}={port}" for name, port in ports.items() if name != "proxy"]
        subprocess.run([_PYTHON, "-c", _RINGS, base, *rings], check=True)
        self.url, self.port = f"http://127.0.0.1:{ports['proxy']}", ports["proxy"]
        try:
            cache = free_port()
            words = [program("memcached"), "-u", "nobody", "-l", "127.0.0.1", "-p", str(cache)]
            self._servers.append(Server(words, cache, base / "memcached.log"))
            for name, port in ports.items():
                self._start(name, port, cache)
            make_bucket(self.url, self.bucket, KEY)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for server in reversed(self._servers):
            server.stop()

    def _start(self, name: str, port: int, cache: int) -> None:
        plain = "".join(f"[filter:{each}]\nuse = egg:swift#{each}\n" for each in _PLAIN)
        parts = _DEFAULT + (_PROXY + plain if name == "proxy" else _STORAGE)
        config = self._base / f"{name}.conf"
        config.write_text(parts.format(base=self._base, name=name, port=port, secret=SECRET, memcached=cache))
        words = [program(f"swift-{name}-server"), config, "-v"]
        self._servers.append(Server(words, port, self._base / f"{name}.log"))
