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
  bucket_arn = "arn:${local.partition}:s3:::${var.bucket_name}"
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:Access logs are the account's own choice: `access_log_bucket` turns them on
  #checkov:skip=CKV_AWS_21:Keys are digests of their content and are created once: there is nothing to go back to
  #checkov:skip=CKV_AWS_144:A copy elsewhere brings nothing: what is missing is installed and published again
  #checkov:skip=CKV_AWS_145:A KMS key is the account's own choice: `kms_key_arn` takes one, else S3 encrypts with its own
  #checkov:skip=CKV2_AWS_62:Nothing listens for new objects
  count = var.create_bucket ? 1 : 0

  bucket        = var.bucket_name
  force_destroy = var.bucket_force_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  count = var.create_bucket ? 1 : 0

  bucket                  = aws_s3_bucket.this[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  count = var.create_bucket ? 1 : 0

  bucket = aws_s3_bucket.this[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  count = var.create_bucket ? 1 : 0

  bucket = aws_s3_bucket.this[0].id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# The same rules under the same names as `envboot store init` makes.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:The rule `uploads` does, which the scan misses beside dynamic ones
  count = var.create_bucket ? 1 : 0

  bucket = aws_s3_bucket.this[0].id

  dynamic "rule" {
    for_each = local.lives

    content {
      id     = "envboot-${local.root}${rule.key}"
      status = "Enabled"

      filter {
        prefix = "${local.root}${rule.key}/"
      }

      expiration {
        days = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  rule {
    id     = "envboot-${local.root}uploads"
    status = "Enabled"

    filter {
      prefix = local.root
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_logging" "this" {
  count = var.create_bucket && var.access_log_bucket != null ? 1 : 0

  bucket        = aws_s3_bucket.this[0].id
  target_bucket = var.access_log_bucket
  target_prefix = "${var.bucket_name}/"
}

data "aws_iam_policy_document" "tls_only" {
  count = var.create_bucket ? 1 : 0

  statement {
    sid       = "EnvbootTlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arn, "${local.bucket_arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  count = var.create_bucket ? 1 : 0

  bucket = aws_s3_bucket.this[0].id
  policy = data.aws_iam_policy_document.tls_only[0].json

  # S3 refuses one of the two while the other is being written.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
