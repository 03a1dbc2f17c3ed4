output "environment_digest" {
  description = "The environment that machines get."
  value       = module.fleet.environment_digest
}

output "launch_template_version" {
  description = "Newest version of the launch template."
  value       = module.fleet.launch_template_version
}

output "autoscaling_group_name" {
  description = "Name of the group."
  value       = module.fleet.autoscaling_group_name
}
