locals {
  # What nobody needs after a day, and bases, which clients refresh with every launch and rendering.
  lives = merge(
    {
      launches = 8
      layers   = var.layer_expiration_days
      locks    = 1
      reports  = var.report_expiration_days
    },
    var.base_expiration_days == null ? {} : { base = var.base_expiration_days },
  )
}

# It has no ACLs, and nothing in it can be public. Requests with credentials need TLS anyway.
resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62:Access logs are the project's own choice: `access_log_bucket` turns them on
  #checkov:skip=CKV_GCP_78:Keys are digests of their content and are created once: there is nothing to go back to
  count = var.create_bucket ? 1 : 0

  name                        = var.bucket_name
  location                    = var.bucket_location
  force_destroy               = var.bucket_force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  # What lives a day should not be billed for seven more.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]

    content {
      default_kms_key_name = encryption.value
    }
  }

  dynamic "logging" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]

    content {
      log_bucket        = logging.value
      log_object_prefix = var.bucket_name
    }
  }

  dynamic "lifecycle_rule" {
    for_each = local.lives

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${local.root}${lifecycle_rule.key}/"]
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age            = 1
      matches_prefix = local.root == "" ? null : [local.root]
    }
  }
}
