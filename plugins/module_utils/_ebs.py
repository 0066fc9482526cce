# Copyright: (c) 2026, quiesce.storage contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of EBS volumes of an EC2 instance, all of one instant.

Runs on the controller, where boto3 is; it is imported when it is needed, and by nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.quiesce.storage.plugins.module_utils._errors import QuiesceError

# How many volumes a request may leave out.
_MOST_LEFT_OUT = 40
# Seconds: a filesystem is frozen meanwhile.
_CONNECT, _READ = 5, 60

# What to do about an error of Amazon's, by its code.
_ADVICE = {
    "AuthFailure": "check the credentials, and the clock",
    "ConcurrentSnapshotLimitExceeded": "wait until earlier snapshots of a volume are completed",
    "PendingSnapshotLimitExceeded": "wait until earlier snapshots are completed",
    "RequestLimitExceeded": "too many calls at once; let fewer hosts have their turn together",
    "SnapshotCreationPerVolumeRateExceeded": (
        "a snapshot of one of the volumes was begun just now; wait for 15 seconds"
    ),
    "SnapshotLimitExceeded": "remove snapshots, or have the quota raised",
    "UnauthorizedOperation": (
        "the credentials must allow ec2:CreateSnapshots, ec2:CreateTags, ec2:DescribeInstances and "
        "ec2:DescribeVolumes"
    ),
}


class Ebs:
    """The EC2 interface of one region."""

    def __init__(
        self, region: str | None, profile: str | None, endpoint: str | None, seconds: float = 0
    ) -> None:
        """Connect; with None, to what the environment and boto3's own files say.

        :param seconds: from now on, until no snapshot is asked for any more; 0 means no limit.
        :raises QuiesceError: no boto3, no such profile, or no region.
        """
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds if seconds else float("inf")
        try:
            boto3 = importlib.import_module("boto3")
            botocore = importlib.import_module("botocore")
            configuration = importlib.import_module("botocore.config")
            exceptions = importlib.import_module("botocore.exceptions")
        except ImportError as error:
            raise QuiesceError(
                "the Python library boto3 is not there (%s); install it for %s, or have "
                "ansible_python_interpreter name a Python that has it" % (error, sys.executable)
            ) from error
        self._refused = exceptions.ClientError
        self._failures = (exceptions.BotoCoreError, exceptions.ClientError, ValueError)
        # A call whose answer was lost may have been heard: a second one would be a second set.
        config = configuration.Config(
            connect_timeout=_CONNECT,
            read_timeout=_READ,
            retries={"total_max_attempts": 1},
            user_agent_extra="quiesce.storage boto/%s" % botocore.__version__,
        )
        try:
            # boto3 itself does not look at the first of these, which amazon.aws and the AWS CLI do.
            region = region or os.environ.get("AWS_REGION")
            session = boto3.session.Session(profile_name=profile, region_name=region)
            self._client = session.client("ec2", endpoint_url=endpoint, config=config)
        except self._failures as error:
            raise QuiesceError("no connection to EC2: %s" % error) from error

    def instance_of(self, volumes: Sequence[str]) -> str:
        """Return the one instance that all of these volumes are attached to.

        :raises QuiesceError: there is none, or several, or a volume is not there.
        """
        answer = self._call("describe_volumes", VolumeIds=list(volumes))
        sets: list[set[str]] = [
            {attachment["InstanceId"] for attachment in volume["Attachments"]}
            for volume in answer["Volumes"]
        ]
        common = set.intersection(*sets)
        if len(common) != 1:
            raise QuiesceError(
                "%s: attached to %s, and not to one instance; name it"
                % (", ".join(volumes), ", ".join(sorted(set.union(*sets))) or "nothing")
            )
        return common.pop()

    def volumes_of(self, instance: str) -> tuple[str, list[str]]:
        """Return an instance's root volume, "" if that is not on EBS, and its other volumes.

        :raises QuiesceError: there is no such instance, or it could not be asked for.
        """
        answer = self._call("describe_instances", InstanceIds=[instance])
        found = answer["Reservations"][0]["Instances"][0]
        root, others = "", []
        for mapping in found.get("BlockDeviceMappings", []):
            if "Ebs" not in mapping:
                continue
            if mapping["DeviceName"] == found.get("RootDeviceName"):
                root = mapping["Ebs"]["VolumeId"]
            else:
                others.append(mapping["Ebs"]["VolumeId"])
        return root, others

    def snapshot(
        self,
        instance: str,
        volumes: Sequence[str],
        tags: Mapping[str, str],
        description: str,
        dry_run: bool = False,
    ) -> list[dict[str, Any]]:
        """Have snapshots of these volumes begun in one call, and return them as EC2 does.

        A volume that was attached at that very moment has one as well.

        :param dry_run: have EC2 say whether it would, and take none.
        :raises QuiesceError: a volume is not attached to the instance, EC2 refuses, or it is late.
        """
        root, others = self.volumes_of(instance)
        wanted = set(volumes)
        strangers = wanted - {root, *others}
        if strangers:
            raise QuiesceError(
                "%s: not attached to the instance %s" % (", ".join(sorted(strangers)), instance)
            )
        left_out = [volume for volume in others if volume not in wanted]
        if len(left_out) > _MOST_LEFT_OUT:
            raise QuiesceError(
                "the instance %s has %d more volumes, and a call can leave out %d at most"
                % (instance, len(left_out), _MOST_LEFT_OUT)
            )
        which: dict[str, Any] = {"InstanceId": instance, "ExcludeBootVolume": root not in wanted}
        if left_out:
            which["ExcludeDataVolumeIds"] = left_out
        request: dict[str, Any] = {"InstanceSpecification": which}
        if description:
            request["Description"] = description
        if tags:
            pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
            request["TagSpecifications"] = [{"ResourceType": "snapshot", "Tags": pairs}]
        if dry_run:
            self._call("create_snapshots", **request, DryRun=True)
            return []
        # Whoever had this run may have given up on it, and has looked for what it took.
        if time.monotonic() > self._deadline:
            raise QuiesceError(
                "no snapshot was asked for: EC2's earlier answers took longer than %g s"
                % self._seconds
            )
        taken: list[dict[str, Any]] = self._call("create_snapshots", **request)["Snapshots"]
        missing = wanted - {each["VolumeId"] for each in taken}
        if missing:
            raise QuiesceError(
                "EC2 took no snapshot of %s" % ", ".join(sorted(missing)),
                taken=[each["SnapshotId"] for each in taken],
            )
        return taken

    def _call(self, name: str, **request: Any) -> dict[str, Any]:
        """Call EC2 once; :raises QuiesceError: it refused, or could not be reached."""
        try:
            answer: dict[str, Any] = getattr(self._client, name)(**request)
        except self._refused as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "DryRunOperation":  # it would have been done
                return {}
            advice = "; %s" % _ADVICE[code] if code in _ADVICE else ""
            raise QuiesceError("%s%s" % (error, advice), code=code) from error
        except self._failures as error:
            raise QuiesceError("EC2 could not be asked: %s" % error) from error
        return answer
