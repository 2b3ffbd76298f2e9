"""A CA, an origin's certificate below it, and each proxy that a suite can run through."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

# A proxy is up within this many seconds, or it never is.
START_TIME_MAX = 60

MITMPROXY_ADDON = """
def server_connect(data):
    # Names of the suites exist nowhere: all of them are this machine.
    data.server.address = ("127.0.0.1", data.server.address[1])
"""

SQUID = """
http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on cert={folder}/ca-both.pem
sslcrtd_program /usr/lib/squid/security_file_certgen -s {folder}/squid-certs -M 4MB
tls_outgoing_options cafile={folder}/ca.pem
ssl_bump bump all
http_access allow all
http_upgrade_request_protocols OTHER allow all
cache deny all
hosts_file {folder}/hosts
pid_filename {folder}/squid.pid
coredump_dir {folder}
access_log none
cache_log {folder}/squid.log
shutdown_lifetime 0 seconds
"""


def run(*command, **more):
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class World:
    """Everything lies in one folder. `ca`, `chain`, `key` are the origin's, for `name`."""

    def __init__(self, folder, sluice, scripts):
        self.folder, self.sluice, self.scripts = pathlib.Path(folder), sluice, pathlib.Path(scripts)
        self.name = "suite.test"
        self.ca, self.chain, self.key = (self.folder / one for one in ("ca.pem", "chain.pem", "key.pem"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run("openssl", "req", "-x509", *curve, "-keyout", self.folder / "ca.key", "-out", self.ca, "-days", "30",
            "-subj", "/CN=Suite CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        run("openssl", "req", *curve, "-keyout", self.key, "-out", self.folder / "csr.pem", "-subj", f"/CN={self.name}")
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName=DNS:{self.name}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
        run("openssl", "x509", "-req", "-in", self.folder / "csr.pem", "-CA", self.ca, "-CAkey", self.folder / "ca.key",
            "-CAcreateserial", "-out", self.chain, "-days", "20", "-extfile", extensions)
        self.ca_both = self.folder / "ca-both.pem"
        self.ca_both.write_text(self.ca.read_text() + (self.folder / "ca.key").read_text())

    @contextlib.contextmanager
    def through(self, way):
        """Starts the proxy `way`; gives its URL (None direct) and the CA that its clients trust."""
        if way == "direct":
            yield None, self.ca
            return
        start = {"sluice": self.gateway, "mitmproxy": self.mitmproxy, "squid": self.squid}[way]
        process, port, url, ca = start()
        try:
            await_listener(process, port, self.folder / f"{way}.out")
            yield url, ca
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def spawn(self, way, *command, **more):
        with open(self.folder / f"{way}.out", "w") as said:
            return subprocess.Popen([str(one) for one in command], stdout=said, stderr=said, **more)

    def sluice_config(self):
        """A configuration directory with alice enrolled, written once."""
        config = self.folder / "sluice"
        if not config.exists():
            run(self.sluice, "init", config, "--domain", "pop.test", "--tenant", "acme")
            self.tunnel_port, self.explicit_port, admin = free_port(), free_port(), free_port()
            (config / "gateway.yaml").write_text(
                f"pop: suite-1\ndomain: pop.test\n"
                f'listen: {{ tcp: "127.0.0.1:{self.tunnel_port}", udp: "127.0.0.1:{self.tunnel_port}", '
                f'explicit: {{ "127.0.0.1:{self.explicit_port}": acme }} }}\n'
                f'admin: {{ listen: "127.0.0.1:{admin}" }}\n'
                f'origin: {{ roots: none, extra_roots: ["{self.ca}"], allow_private: [127.0.0.0/8], '
                f'hosts: {{ "*.test": 127.0.0.1 }} }}\n'
            )
            (config / "tenants/acme/policy.yaml").write_text("version: 1\nrules: []\ndefault: allow\n")
            self.alice = self.folder / "alice"
            run(self.sluice, "enroll", "acme", "alice@acme.test", "--device", "laptop-1", "--out", self.alice,
                "--config", config)
        return config

    def gateway(self):
        config = self.sluice_config()
        url = (self.alice / "proxy.url").read_text().strip()
        process = self.spawn("sluice", self.sluice, "serve", "--config", config)
        return process, self.explicit_port, url, self.alice / "intercept-ca.pem"

    def mitmproxy(self):
        folder, port = self.folder / "mitmproxy", free_port()
        folder.mkdir(exist_ok=True)
        shutil.copy(self.ca_both, folder / "mitmproxy-ca.pem")
        addon = folder / "addon.py"
        addon.write_text(MITMPROXY_ADDON)
        program = shutil.which("mitmdump", path=f"{self.scripts}:{os.environ['PATH']}")
        process = self.spawn(
            "mitmproxy", program, "--quiet", "--listen-host", "127.0.0.1", "--listen-port", port, "-s", addon,
            "--set", f"confdir={folder}", "--set", f"ssl_verify_upstream_trusted_ca={self.ca}",
            "--set", "connection_strategy=lazy",
        )
        return process, port, f"http://127.0.0.1:{port}", self.ca

    def squid(self):
        port, certs = free_port(), self.folder / "squid-certs"
        # Squid leaves root behind, and then cannot read what only root can.
        os.chmod(self.folder, 0o755)
        self.ca_both.chmod(0o644)
        (self.folder / "squid.log").touch(0o666)
        (self.folder / "squid.log").chmod(0o666)
        (self.folder / "hosts").write_text(f"127.0.0.1 {self.name}\n")
        if not certs.exists():
            run("/usr/lib/squid/security_file_certgen", "-c", "-s", certs, "-M", "4MB")
            run("chown", "-R", "proxy", certs)
        configuration = self.folder / "squid.conf"
        configuration.write_text(SQUID.format(port=port, folder=self.folder))
        process = self.spawn("squid", "squid", "-N", "-f", configuration)
        return process, port, f"http://127.0.0.1:{port}", self.ca


def await_listener(process, port, said):
    until = time.monotonic() + START_TIME_MAX
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the proxy did not start:\n{pathlib.Path(said).read_text()}")
