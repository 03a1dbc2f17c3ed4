"""What is wrong with a launch on Compute Engine is said at once, all of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners.gcp import GcpProvisioner
from envboot_provisioners.gcp.options import OPTIONS, find_image, read_images, read_spec
from envboot_provisioners.gcp.request import compose_metadata, find_disk_type
from tests.sessions import make_session

if TYPE_CHECKING:
    from tests.gce import Gce


def test_every_option_is_read() -> None:
    given: dict[str, Any] = {
        "machine-type": "c4a-standard-8",
        "image": "rocky",
        "cloud-init": "yes",
        "project": "team-project-42",
        "region": "europe-west4",
        "zone": ("europe-west4-b", "europe-west4-b"),
        "network": "inside",
        "subnet": "inside",
        "public-ip": "no",
        "service-account": "default",
        "scope": ("storage-rw", "https://www.googleapis.com/auth/logging.write"),
        "root-size": "40",
        "disk-type": "pd-ssd",
        "spot": "true",
        "spot-only": "true",
        "shielded": "no",
        "tag": ("inside",),
        "label": ("team=x", "empty="),
    }
    assert given.keys() == {option.name for option in OPTIONS}
    spec, faults = read_spec(given)
    assert faults == []
    assert spec.zones == ("europe-west4-b",)
    assert spec.scopes == (
        "https://www.googleapis.com/auth/devstorage.read_write",
        "https://www.googleapis.com/auth/logging.write",
    )
    assert (spec.spot, spec.standard, spec.public_ip, spec.shielded) == (True, False, False, False)
    assert spec.labels == (("team", "x"), ("empty", ""))
    assert spec.has_cloud_init


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine-type": "m6i.large"}, "Expected a machine type, such as `e2-standard-4`, found"),
        (
            {"zone": ("us-east-1a",)},
            "Expected a zone, such as `europe-west4-a`, found `us-east-1a`",
        ),
        ({"image": "amazon-linux"}, "Unknown image `amazon-linux`"),
        (
            {"label": ("Team=x",)},
            "Expected a label of small letters, digits, `-` and `_`, found `Team=x`",
        ),
        ({"label": ("team",)}, "Expected a label as `KEY=VALUE`, found `team`"),
        ({"label": ("envboot-launch=x",)}, "Cannot set the label `envboot-launch`"),
        ({"label": ("a=1", "a=2")}, "Cannot set the label `a` twice"),
        ({"label": tuple(f"k{n}=v" for n in range(64))}, "Expected at most 63 labels, found 64"),
        ({"tag": ("Not_OK",)}, "Expected a tag, such as `no-inbound`, found `Not_OK`"),
        ({"root-size": "0"}, "Expected `root-size` as GiB from 1 to 65,536, found `0`"),
        ({"scope": ("storage-rw",)}, "Cannot take `scope` without `service-account`"),
        ({"service-account": "me"}, "Expected a service account, such as `machine@my-project-42."),
        ({"image": "cos"}, "Container-Optimized OS has no Python"),
        ({"image": "projects/cos-cloud/global/images/family/cos-stable"}, "no package manager"),
        ({"image": "projects/mine/global/images/cos-113-18244"}, "Container-Optimized OS"),
    ],
)
def test_a_word_that_is_wrong_is_told_without_asking(options: Any, words: str) -> None:
    _, faults = read_spec(options)
    (fault,) = faults
    assert words in fault.message


def test_only_images_of_ubuntu_are_known_to_have_cloud_init() -> None:
    known = {name: read_spec({"image": name})[0].has_cloud_init for name in read_images()}
    assert known == {"ubuntu": True, "ubuntu-22.04": True, "debian": False, "rocky": False}
    for path, wanted in (
        ("projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64", True),
        ("projects/mine/global/images/golden", False),
    ):
        assert read_spec({"image": path})[0].has_cloud_init == wanted
    spec, _ = read_spec({"image": "projects/mine/global/images/golden", "cloud-init": "yes"})
    assert spec.has_cloud_init
    found = find_image(spec, "linux-64")
    assert found
    assert (found.project, found.name, found.is_family) == ("mine", "golden", False)


def test_binary_user_data_says_how_it_is_encoded() -> None:
    assert compose_metadata(b"eA==", cloud_init=True, encoding="base64") == {
        "user-data": "eA==",
        "user-data-encoding": "base64",
    }
    assert compose_metadata(b"x", cloud_init=True, encoding=None) == {"user-data": "x"}
    assert compose_metadata(b"x", cloud_init=False, encoding=None) == {"startup-script": "x"}


def test_machines_that_take_no_persistent_disk_get_another() -> None:
    kinds = {kind: find_disk_type(kind) for kind in ("e2-micro", "c3-standard-4", "c4-standard-2")}
    assert kinds == {
        "e2-micro": "pd-balanced",
        "c3-standard-4": "pd-balanced",
        "c4-standard-2": "hyperdisk-balanced",
    }


@pytest.mark.sockets
def test_the_platform_is_that_of_the_machine_type(gce: Gce, gcp: GcpProvisioner) -> None:
    assert gcp.check({}) == "linux-64"
    assert gcp.check({"machine-type": "c4a-standard-8"}) == "linux-aarch64"


@pytest.mark.sockets
def test_everything_that_is_not_there_is_told_at_once(gce: Gce, gcp: GcpProvisioner) -> None:
    with pytest.raises(ProvisionError, match="Cannot launch on Compute Engine, for 4") as caught:
        gcp.check(
            {
                "machine-type": "e2-standard-3",
                "image": "projects/mine/global/images/missing",
                "network": "nowhere",
                "label": ("Team=x",),
            }
        )
    told = "\n".join(caught.value.causes)
    for words in (
        "Expected a label of small letters",
        "Machine type `e2-standard-3` was not found",
        "Image `projects/mine/global/images/missing` was not found in the project `mine`",
        "Network `nowhere` was not found",
    ):
        assert words in told
    assert "Close to it are `e2-standard-4`" in " ".join(caught.value.causes)


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"region": "europe-west9"}, "Region `europe-west9` was not found"),
        ({"zone": ("europe-west4-z",)}, "Zone `europe-west4-z` was not found in `europe-west4`"),
        (
            {"machine-type": "g2-standard-4", "zone": ("europe-west4-b",)},
            "Machine type `g2-standard-4` is not offered in `europe-west4-b`",
        ),
        ({"root-size": "5"}, "Expected `root-size` of at least 10 GiB, which the image"),
        (
            {"image": "projects/mine/global/images/golden-arm64"},
            "Expected an image of `X86_64`, which `e2-standard-4` is",
        ),
        (
            {"image": "projects/mine/global/images/bios", "shielded": "yes"},
            "cannot be a Shielded VM: it does not boot by UEFI",
        ),
        (
            {"subnet": "projects/host/regions/us-east1/subnetworks/default"},
            "Expected a subnet in `europe-west4`",
        ),
        ({"subnet": "nowhere"}, "Subnet `nowhere` was not found in `europe-west4`"),
    ],
)
def test_one_thing_alone_keeps_its_own_words(
    gce: Gce, gcp: GcpProvisioner, options: Any, words: str
) -> None:
    with pytest.raises(ProvisionError) as caught:
        gcp.check(options)
    assert words in caught.value.message


@pytest.mark.sockets
def test_machines_that_ask_by_role_need_a_service_account(gce: Gce, gcp: GcpProvisioner) -> None:
    with pytest.raises(ProvisionError, match="Expected a service account, whose token") as caught:
        gcp.check({}, by_role=True)
    # Templates are by role only: signed URLs are no way out there.
    assert caught.value.hint == "Name one with `--service-account`"
    assert gcp.check({"service-account": "default"}, by_role=True) == "linux-64"


@pytest.mark.sockets
def test_machines_whose_scopes_are_too_small_to_report_are_refused(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    def check(*scopes: str, by_role: bool = True) -> str | None:
        return gcp.check({"service-account": "default", "scope": scopes}, by_role=by_role)

    for small in ("devstorage.read_only", "storage-ro", "logging.write"):
        with pytest.raises(ProvisionError, match="Expected a scope that writes into") as caught:
            check(small)
        assert "devstorage.read_write" in str(caught.value.hint)
        assert check(small, by_role=False) == "linux-64"
    for enough in ("cloud-platform", "storage-rw", "devstorage.full_control"):
        assert check("logging.write", enough) == "linux-64"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"region": "nowhere"}, "`gcloud compute regions list` lists them"),
        ({"disk-type": "foo"}, "`gcloud compute disk-types list` lists them"),
        (
            {"image": "ubuntu-2404-lts-amd64"},
            "`--image projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64`",
        ),
        (
            {"image": "rocky-linux-cloud/rocky-linux-9-arm64"},
            "`--image projects/rocky-linux-cloud/global/images/family/rocky-linux-9-arm64`",
        ),
        ({"label": ("Team=x",)}, "Key and value have at most 63 of them"),
    ],
)
def test_a_wrong_word_has_a_way_out(options: Any, hint: str) -> None:
    _, (fault,) = read_spec(options)
    assert hint in str(fault.hint)


@pytest.mark.sockets
def test_a_permission_that_lacks_is_named(gce: Gce, gcp: GcpProvisioner) -> None:
    gce.denied.add("compute.machineTypes.list")
    with pytest.raises(ProvisionError) as caught:
        gcp.check({})
    assert "Required 'compute.machineTypes.list' permission" in caught.value.causes[0]
    assert "Grant this identity `compute.machineTypes.list`" in str(caught.value.hint)


@pytest.mark.sockets
def test_without_project_or_region_the_ways_to_set_them_are_told(
    gce: Gce, gcp: GcpProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gcp.find_plan({}).region
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION")
    with pytest.raises(ProvisionError, match="Expected a region of Google Cloud, found none"):
        type(gcp)(make_session()).check({})
    # As `gcloud config set compute/zone` leaves it.
    folder = gce.key.parent
    (folder / "active_config").write_text("team")
    (folder / "configurations").mkdir()
    (folder / "configurations/config_team").write_text("[compute]\nzone = europe-west4-b\n")
    assert type(gcp)(make_session(state=folder)).find_plan({}).zones == ("europe-west4-b",)
    assert (
        type(gcp)(make_session(state=folder)).find_plan({"region": "europe-west4"}).zones[0]
        == "europe-west4-a"
    )


@pytest.mark.sockets
def test_without_credentials_the_way_to_sign_in_is_told(
    gce: Gce, gcp: GcpProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gce.key.parent / "missing.json"))
    with pytest.raises(ProvisionError, match="Failed to find credentials") as caught:
        gcp.check({"label": ()})
    assert "gcloud auth application-default login" in str(caught.value.hint)


@pytest.mark.sockets
def test_region_and_project_are_the_sessions_whatever_the_process_has(gce: Gce) -> None:
    chosen = {
        **os.environ,
        "CLOUDSDK_CORE_PROJECT": "other-project-7",
        "CLOUDSDK_COMPUTE_REGION": "europe-north1",
    }
    made = GcpProvisioner(make_session(environment=chosen))
    clients = made.find_clients()
    assert clients.project == "other-project-7"
    spec, _ = read_spec({})
    assert clients.find_place(spec) == ("europe-north1", ())
