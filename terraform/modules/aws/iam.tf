locals {
  secrets    = [for arn in var.secret_arns : arn if split(":", arn)[2] == "secretsmanager"]
  parameters = [for arn in var.secret_arns : arn if split(":", arn)[2] == "ssm"]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "guest" {
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = [for key in ["base/*", "environments/*", "launches/*/seats-*.json", "launches/*/wanted-*.json", "layers/*", "packages/*", "tools/*"] : "${local.bucket_arn}/${local.root}${key}"]
  }

  # IAM fills in which machine asks.
  statement {
    sid       = "ReadOwnSecret"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/${local.root}launches/*/secrets/&{ec2:SourceInstanceARN}.json"]
  }

  # With this S3 may say that a key is missing, where it would say that it is forbidden.
  statement {
    sid       = "TellMissing"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${local.root}*"]
    }
  }

  statement {
    sid       = "Create"
    actions   = ["s3:PutObject"]
    resources = [for key in concat(["reports/*/&{ec2:SourceInstanceARN}/*"], var.allow_publish ? ["base/*/env.tar.zst", "base/*/index.json"] : []) : "${local.bucket_arn}/${local.root}${key}"]

    # Only with `If-None-Match`: what is there cannot be overwritten.
    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = length(local.secrets) == 0 ? [] : [true]

    content {
      sid       = "ReadSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = local.secrets
    }
  }

  dynamic "statement" {
    for_each = length(local.parameters) == 0 ? [] : [true]

    content {
      sid       = "ReadParameters"
      actions   = ["ssm:GetParameter"]
      resources = local.parameters
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      sid       = "UseKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "this" {
  name                 = var.name
  description          = "What machines of ${var.name} may do: fetch their environment, and report"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_iam_role_policy" "this" {
  name   = "envboot"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.guest.json
}

resource "aws_iam_role_policy_attachment" "additional" {
  for_each = var.additional_policy_arns

  role       = aws_iam_role.this.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "this" {
  name = var.name
  role = aws_iam_role.this.name
  tags = local.tags
}
