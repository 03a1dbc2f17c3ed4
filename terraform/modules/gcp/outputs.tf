output "bucket_url" {
  description = "URL of the bucket, and the prefix of its keys."
  value       = "gs://${local.bucket}${var.key_prefix == "" ? "" : "/${var.key_prefix}"}"
}

output "service_account_email" {
  description = "The machines' service account."
  value       = google_service_account.this.email
}

output "instance_template_self_link" {
  description = "The instance template, null where none was made: a changed environment makes a new one."
  value       = one(google_compute_instance_template.this[*].self_link_unique)
}

output "instance_group" {
  description = "URL of the group's instances, null where none was made."
  value       = one(google_compute_region_instance_group_manager.this[*].instance_group)
}

output "environment_digest" {
  description = "Digest of the environment that machines get."
  value       = var.environment_digest
}
