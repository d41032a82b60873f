#!/usr/bin/env python3
"""Prints an exchange of SCRAM as Python's hashlib computes it: make-scram-vectors.py

The one with SHA-256 is that of RFC 7677, section 3; the one with SHA-512 has the same inputs. Both stand in
Tests/MillraceSecurityTests/ScramVectorTests.swift.
"""

import base64
import hashlib
import hmac

USER, PASSWORD, ITERATIONS = "user", b"pencil", 4096
CLIENT, SERVER, SALT = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ=="


def text(data):
    return base64.b64encode(data).decode()


for name in ("sha256", "sha512"):
    def mac(key, message):
        return hmac.digest(key, message, name)

    salted = hashlib.pbkdf2_hmac(name, PASSWORD, base64.b64decode(SALT), ITERATIONS)
    client_key, server_key = mac(salted, b"Client Key"), mac(salted, b"Server Key")
    stored_key = hashlib.new(name, client_key).digest()
    bare = f"n={USER},r={CLIENT}"
    challenge = f"r={CLIENT}{SERVER},s={SALT},i={ITERATIONS}"
    final = f"c=biws,r={CLIENT}{SERVER}"
    message = f"{bare},{challenge},{final}".encode()
    proof = bytes(a ^ b for a, b in zip(client_key, mac(stored_key, message)))
    print(name, "n,," + bare, challenge, f"{final},p={text(proof)}", f"v={text(mac(server_key, message))}", sep="\n  ")
    print("  salted", text(salted))
    print("  stored", text(stored_key))
    print("  server", text(server_key))
