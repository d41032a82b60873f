"""TLS as testssl.sh sees it, on a listener of each protocol of the release binary: `make tls-audit`.

    tls_audit.py [--keep DIRECTORY]

Every finding that testssl.sh grades as more than information must be one that is explained here, or the audit fails. Some minutes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from millrace_tests.secure import Certificates, certs, start_secure  # noqa: E402
from millrace_tests.server import Server  # noqa: E402

PROGRAM = shutil.which("testssl") or shutil.which("testssl.sh")
HARMLESS = {"OK", "INFO"}
# Findings that a local authority and this machine bring, by their beginnings, and why they say nothing of the server.
EXPLAINED = {
    "engine_problem": "testssl.sh finds no OpenSSL with GOST's suites here, which the server does not know",
    "service": "Kafka's protocol and AMQP are none that testssl.sh knows",
    "cert_revocation": "an authority for development, made for this run, keeps neither lists nor a service",
    "HSTS": "what is served is no site that people visit with a browser by name",
}


def audit(address, authority, file):
    """All findings of one listener."""
    host, port = address
    # An earlier run's findings say nothing of this one.
    file.unlink(missing_ok=True)
    done = subprocess.run(
        [PROGRAM, "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--add-ca", authority, "--jsonfile", str(file),
         "--ip", host, f"localhost:{port}"], capture_output=True, text=True, timeout=1800)
    if not file.exists():
        raise SystemExit(f"testssl.sh wrote no findings: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    findings = json.loads(file.read_text())
    # The last thing that testssl.sh writes. Without it, it gave up somewhere.
    if not any(one["id"] == "scanTime" for one in findings):
        raise SystemExit(f"testssl.sh did not come to its end: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return findings


def judge(found):
    """Fails when nothing explains a finding; `found` has them by scheme."""
    wrong = []
    for scheme, findings in found.items():
        # An audit that looked at nothing would find nothing.
        names = {one["id"] for one in findings}
        missing = {"TLS1_2", "TLS1_3", "SSLv3", "heartbleed", "ROBOT", "PFS", "cipherlist_NULL", "BREACH", "SWEET32", "LUCKY13"} - names
        if scheme != "https":
            missing -= {"BREACH"}
        if missing:
            wrong.append(f"{scheme}: nothing was said of {', '.join(sorted(missing))}")
        for one in findings:
            if one["severity"] in HARMLESS:
                continue
            reason = next((why for name, why in EXPLAINED.items() if one["id"].startswith(name)), None)
            line = f"{scheme}: {one['severity']} {one['id']}: {one['finding']}"
            if reason is None:
                wrong.append(line)
            else:
                print(f"explained: {line} ({reason})")
        print(f"{scheme}: {len(findings)} findings, {sum(one['severity'] == 'OK' for one in findings)} of them OK")
    if wrong:
        raise SystemExit("unexplained:\n" + "\n".join(wrong))
    print("no finding of weakness")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="keeps all findings as JSON in this directory")
    options = parser.parse_args()
    if PROGRAM is None:
        raise SystemExit("testssl.sh is not installed: apt-get install testssl.sh")
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        certs(directory / "certificates", "make")
        certificates = Certificates(directory / "certificates")
        server = Server(directory / "server", listeners=[
            "kafka+tls://127.0.0.1:0?auth=scram", "amqps://127.0.0.1:0?auth=plain", "https://127.0.0.1:0?auth=plain"])
        results = options.keep or directory
        results.mkdir(parents=True, exist_ok=True)
        try:
            start_secure(server, certificates)
            with ThreadPoolExecutor(3) as pool:
                running = {
                    scheme: pool.submit(audit, address, certificates.ca, results / f"{scheme.replace('+', '-')}.json")
                    for scheme, address in server.addresses.items()}
                found = {scheme: one.result() for scheme, one in running.items()}
            assert server.running, server.log_text()
        finally:
            server.close()
    judge(found)


if __name__ == "__main__":
    main()
