"""The rig's API server for scripts in Python, without anything to install."""
import base64
import http.client
import json
import os
import ssl
import tempfile
import time


def kubeconfig(path):
    """Server, CA and client certificate of a kubeconfig in the plain form that the rig writes."""
    found = {}
    for line in open(path):
        for key in ("server", "certificate-authority-data", "client-certificate-data", "client-key-data",
                    "certificate-authority", "client-certificate", "client-key"):
            marker = key + ":"
            if marker in line and key not in found:
                found[key] = line.split(marker, 1)[1].split(",")[0].split("}")[0].strip().strip('"')
    return found


def api_connection(path):
    conf = kubeconfig(path)
    context = ssl.create_default_context()

    def file_of(name):
        if name + "-data" in conf:
            file = tempfile.NamedTemporaryFile(delete=False)
            file.write(base64.b64decode(conf[name + "-data"]))
            file.close()
            return file.name
        return os.path.join(os.path.dirname(path), conf[name])

    context.load_verify_locations(file_of("certificate-authority"))
    context.load_cert_chain(file_of("client-certificate"), file_of("client-key"))
    host = conf["server"].removeprefix("https://")
    return http.client.HTTPSConnection(host, context=context, timeout=30)


class Api:
    def __init__(self, path):
        self.connection = api_connection(path)
        self.used = time.monotonic()

    def call(self, method, path, body=None, kind="application/json"):
        # The server closes what is idle for long; it is opened again by itself.
        if time.monotonic() - self.used > 30:
            self.connection.close()
        self.used = time.monotonic()
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {"content-type": kind, "accept": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
