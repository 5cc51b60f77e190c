"""Ceph's radosgw: a production server of S3, with a monitor, a manager and a store in memory behind it."""

import subprocess
import uuid
from pathlib import Path

from servers.ports import free_port
from servers.process import PATIENCE, Server, program
from servers.s3 import KEY, SECRET, Owned, make_bucket

_CONFIG = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv4 = true
ms_bind_ipv6 = false
# Without it, radosgw goes round in circles at the door.
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {base}/keyring
run_dir = {base}
admin_socket = {base}/$name.asok
crash_dir = {base}/crash
log_to_stderr = true
err_to_stderr = true
log_file =
mon_cluster_log_to_file = false
mon_data = {base}/mon
mgr_data = {base}/mgr
osd_data = {base}/osd
rgw_data = {base}/rgw
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_osd_full_ratio = 1.0
mon_data_avail_crit = 1
mon_data_avail_warn = 1
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{rgw}
rgw_enable_usage_log = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
rgw_run_sync_thread = false
"""
_MAY = {
    "mon.": ("mon=allow *",),
    "client.admin": ("mon=allow *", "osd=allow *", "mgr=allow *"),
    "mgr.x": ("mon=allow profile mgr", "osd=allow *"),
    "osd.0": ("mon=allow profile osd", "mgr=allow profile osd", "osd=allow *"),
    "client.rgw": ("mon=allow rw", "osd=allow rwx", "mgr=allow rw"),
}


class Ceph(Owned):
    """`bucket` is there when it has started; `url` is S3's."""

    bucket, key = "test", KEY

    def __init__(self, base: Path) -> None:
        for name in ("mon", "mgr", "osd", "rgw", "crash"):
            (base / name).mkdir(parents=True)
        self._base = base
        self._servers: list[Server] = []
        port, rgw = free_port(), free_port()
        self._config = base / "ceph.conf"
        fsid = str(uuid.uuid4())
        self._config.write_text(_CONFIG.format(base=base, fsid=fsid, port=port, rgw=rgw))
        self.url, self.port = f"http://127.0.0.1:{rgw}", rgw
        try:
            self._start(fsid, port, rgw)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        # The ones that ask others end first.
        for server in reversed(self._servers):
            server.stop()

    def _start(self, fsid: str, port: int, rgw: int) -> None:
        base = self._base
        for at, (name, may) in enumerate(_MAY.items()):
            caps = [word for each in may for word in ("--cap", *each.split("=", 1))]
            new = ["--create-keyring"] if at == 0 else []
            self._run("ceph-authtool", base / "keyring", *new, "--gen-key", "-n", name, *caps)
        self._run(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", base / "monmap"
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", base / "monmap")
        self._daemon("ceph-mon", "a", port)
        self._daemon("ceph-mgr", "x", port)
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "0", port)
        self._daemon("radosgw", "client.rgw", rgw)
        self._run(
            "radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
            f"--access-key={KEY}", f"--secret-key={SECRET}",
        )  # fmt: skip
        make_bucket(self.url, self.bucket)

    def _daemon(self, name: str, which: str, port: int) -> None:
        identity = ["-n", which] if name == "radosgw" else ["-i", which]
        words = [program(name), "-c", self._config, "-f", *identity]
        self._servers.append(Server(words, port, self._base / f"{name}.log"))

    def _run(self, name: str, *words: str | Path) -> str:
        config = [] if name in ("ceph-authtool", "monmaptool") else ["-c", self._config]
        done = subprocess.run(
            [program(name), *config, *words], capture_output=True, text=True, timeout=PATIENCE, cwd=self._base
        )
        assert done.returncode == 0, (name, done.stderr)
        return done.stdout
