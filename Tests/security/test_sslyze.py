"""TLS as sslyze sees it, on a listener of each protocol; and what it says of a server that is weak on purpose."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from sslyze import (
    CertificateInfoExtraArgument,
    RobotScanResultEnum,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    ScanCommandsExtraArguments,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)

OLD = {
    "ssl_2_0_cipher_suites": "SSL 2.0", "ssl_3_0_cipher_suites": "SSL 3.0", "tls_1_0_cipher_suites": "TLS 1.0",
    "tls_1_1_cipher_suites": "TLS 1.1",
}
# What a server with a certificate on an elliptic curve may offer: forward secrecy and authenticated encryption alone.
SUITES = {
    "tls_1_2_cipher_suites": ("TLS 1.2", {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}),
    "tls_1_3_cipher_suites": ("TLS 1.3", {
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}),
}
CURVES = {"X25519", "secp256r1", "secp384r1"}
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")  # of an authority in a list that sslyze brings

# Headers are no matter of TLS.
COMMANDS = set(ScanCommand) - {ScanCommand.HTTP_HEADERS}
# sslyze asks for early data with a request of HTTP's, and cannot do without an answer. Without resumption there is none anyway.
WITHOUT_HTTP = COMMANDS - {ScanCommand.TLS_1_3_EARLY_DATA}
# What OpenSSL's server, which has one connection at a time, answers without letting sslyze wait until its patience ends.
QUICK = {
    ScanCommand.CERTIFICATE_INFO, ScanCommand.TLS_1_0_CIPHER_SUITES, ScanCommand.TLS_1_2_CIPHER_SUITES, ScanCommand.ELLIPTIC_CURVES,
    ScanCommand.SESSION_RENEGOTIATION, ScanCommand.SESSION_RESUMPTION, ScanCommand.TLS_FALLBACK_SCSV,
}


def scan(addresses, authority, commands, at_once=10):
    """What sslyze finds, by name of the address. All of them are scanned at once; `commands` says what is asked of which."""
    scanner = Scanner(per_server_concurrent_connections_limit=at_once)
    names, requests = {}, []
    for name, (host, port) in addresses.items():
        request = ServerScanRequest(
            server_location=ServerNetworkLocation(hostname="localhost", port=port, ip_address=host),
            network_configuration=ServerNetworkConfiguration(
                tls_server_name_indication="localhost", network_timeout=20, network_max_retries=3),
            scan_commands=commands(name),
            scan_commands_extra_arguments=ScanCommandsExtraArguments(
                certificate_info=CertificateInfoExtraArgument(custom_ca_file=Path(authority))))
        names[request.uuid] = name
        requests.append(request)
    scanner.queue_scans(requests)
    results = {}
    for result in scanner.get_results():
        assert result.scan_status == ServerScanStatusEnum.COMPLETED, (
            names[result.uuid], "".join(result.connectivity_error_trace.format()))
        results[names[result.uuid]] = result.scan_result
    assert results.keys() == addresses.keys()
    return results


class Findings(dict):
    """Everything in a scan that should not be so, by what it is about: a question for each command."""

    def __init__(self, result, authority):
        super().__init__()
        self.authority = Path(authority)
        for command in COMMANDS:
            attempt = getattr(result, command.value)
            if attempt.status == ScanCommandAttemptStatusEnum.NOT_SCHEDULED:
                continue
            assert attempt.status == ScanCommandAttemptStatusEnum.COMPLETED, (
                command, attempt.error_reason, "".join(attempt.error_trace.format()))
            if command.value in OLD:
                self.old_version(OLD[command.value], attempt.result)
            elif command.value in SUITES:
                self.suites(*SUITES[command.value], attempt.result)
            else:
                getattr(self, command.value)(attempt.result)

    def expect(self, holds, what, detail=""):
        if not holds:
            self[what] = str(detail)

    def old_version(self, version, found):
        self.expect(not found.accepted_cipher_suites, version, found.accepted_cipher_suites)

    def suites(self, version, allowed, found):
        accepted = {one.cipher_suite.name for one in found.accepted_cipher_suites}
        self.expect(accepted <= allowed, f"suites of {version}", accepted - allowed)
        self.expect(accepted >= allowed, f"missing suites of {version}", allowed - accepted)
        for one in found.accepted_cipher_suites:
            secret, suite = one.ephemeral_key, one.cipher_suite
            self.expect(secret is not None and secret.type_name == "ECDH", "forward secrecy", suite.name)
            self.expect(not suite.is_anonymous, "anonymous suites", suite.name)
            self.expect(suite.key_size >= 128, "key size", suite.name)

    def elliptic_curves(self, found):
        curves = {one.name for one in found.supported_curves or []}
        self.expect(curves == CURVES, "curves", curves ^ CURVES)

    def session_renegotiation(self, found):
        self.expect(found.supports_secure_renegotiation, "secure renegotiation")
        self.expect(not found.is_vulnerable_to_client_renegotiation_dos, "renegotiation by clients")

    def session_resumption(self, found):
        # A session that is resumed would skip the check of the client's certificate.
        self.expect(found.session_id_successful_resumptions_count == 0, "resumption by id")
        self.expect(found.tls_ticket_successful_resumptions_count == 0, "resumption by ticket")

    def heartbleed(self, found):
        self.expect(not found.is_vulnerable_to_heartbleed, "heartbleed")

    def openssl_ccs_injection(self, found):
        self.expect(not found.is_vulnerable_to_ccs_injection, "CCS injection")

    def robot(self, found):
        self.expect(found.robot_result == RobotScanResultEnum.NOT_VULNERABLE_RSA_NOT_SUPPORTED, "ROBOT", found.robot_result)

    def tls_compression(self, found):
        self.expect(not found.supports_compression, "compression")

    def tls_1_3_early_data(self, found):
        self.expect(not found.supports_early_data, "early data")

    def tls_fallback_scsv(self, found):
        self.expect(found.supports_fallback_scsv, "fallback SCSV")

    def tls_extended_master_secret(self, found):
        self.expect(found.supports_ems_extension, "extended master secret")

    def certificate_info(self, found):
        self.expect(len(found.certificate_deployments) == 1, "certificates", len(found.certificate_deployments))
        for deployment in found.certificate_deployments:
            trusted = [one.was_validation_successful for one in deployment.path_validation_results
                       if one.trust_store.path == self.authority]
            self.expect(trusted == [True], "a chain to the authority", trusted)
            self.expect(not deployment.verified_chain_has_sha1_signature, "SHA-1 in the chain")
            self.expect(deployment.received_chain_has_valid_order, "order of the chain")
            key = deployment.received_certificate_chain[0].public_key()
            self.expect(key.key_size >= (256 if hasattr(key, "curve") else 2048), "size of the key", key.key_size)


@pytest.fixture(scope="module")
def findings(tmp_path_factory, certificates):
    """One server with a listener of each protocol, scanned once."""
    from millrace_tests.secure import start_secure
    from millrace_tests.server import Server

    server = Server(tmp_path_factory.mktemp("scanned"), listeners=[
        "kafka+tls://127.0.0.1:0?auth=scram", "amqps://127.0.0.1:0?auth=plain", "https://127.0.0.1:0?auth=plain"])
    try:
        start_secure(server, certificates)
        results = scan(server.addresses, certificates.ca, lambda name: COMMANDS if name == "https" else WITHOUT_HTTP)
        assert server.running
        yield {scheme: Findings(result, certificates.ca) for scheme, result in results.items()}
    finally:
        server.close()


@pytest.mark.parametrize("scheme", ["kafka+tls", "amqps", "https"])
def test_sslyze_finds_no_weakness(findings, scheme):
    assert findings[scheme] == {}


@contextlib.contextmanager
def weak_server(directory):
    """OpenSSL's own server with everything on that it still has: old versions, weak suites, tickets, a certificate of its own."""
    certificate, key = directory / "weak.pem", directory / "weak.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=weak", "-days", "2", "-keyout", key, "-out",
         certificate], check=True, capture_output=True)
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-cipher", "ALL:eNULL:@SECLEVEL=0",
         "-legacy_renegotiation", "-client_renegotiation", "-early_data", "-no_anti_replay"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"})
    drain = None
    try:
        for line in process.stdout:
            if found := re.match(r"ACCEPT 127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise AssertionError("openssl's server did not start")
        # What it says of each connection must not fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield ("127.0.0.1", int(found.group(1)))
    finally:
        process.kill()
        process.wait()
        if drain is not None:
            drain.wait()


def test_sslyze_finds_the_weaknesses_of_a_weak_server(tmp_path, certificates):
    with weak_server(tmp_path) as address:
        found = Findings(scan({"weak": address}, certificates.ca, lambda _: QUICK, at_once=1)["weak"], certificates.ca)
    assert found.keys() >= {
        "TLS 1.0", "suites of TLS 1.2", "forward secrecy", "anonymous suites", "curves", "renegotiation by clients",
        "a chain to the authority"}, found
