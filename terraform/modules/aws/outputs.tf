output "store_url" {
  description = "The store, as `--store` and `[tool.envboot]` take it; known once the bucket is there."
  value       = "s3://${var.create_bucket ? aws_s3_bucket.this[0].id : var.bucket_name}${var.key_prefix == "" ? "" : "/${var.key_prefix}"}"

  # Nobody should publish before the bucket is closed and encrypted.
  depends_on = [
    aws_s3_bucket_lifecycle_configuration.this,
    aws_s3_bucket_ownership_controls.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_public_access_block.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
  ]
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = local.bucket_arn
}

output "role_name" {
  description = "Name of the machines' role."
  value       = aws_iam_role.this.name
}

output "role_arn" {
  description = "ARN of the machines' role."
  value       = aws_iam_role.this.arn
}

output "instance_profile_name" {
  description = "Name of the instance profile, as `--instance-profile` of `envboot launch aws` takes it."
  value       = aws_iam_instance_profile.this.name
}

output "instance_profile_arn" {
  description = "ARN of the instance profile."
  value       = aws_iam_instance_profile.this.arn
}

output "security_group_id" {
  description = "Id of the security group, null where none was made."
  value       = one(aws_security_group.this[*].id)
}

output "launch_template_id" {
  description = "Id of the launch template, null where none was made."
  value       = one(aws_launch_template.this[*].id)
}

output "launch_template_version" {
  description = "Newest version of the launch template: a changed environment makes a new one."
  value       = one(aws_launch_template.this[*].latest_version)
}

output "autoscaling_group_name" {
  description = "Name of the autoscaling group, null where none was made."
  value       = one(aws_autoscaling_group.this[*].name)
}

output "autoscaling_group_arn" {
  description = "ARN of the autoscaling group, null where none was made."
  value       = one(aws_autoscaling_group.this[*].arn)
}

output "environment_digest" {
  description = "Digest of the environment that machines get."
  value       = local.environment_digest
}
