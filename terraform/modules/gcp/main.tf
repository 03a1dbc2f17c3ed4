locals {
  # What keys begin with: `envboot/`, or nothing.
  root   = var.key_prefix == "" ? "" : "${var.key_prefix}/"
  labels = merge({ "envboot-fleet" = var.name }, var.labels)

  # A file may end with a line break.
  user_data = var.user_data == null ? null : trimspace(var.user_data)
  is_packed = var.user_data == null ? false : startswith(local.user_data, "H4sI")

  metadata = merge(
    {
      enable-oslogin             = "TRUE"
      block-project-ssh-keys     = "TRUE"
      (var.user_data_key)        = local.is_packed ? local.user_data : var.user_data
      envboot-environment        = var.environment_digest
      serial-port-logging-enable = "TRUE"
    },
    local.is_packed ? { user-data-encoding = "base64" } : {},
  )
}

resource "google_compute_instance_template" "this" {
  #checkov:skip=CKV_GCP_40:A public address is given only where `public_ip` asks for one
  #checkov:skip=CKV_GCP_32:`local.metadata` blocks them, which the scan does not look into
  count = var.create_instance_template ? 1 : 0

  # Templates cannot change: a new one stands beside the old one until the group has rolled.
  name_prefix  = "${var.name}-"
  description  = "envboot environment ${var.environment_digest}"
  machine_type = var.machine_type
  labels       = local.labels
  metadata     = local.metadata
  tags         = var.network_tags

  disk {
    boot         = true
    auto_delete  = true
    source_image = var.source_image
    disk_size_gb = var.boot_disk_size_gb
    disk_type    = var.boot_disk_type
    labels       = local.labels

    dynamic "disk_encryption_key" {
      for_each = var.boot_disk_kms_key == null ? [] : [var.boot_disk_kms_key]

      content {
        kms_key_self_link = disk_encryption_key.value
      }
    }
  }

  network_interface {
    network    = var.subnetwork == null ? var.network : null
    subnetwork = var.subnetwork

    dynamic "access_config" {
      for_each = var.public_ip ? [true] : []

      content {
        network_tier = "PREMIUM"
      }
    }
  }

  service_account {
    email = google_service_account.this.email
    # What it may do is said by IAM alone.
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  scheduling {
    automatic_restart           = !var.spot
    on_host_maintenance         = var.spot ? "TERMINATE" : "MIGRATE"
    preemptible                 = var.spot
    provisioning_model          = var.spot ? "SPOT" : "STANDARD"
    instance_termination_action = var.spot ? "STOP" : null
  }

  lifecycle {
    create_before_destroy = true
  }
}
