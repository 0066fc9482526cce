# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EC2 as moto has it, in this process: each call is noted, with what was frozen at that moment."""

from __future__ import annotations

import io
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# What takes snapshots.
_TAKING = ("CreateSnapshot", "CreateSnapshots")
_REFUSAL = (
    "<Response><Errors><Error><Code>{code}</Code><Message>The limit is reached</Message></Error>"
    "</Errors><RequestID>1</RequestID></Response>"
)
_PATIENCE = 60.0
# Where moto forgets all that it has.
_RESET = "/moto-api/reset"


@dataclass(frozen=True)
class Call:
    """One call: its parameters, ``Action`` among them, and which filesystems were frozen."""

    parameters: Mapping[str, str]
    frozen: Sequence[str]

    @property
    def action(self) -> str:
        """What was called."""
        return self.parameters["Action"]

    @property
    def takes(self) -> bool:
        """Whether it takes snapshots."""
        return self.action in _TAKING and self.parameters.get("DryRun") != "true"


class Amazon:
    """A region of EC2 behind an address of this machine; :func:`open_amazon` starts one.

    ``calls`` are those that were heard. ``refuse`` is a code of Amazon's to refuse snapshots with.
    Once ``answers`` is cleared, a snapshot that is asked for is taken, but nobody is told until it
    is set again; once ``tells`` is, nobody is told anything else.
    """

    def __init__(self, watch: Callable[[], Sequence[str]]) -> None:
        self.calls: list[Call] = []
        self.refuse = ""
        self.answers = threading.Event()
        self.answers.set()
        self.tells = threading.Event()
        self.tells.set()
        self._watch = watch
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def client(self) -> Any:
        """A client of it, for what a test itself has to do."""
        return boto3.client("ec2", region_name=REGION, endpoint_url=self.url)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Note a call and let moto answer it."""
        if environ["PATH_INFO"] == _RESET:
            reset: Iterable[bytes] = self._moto(environ, start_response)
            return reset
        # moto wants to read all of it once more.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        parameters = dict(urllib.parse.parse_qsl(body.decode()))
        environ["wsgi.input"] = io.BytesIO(body)
        call = Call(parameters, self._watch())
        self.calls.append(call)
        if call.takes and self.refuse:
            refusal = Response(_REFUSAL.format(code=self.refuse), 400, mimetype="text/xml")
            return refusal(environ, start_response)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        (self.answers if call.takes else self.tells).wait(_PATIENCE)
        return answer

    def taking(self) -> list[Call]:
        """Return the calls that took snapshots, or should have."""
        return [call for call in self.calls if call.takes]

    def start(self) -> None:
        """Begin to listen, at the same port as before."""
        self._server = make_server(
            "127.0.0.1", self._port, self, threaded=True, request_handler=MotoRequestHandler
        )
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End; from now on a connection is refused."""
        self.answers.set()
        self.tells.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def instance(self, volumes: int) -> tuple[str, list[str]]:
        """Start an instance with so many volumes beside its root, and return their names."""
        reservation = self.client.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        instance = reservation["Instances"][0]["InstanceId"]
        names = [self.volume() for _number in range(volumes)]
        for letter, name in zip("fghijk", names, strict=False):
            self.client.attach_volume(VolumeId=name, InstanceId=instance, Device=f"/dev/sd{letter}")
        return instance, names

    def volume(self) -> str:
        """Make a volume that is attached to nothing."""
        made = self.client.create_volume(AvailabilityZone=f"{REGION}a", Size=3)
        return str(made["VolumeId"])

    def snapshots(self, name: str) -> dict[str, dict[str, str]]:
        """Return the tags of the snapshots of that name, by volume."""
        named = [{"Name": "tag:quiesce:name", "Values": [name]}]
        found = self.client.describe_snapshots(Filters=named)["Snapshots"]
        return {
            each["VolumeId"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in found
        }


@contextmanager
def open_amazon(watch: Callable[[], Sequence[str]]) -> Iterator[Amazon]:
    """Start a region, and end it with the block.

    :param watch: says which filesystems are frozen.
    """
    amazon = Amazon(watch)
    amazon.start()
    try:
        urllib.request.urlopen(amazon.url + _RESET, data=b"").close()
        yield amazon
    finally:
        amazon.stop()
