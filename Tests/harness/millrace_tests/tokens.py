"""Tokens as an issuer signs them, and as somebody does who would like to be one. With Debian's openssl, and no library of tokens."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
from pathlib import Path

ISSUER, AUDIENCE = "https://issuer.example", "millrace"


def encode(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def openssl(*arguments, stdin=b""):
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, check=True, capture_output=True).stdout


class Key:
    """An RSA key with a name."""

    def __init__(self, directory, name):
        self.name, self.file = name, Path(directory) / f"{name}.issuer.pem"
        openssl("genrsa", "-out", self.file, 2048)

    @property
    def public_pem(self):
        return openssl("rsa", "-in", self.file, "-pubout")

    @property
    def entry(self):
        modulus = openssl("rsa", "-in", self.file, "-noout", "-modulus").decode().strip().partition("=")[2]
        return {"kty": "RSA", "kid": self.name, "use": "sig", "alg": "RS256", "n": encode(bytes.fromhex(modulus)), "e": "AQAB"}

    def sign(self, message):
        return openssl("dgst", "-sha256", "-sign", self.file, stdin=message)


class Issuer:
    """A key file with one key, and tokens that it vouches for."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.file = self.directory / "issuer.json"
        self.key = Key(directory, "one")
        self.publish(self.key)

    def publish(self, *keys):
        """What the file says from now on; replaced at once, as a rotation does."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"keys": [key.entry for key in keys]}))
        fresh.replace(self.file)

    def token(self, user, lifetime_seconds=300, key=None, kid=None, **claims):
        key, now = key or self.key, int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + lifetime_seconds} | claims
        signed = f'{encode({"alg": "RS256", "typ": "JWT", "kid": kid or key.name})}.{encode(claims)}'
        return f"{signed}.{encode(key.sign(signed.encode()))}"

    def forged(self, user):
        """Tokens that must never be taken, by what is wrong with them."""
        now = int(time.time())
        stranger = Key(self.directory, "stranger")
        good = self.token(user)
        claims = encode({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "exp": now + 300})
        none = f'{encode({"alg": "none"})}.{claims}.'
        shared = f'{encode({"alg": "HS256", "kid": self.key.name})}.{claims}'
        mac = hmac.new(self.key.public_pem, shared.encode(), hashlib.sha256).digest()
        head, body, signature = good.split(".")
        other = encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "admin", "exp": now + 300})
        return {
            "wrongIssuer": self.token(user, iss="https://evil.example"),
            "wrongAudience": self.token(user, aud=["another"]),
            "expired": self.token(user, exp=now - 60, iat=now - 600),
            "notYetValid": self.token(user, nbf=now + 600),
            "unsupportedAlgorithm": none,
            "unsupportedAlgorithm by HMAC": f"{shared}.{encode(mac)}",
            "unknownKey": self.token(user, kid="nobody"),
            "invalidSignature by a stranger": self.token(user, key=stranger, kid=self.key.name),
            "invalidSignature of other claims": f"{head}.{other}.{signature}",
            "untrustedToken": self.token(user, sub=""),
            "malformed": "nonsense",
        }
