"""A token issuer with its own keys, served over TLS as API Gateway's authorizer requires.

    issuer.py FOLDER

creates the key and the certificate in FOLDER.
"""

import base64
import datetime
import http.server
import ipaddress
import json
import ssl
import sys
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def text64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def make_certificate(folder):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    with open(f"{folder}/issuer.key", "wb") as file:
        file.write(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
    with open(f"{folder}/issuer.pem", "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))


class Signer:
    """Signs tokens of an issuer."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def documents(self):
        """Returns what the issuer serves, by path."""
        numbers = self.key.public_key().public_numbers()
        whole = lambda number: text64(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        keys = {"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "n": whole(numbers.n), "e": whole(numbers.e)}]}
        return {"/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": self.url + "/keys"}, "/keys": keys}

    def token(self, workspace, scope="credits:spend credits:read credits:manage", audience="ai-credits"):
        now = int(time.time())
        claims = {"iss": self.url, "aud": audience, "iat": now, "exp": now + 3600, "scope": scope, "workspace": workspace}
        signed = text64(b'{"alg":"RS256","kid":"1"}') + "." + text64(json.dumps(claims).encode())
        return signed + "." + text64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))


class Issuer(Signer):
    """Serves its public keys from this machine."""

    def __init__(self, folder):
        with open(f"{folder}/issuer.key", "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/issuer.pem", f"{folder}/issuer.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        super().__init__(f"https://127.0.0.1:{server.server_address[1]}", key)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def handler(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                known = issuer.documents()
                self.send_response(200 if self.path in known else 404)
                self.end_headers()
                self.wfile.write(json.dumps(known.get(self.path, {})).encode())

            def log_message(self, *_):
                pass

        return Handler


if __name__ == "__main__":
    make_certificate(sys.argv[1])
