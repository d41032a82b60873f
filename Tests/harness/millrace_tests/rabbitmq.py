"""RabbitMQ: an instance of Debian's rabbitmq-server as a child of the tests, with all of its own: ports, cookie, database."""

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PLUGINS = ["rabbitmq_consistent_hash_exchange"]


class RabbitMQFailed(Exception):
    """It did not start, or did not stop; the message ends with the tail of its log."""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _user(name, password, tags=""):
    salt = hashlib.sha256(name.encode()).digest()[:4]
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {"name": name, "password_hash": base64.b64encode(salt + digest).decode(), "tags": tags,
            "hashing_algorithm": "rabbit_password_hashing_sha256"}


def _permission(user, vhost, pattern):
    return {"user": user, "vhost": vhost, "configure": pattern, "write": pattern, "read": pattern}


DEFINITIONS = {
    "users": [_user("guest", "guest", "administrator"), _user("limited", "limited")],
    "vhosts": [{"name": "/"}, {"name": "other"}],
    "permissions": [_permission("guest", "/", ".*"), _permission("guest", "other", ".*"),
                    _permission("limited", "/", r"^limited\..*")],
}


class RabbitMQ:
    """One running node. Erlang's port mapper (epmd) is a child too, so that none of the system's is used or left behind."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.host, self.port = "127.0.0.1", free_port()
        self.log = self.directory / "rabbitmq.log"
        self.process = self.mapper = None
        self.node = f"millrace-tests-{os.getpid()}@localhost"

    @staticmethod
    def installed():
        return (PROGRAMS / "rabbitmq-server").exists()

    def environment(self):
        own = self.directory
        return {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(own),
            "ERL_EPMD_PORT": str(self.mapper_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "1",  # the start script becomes the Erlang process instead of its parent
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_NODENAME": self.node, "RABBITMQ_BASE": str(own),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"), "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "none.config"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"), "RABBITMQ_LOG_BASE": str(own / "log"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"), "RABBITMQ_GENERATED_CONFIG_DIR": str(own / "generated"),
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.distribution_port), "RABBITMQ_PID_FILE": str(own / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def start(self, timeout_seconds=90):
        own = self.directory
        self.mapper_port, self.distribution_port = free_port(), free_port()
        (own / "rabbitmq.conf").write_text(
            f"load_definitions = {own / 'definitions.json'}\nloopback_users = none\ndisk_free_limit.absolute = 50MB\n"
            "log.console = true\nlog.console.level = info\n")
        (own / "definitions.json").write_text(json.dumps(DEFINITIONS))
        (own / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
        cookie = own / ".erlang.cookie"
        cookie.write_text(base64.b32encode(os.urandom(20)).decode())
        cookie.chmod(0o400)
        with open(self.log, "ab") as log:
            before = log.tell()
            self.mapper = subprocess.Popen(["epmd", "-port", str(self.mapper_port), "-address", "127.0.0.1"], cwd=own,
                                           env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.process = subprocess.Popen([str(PROGRAMS / "rabbitmq-server")], cwd=own, env=self.environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout_seconds
        while b"Server startup complete" not in self.log.read_bytes()[before:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RabbitMQFailed(f"RabbitMQ did not start{self.log_tail()}")
            time.sleep(0.05)
        return self

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def control(self, *arguments, timeout_seconds=60):
        """Runs rabbitmqctl against this node and returns what it prints."""
        done = subprocess.run([str(PROGRAMS / "rabbitmqctl"), "--quiet", *arguments], cwd=self.directory,
                              env=self.environment(), capture_output=True, text=True, timeout=timeout_seconds)
        if done.returncode != 0:
            raise RabbitMQFailed(f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self, timeout_seconds=20):
        """Ends the node and its port mapper."""
        for process, how in ((self.process, signal.SIGTERM), (self.mapper, signal.SIGKILL)):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(how)
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.process = self.mapper = None

    def log_tail(self, lines=30):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(["", f"{self.log} ends with:", *text.splitlines()[-lines:]])
