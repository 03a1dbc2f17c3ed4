locals {
  bucket  = var.create_bucket ? google_storage_bucket.this[0].name : var.bucket_name
  objects = "projects/_/buckets/${var.bucket_name}/objects/${local.root}"

  readable = ["base", "environments", "launches", "layers", "packages", "tools"]

  # The client alone writes the record of a launch, and that it is over.
  reports = "resource.name.startsWith(\"${local.objects}reports/\") && !resource.name.endsWith(\"/launch.json\") && !resource.name.endsWith(\"/ended.json\")"
  bases   = "resource.name.startsWith(\"${local.objects}base/\") && (resource.name.endsWith(\"/env.tar.zst\") || resource.name.endsWith(\"/index.json\"))"
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
    expression = var.allow_publish ? "(${local.reports}) || (${local.bases})" : local.reports
  }
}

resource "google_secret_manager_secret_iam_member" "read" {
  for_each = var.secret_ids

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member
}
