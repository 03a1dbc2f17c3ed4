"""Where Google Cloud is: project, region, credentials; one client a kind of resource."""

from __future__ import annotations

import configparser
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import google.auth
from google.api_core.retry import Retry
from google.cloud import compute_v1

from envboot.errors import ProvisionError
from envboot_provisioners.gcp.errors import FAULTS, explain, is_busy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot_provisioners.gcp.options import GcpSpec

_Client = TypeVar("_Client")
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT = 60.0
RETRY = Retry(predicate=is_busy, initial=0.5, maximum=8.0, timeout=40.0)
"""For what changes nothing, and for what says who it is: the same request may be repeated."""


def read_gcloud(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what gcloud's active configuration sets, as in `compute/zone`.

    Source: `gcloud topic configurations`.
    """
    home = Path(environment.get("HOME") or Path.home())
    folder = Path(environment.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    active = environment.get("CLOUDSDK_ACTIVE_CONFIG_NAME")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        active = active or (folder / "active_config").read_text("utf-8").strip()
        parser.read_string((folder / "configurations" / f"config_{active}").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {f"{part}/{name}": parser[part][name] for part in parser for name in parser[part]}


class GcpClients:
    """The services of one project, with the credentials that Google's libraries find.

    These read `GOOGLE_APPLICATION_CREDENTIALS` and their files from the process itself, which
    nothing can change; all else comes from `environment`.
    """

    def __init__(self, project: str | None, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._gcloud = read_gcloud(environment)
        self._endpoint = self._find_endpoint("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE")
        try:
            credentials, told = google.auth.default(scopes=_SCOPES)
        except FAULTS as error:
            raise explain(error, "Failed to find credentials of Google Cloud") from error
        self.credentials: Any = credentials
        found = (
            project
            or environment.get("CLOUDSDK_CORE_PROJECT")
            or environment.get("GOOGLE_CLOUD_PROJECT")
            or self._gcloud.get("core/project")
            or told
        )
        if not found:
            raise ProvisionError(
                "Expected a project of Google Cloud, found none",
                hint="Name one with `--project`, `GOOGLE_CLOUD_PROJECT`, or "
                "`gcloud config set project ID`",
            )
        self.project: str = found

    def find_place(self, spec: GcpSpec) -> tuple[str, tuple[str, ...]]:
        """Return the region and the zones that the user wants, none for any of the region.

        Raises:
            ProvisionError: neither is set anywhere.
        """
        if spec.zones:
            return spec.region or spec.zones[0].rpartition("-")[0], spec.zones
        given, set_up = self._environment, self._gcloud
        zone = given.get("CLOUDSDK_COMPUTE_ZONE") or set_up.get("compute/zone")
        region = given.get("CLOUDSDK_COMPUTE_REGION") or set_up.get("compute/region")
        if spec.region:
            return spec.region, ()
        if zone:
            return zone.rpartition("-")[0], (zone,)
        if region:
            return region, ()
        raise ProvisionError(
            "Expected a region of Google Cloud, found none",
            hint="Name one with `--region` or `--zone`, `CLOUDSDK_COMPUTE_REGION`, or "
            "`gcloud config set compute/region REGION`",
        )

    @cached_property
    def instances(self) -> compute_v1.InstancesClient:
        """Instances."""
        return self._make(compute_v1.InstancesClient)

    @cached_property
    def operations(self) -> compute_v1.ZoneOperationsClient:
        """Operations in a zone; those of `operation.result()` would ask the real service."""
        return self._make(compute_v1.ZoneOperationsClient)

    @cached_property
    def global_operations(self) -> compute_v1.GlobalOperationsClient:
        """Operations that are in no zone."""
        return self._make(compute_v1.GlobalOperationsClient)

    @cached_property
    def machine_types(self) -> compute_v1.MachineTypesClient:
        """Machine types."""
        return self._make(compute_v1.MachineTypesClient)

    @cached_property
    def zones(self) -> compute_v1.ZonesClient:
        """Zones."""
        return self._make(compute_v1.ZonesClient)

    @cached_property
    def regions(self) -> compute_v1.RegionsClient:
        """Regions, with their quotas."""
        return self._make(compute_v1.RegionsClient)

    @cached_property
    def images(self) -> compute_v1.ImagesClient:
        """Images."""
        return self._make(compute_v1.ImagesClient)

    @cached_property
    def networks(self) -> compute_v1.NetworksClient:
        """VPC networks."""
        return self._make(compute_v1.NetworksClient)

    @cached_property
    def subnetworks(self) -> compute_v1.SubnetworksClient:
        """Subnets."""
        return self._make(compute_v1.SubnetworksClient)

    @cached_property
    def templates(self) -> compute_v1.InstanceTemplatesClient:
        """Instance templates."""
        return self._make(compute_v1.InstanceTemplatesClient)

    def find_allowed(self, permissions: list[str]) -> list[str]:
        """Return those of the permissions that this identity has in the project.

        Compute Engine tells it of single resources only, the Resource Manager of projects.
        """
        from google.api_core import exceptions
        from google.auth.transport import requests

        start = self._find_endpoint("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER")
        url = f"{start or 'https://cloudresourcemanager.googleapis.com'}/v1/projects"
        make, refuse = requests.AuthorizedSession, exceptions.from_http_response
        answer = make(self.credentials).post(  # type: ignore[no-untyped-call]
            f"{url}/{self.project}:testIamPermissions",
            json={"permissions": permissions},
            timeout=TIMEOUT,
        )
        if answer.status_code != 200:
            raise refuse(answer)  # type: ignore[no-untyped-call]
        found: list[str] = answer.json().get("permissions", [])
        return found

    def _make(self, kind: type[_Client]) -> _Client:
        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        made: Any = kind
        client: _Client = made(credentials=self.credentials, client_options=options)
        return client

    def _find_endpoint(self, variable: str) -> str | None:
        """Return scheme and host of an endpoint as gcloud is given it, with its path or without."""
        parts = urlsplit(self._environment.get(variable, ""))
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
