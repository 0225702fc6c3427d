"""Calls the deployed API as a client does, and plays the payer of a checkout."""

import hashlib
import hmac
import http.client
import json
import os
import time
import urllib.parse

PROVIDER = os.environ["PROVIDER"]


class Api:
    """The deployed API. The emulator tells APIs apart by the Host header, so the name need not resolve."""

    def __init__(self, url, token):
        self.host, self.token = urllib.parse.urlsplit(url), token

    def __call__(self, method, path, body=None, token=None, key=None, raw=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.host.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Host": self.host.netloc}
        if token != "":
            headers["Authorization"] = "Bearer " + (token or self.token)
        if key:
            headers["Idempotency-Key"] = key
        if body is not None:
            headers["Content-Type"], raw = "application/json", json.dumps(body)
        connection.request(method, path, raw, headers)
        answer = connection.getresponse()
        content = answer.read()
        if "json" in (answer.getheader("content-type") or ""):
            content = json.loads(content)
        return answer.status, content


def check(answer, status):
    assert answer[0] == status, answer
    return answer[1]


def pay(api, checkout):
    """Pays a checkout at the provider. Returns a function that delivers the signed event to the deployed webhook."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(PROVIDER).netloc, timeout=30)
    connection.request("POST", f"/_local/checkouts/{checkout}/pay", '{"outcome":"succeeded"}')
    connection.getresponse().read()
    path = urllib.parse.urlsplit(PROVIDER).path + f"/v1/checkout/sessions/{checkout}"
    connection.request("GET", path, headers={"Authorization": "Bearer sk_local"})
    session = json.loads(connection.getresponse().read())
    event = json.dumps({"id": "evt_1", "type": "checkout.session.completed", "data": {"object": session}})
    return lambda secret="whsec_test": api(
        "POST", "/v1/webhooks/stripe", raw=event, token="", Content_Type="application/json", Stripe_Signature=sign(event, secret)
    )


def sign(event, secret):
    now = int(time.time())
    digest = hmac.new(secret.encode(), f"{now}.{event}".encode(), hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"
