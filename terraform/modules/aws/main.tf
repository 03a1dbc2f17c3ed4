data "aws_partition" "current" {}

locals {
  # What keys begin with: `envboot/`, or nothing.
  root      = var.key_prefix == "" ? "" : "${var.key_prefix}/"
  partition = data.aws_partition.current.partition

  tags = merge({ "envboot:fleet" = var.name }, var.tags)

  # A file may end with a line break.
  user_data_base64 = var.user_data_base64 == null ? null : trimspace(var.user_data_base64)

  # The digest is taken of canonical JSON; jsonencode escapes five characters that are not.
  manifest = var.manifest == null ? null : jsondecode(var.manifest)
  digested = var.manifest == null ? null : jsonencode({
    for part in ["base", "layer"] : part => local.manifest[part] if can(local.manifest[part])
  })
  canonical = var.manifest == null ? "" : replace(replace(replace(replace(replace(local.digested,
  "\\u003c", "<"), "\\u003e", ">"), "\\u0026", "&"), "\\u2028", "\u2028"), "\\u2029", "\u2029")
  manifest_digest = var.manifest == null ? null : "sha256:${sha256("envboot-environment-v1\n${local.canonical}")}"

  environment_digest = var.environment_digest != null ? var.environment_digest : local.manifest_digest
}

resource "aws_launch_template" "this" {
  #checkov:skip=CKV_AWS_88:A public address is given only where `associate_public_ip_address` asks for one
  count = var.create_launch_template ? 1 : 0

  name                   = var.name
  description            = "envboot environment ${local.environment_digest}"
  update_default_version = true

  image_id      = var.image_id
  instance_type = var.instance_type
  key_name      = var.key_name
  ebs_optimized = true
  user_data     = local.user_data_base64

  # A template with interfaces of its own refuses groups and subnets beside them.
  vpc_security_group_ids = var.associate_public_ip_address == null ? local.security_group_ids : null

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }

  monitoring {
    enabled = var.detailed_monitoring
  }

  block_device_mappings {
    device_name = var.root_device_name

    ebs {
      delete_on_termination = true
      encrypted             = true
      kms_key_id            = var.root_volume_kms_key_arn
      volume_size           = var.root_volume_size
      volume_type           = "gp3"
      iops                  = var.root_volume_iops
      throughput            = var.root_volume_throughput
    }
  }

  dynamic "network_interfaces" {
    for_each = var.associate_public_ip_address == null ? [] : [var.associate_public_ip_address]

    content {
      associate_public_ip_address = network_interfaces.value
      delete_on_termination       = true
      device_index                = 0
      security_groups             = local.security_group_ids
    }
  }

  # The provider's default tags do not reach what a template launches.
  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags = merge(local.tags, {
        Name                  = var.name
        "envboot:environment" = local.environment_digest
      })
    }
  }

  tags = local.tags

  lifecycle {
    precondition {
      condition     = var.environment_digest == null || var.manifest == null || var.environment_digest == local.manifest_digest
      error_message = "Expected `environment_digest` to be the manifest's, `${coalesce(local.manifest_digest, "none")}`, found `${coalesce(var.environment_digest, "none")}`."
    }
  }
}
