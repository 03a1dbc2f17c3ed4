locals {
  bucket  = var.create_bucket ? google_storage_bucket.this[0].name : var.bucket_name
  objects = "projects/_/buckets/${var.bucket_name}/objects/${local.root}"

  readable  = ["base", "environments", "launches", "layers", "packages", "tools"]
  creatable = concat(["reports"], var.allow_publish ? ["base"] : [])
}

resource "google_service_account" "this" {
  account_id   = var.name
  display_name = "Machines of ${var.name}"
}

resource "google_storage_bucket_iam_member" "read" {
  bucket = local.bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.this.member

  condition {
    title      = "envboot-read"
    expression = join(" || ", [for folder in local.readable : "resource.name.startsWith(\"${local.objects}${folder}/\")"])
  }
}

# An object creator cannot overwrite: that would be to delete.
resource "google_storage_bucket_iam_member" "create" {
  bucket = local.bucket
  role   = "roles/storage.objectCreator"
  member = google_service_account.this.member

  condition {
    title      = "envboot-create"
    expression = join(" || ", [for folder in local.creatable : "resource.name.startsWith(\"${local.objects}${folder}/\")"])
  }
}

resource "google_secret_manager_secret_iam_member" "read" {
  for_each = var.secret_ids

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member
}
