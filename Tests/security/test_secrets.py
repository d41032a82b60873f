"""What must stay secret, looked for everywhere that a server tells of itself: settings over all protocols, check-config, errors, logs."""

import base64
import json
import ssl
import urllib.request

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from millrace_tests.secure import start_secure
from millrace_tests.server import run

PASSWORD = "hunter2-9d1be7"
STRAY = "stray-secret-41c2"


def lines_of(path):
    """What is secret of a file: its lines without those that say what it is."""
    return [line for line in open(path).read().splitlines() if len(line) >= 16 and not line.startswith(("-----", "#"))]


def test_settings_logs_and_errors_tell_no_secret(make_server, certificates, tmp_path):
    keys = tmp_path / "keys"
    assert run("key", "new", "--file", keys).returncode == 0
    certificate, tls_key = certificates.pair("server")
    server = make_server(
        listeners=["kafka+tls://127.0.0.1:0?auth=plain", "https://127.0.0.1:0"],
        arguments=["--log-level", "debug", "--encryption-key", keys])
    secure = start_secure(server, certificates)
    secure.add_user("alice", PASSWORD)
    told = {}
    # Kafka's clients.
    admin = AdminClient({
        "bootstrap.servers": secure.address("kafka+tls"), "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
        "sasl.username": "admin", "sasl.password": secure.admin_password, "ssl.ca.location": certificates.ca, "log_level": 0})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, "0")]).values()
    told["kafka"] = [f"{entry.name}={entry.value} {[one.value for one in entry.synonyms.values()]}"
                     for entry in future.result(20).values()]
    assert any(line.startswith(f"tls.key={tls_key}") for line in told["kafka"]), "where the file lies may be known"
    # HTTP.
    host, port = server.addresses["https"]
    context = ssl.create_default_context(cafile=certificates.ca)
    login = base64.b64encode(f"admin:{secure.admin_password}".encode()).decode()
    for path in ("/api/v1/settings", "/api/v1/users", "/api/v1/definitions", "/api/v1/server", "/api/v1/rules", "/metrics",
                 "/api/definitions", "/api/users", "/api/overview"):
        request = urllib.request.Request(f"https://{host}:{port}{path}", headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            told[path] = [answer.read().decode()]
    # Commands, right and wrong: a file of secrets where another belongs, and a secret where a setting belongs.
    right = ["--tls-certificate", certificate, "--tls-key", tls_key, "--encryption-key", keys, "--data", tmp_path / "other",
             "--listener", "kafka+tls://127.0.0.1:0?auth=certificate", "--tls-client-ca", certificates.ca]
    wrong_file = tmp_path / "wrong.conf"
    wrong_file.write_text(f"password={STRAY}\n{STRAY}\nnum.partitions={STRAY[:3]}\n")
    wrong_password = tmp_path / "password"
    wrong_password.write_text(PASSWORD + "x\n")
    for name, command, succeeds in [
        ("check", ["check-config", "--print", *right], True),
        ("stats", ["stats", "--json", "--bootstrap", secure.address("kafka+tls"), "--user", "admin", "--password-file",
                   secure.password_file, "--ca", certificates.ca], True),
        ("users", ["user", "list", "--json", "--bootstrap", secure.address("kafka+tls"), "--user", "admin", "--password-file",
                   secure.password_file, "--ca", certificates.ca], True),
        ("wrong TLS key", ["check-config", *right[:2], "--tls-key", keys, *right[4:]], False),
        ("wrong encryption key", ["check-config", *right[:4], "--encryption-key", tls_key, *right[6:]], False),
        ("wrong certificate", ["check-config", "--tls-certificate", secure.password_file, *right[2:]], False),
        ("wrong authority", ["check-config", *right[:-1], keys], False),
        ("wrong revocations", ["check-config", *right, "--tls-crl", tls_key], False),
        ("wrong file", ["check-config", "--config", wrong_file], False),
        ("a password file for a configuration", ["check-config", "--config", secure.password_file], False),
        ("keys for a configuration", ["check-config", "--config", keys], False),
        ("wrong start", ["serve", *right[:2], "--tls-key", keys, "--encryption-key", tls_key, *right[6:]], False),
        ("wrong password", ["topic", "list", "--bootstrap", secure.address("kafka+tls"), "--user", "alice", "--password-file",
                            wrong_password, "--ca", certificates.ca], False),
    ]:
        done = run(*command)
        assert (done.returncode == 0) == succeeds, (name, done.stdout, done.stderr)
        told[name] = [done.stdout, done.stderr]
    assert "tls.key=" in told["check"][0] and "encryption.key=" in told["check"][0]
    assert server.stop() == 0
    told["log"] = [line for line in server.log_text().splitlines() if not line.startswith("--- ")]
    assert len(told["log"]) > 10

    secrets = [PASSWORD, secure.admin_password, STRAY, login, *lines_of(tls_key), *lines_of(keys)]
    assert len(secrets) > 6
    for where, texts in told.items():
        for text in texts:
            for secret in secrets:
                # JSON writes some of the characters of base 64 otherwise.
                assert secret not in text and json.dumps(secret)[1:-1] not in text, (where, text[:2000])
