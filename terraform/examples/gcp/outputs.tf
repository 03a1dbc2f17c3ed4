output "instance_group" {
  description = "URL of the group's instances."
  value       = module.fleet.instance_group
}

output "service_account_email" {
  description = "The machines' service account."
  value       = module.fleet.service_account_email
}
