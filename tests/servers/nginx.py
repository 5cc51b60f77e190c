"""nginx with WebDAV: an HTTP cache as many teams run it."""

import os
from pathlib import Path

from servers.certificates import Pair
from servers.ports import free_port
from servers.process import Server, program

_CONFIG = """
daemon off; {user} pid {base}/pid; error_log {base}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off; client_max_body_size 0;
    client_body_temp_path {base}/tmp/a; proxy_temp_path {base}/tmp/b; fastcgi_temp_path {base}/tmp/c;
    uwsgi_temp_path {base}/tmp/d; scgi_temp_path {base}/tmp/e;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {base}/data;
        dav_methods PUT DELETE; create_full_put_path on; {auth}
        {more}
    }}
}}
"""


class Nginx(Server):
    """`url` is the cache's; what it holds is below `data`. `password_file`: in the form of htpasswd.

    `tls` is its certificate: then it wants one of each client that `clients` vouches for. `token`: the bearer's.
    `more` is what else its configuration says of the server.
    """

    def __init__(
        self,
        base: Path,
        password_file: Path | None = None,
        *,
        tls: Pair | None = None,
        clients: Path | None = None,
        token: str = "",
        more: str = "",
    ) -> None:
        port = free_port()
        for name in ("data", "tmp"):
            (base / name).mkdir(parents=True)
        auth = f'auth_basic "cache"; auth_basic_user_file {password_file};' if password_file else ""
        if token:
            auth += f' if ($http_authorization != "Bearer {token}") {{ return 401; }}'
        listens = ""
        if tls is not None:
            listens = f" ssl; ssl_certificate {tls.cert}; ssl_certificate_key {tls.key}"
            if clients is not None:
                listens += f"; ssl_verify_client on; ssl_client_certificate {clients}"
        user = "user root;" if os.geteuid() == 0 else ""
        config = base / "nginx.conf"
        config.write_text(_CONFIG.format(base=base, port=port, auth=auth, user=user, tls=listens, more=more))
        self.data = base / "data"
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        super().__init__([program("nginx"), "-e", base / "error.log", "-c", config], port, base / "log")
