output "instance_id" {
  description = "The machine's id."
  value       = aws_instance.this.id
}

output "launch_template_id" {
  description = "Id of the launch template."
  value       = module.machine.launch_template_id
}

output "launch_template_version" {
  description = "Newest version of the launch template."
  value       = module.machine.launch_template_version
}
