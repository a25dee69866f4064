"""Runs on a host: ask ports without a token and with a wrong one, print the answers as JSON.

usage: probe.py '[["10.0.0.1", 6379, "grpc", "/service/method"], …]'
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

SECONDS = 20.0
TOKENS = {"none": None, "wrong": "0" * 64}


def http(address: str, path: str, token: str | None) -> str:
    request = urllib.request.Request(f"http://{address}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return f"no answer: {error}"


def grpc(address: str, method: str, token: str | None) -> str:
    import grpc

    sent = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=SECONDS, metadata=sent)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    ask = {"http": http, "grpc": grpc}
    answers = [
        {name: ask[kind](f"{host}:{port}", path, token) for name, token in TOKENS.items()}
        for host, port, kind, path in json.loads(sys.argv[1])
    ]
    print(json.dumps(answers))
