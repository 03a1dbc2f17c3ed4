mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = {
      json = "{}"
    }
  }

  mock_data "aws_partition" {
    defaults = {
      partition = "aws-cn"
    }
  }

  mock_resource "aws_iam_instance_profile" {
    defaults = {
      arn = "arn:aws-cn:iam::123456789012:instance-profile/fleet"
    }
  }
}

variables {
  name        = "fleet"
  bucket_name = "team-envs"
  subnet_ids  = ["subnet-0a"]

  # gzip of `#!/bin/sh`, and a digest.
  user_data_base64   = "H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IVzDkAgDVvDcJEQAAAA=="
  environment_digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
}

run "bucket_and_role_come_first" {
  command = plan

  variables {
    create_launch_template = false
    user_data_base64       = null
    environment_digest     = null
  }

  assert {
    condition     = length(aws_launch_template.this) == 0 && length(aws_autoscaling_group.this) == 0
    error_message = "Without user-data there is no launch template."
  }

  assert {
    condition     = length(aws_s3_bucket.this) == 1 && length(aws_s3_bucket_policy.this) == 1
    error_message = "The bucket is there, with its policy."
  }
}

run "the_launch_template_is_closed" {
  command = plan

  assert {
    condition     = aws_launch_template.this[0].metadata_options[0].http_tokens == "required" && aws_launch_template.this[0].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2 is required, one hop away."
  }

  assert {
    condition     = aws_launch_template.this[0].block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "The root volume is encrypted."
  }

  assert {
    condition     = aws_launch_template.this[0].user_data == var.user_data_base64
    error_message = "User-data goes as it is."
  }

  assert {
    condition     = toset([for each in aws_launch_template.this[0].tag_specifications : each.resource_type]) == toset(["instance", "volume"])
    error_message = "Machines and volumes have tags."
  }

  assert {
    condition     = length(aws_autoscaling_group.this) == 0
    error_message = "A group is made only where it is asked for."
  }
}

run "a_bucket_that_is_there_is_left_alone" {
  command = plan

  variables {
    create_bucket = false
    key_prefix    = ""
  }

  assert {
    condition     = length(aws_s3_bucket.this) + length(aws_s3_bucket_policy.this) + length(aws_s3_bucket_lifecycle_configuration.this) == 0
    error_message = "Nothing of it is managed."
  }

  assert {
    condition     = output.store_url == "s3://team-envs"
    error_message = "Without a prefix the bucket is the store."
  }

  assert {
    condition     = output.bucket_arn == "arn:aws-cn:s3:::team-envs"
    error_message = "ARNs are of the partition."
  }
}

run "machines_read_the_secrets_that_are_named" {
  command = plan

  variables {
    secret_arns = [
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-a1B2c3",
      "arn:aws:ssm:eu-central-1:123456789012:parameter/team/token",
    ]
  }

  assert {
    condition = {
      for each in data.aws_iam_policy_document.guest.statement : one(each.actions) => one(each.resources)
      if contains(["ReadSecrets", "ReadParameters"], each.sid)
      } == {
      "secretsmanager:GetSecretValue" = var.secret_arns[0]
      "ssm:GetParameter"              = var.secret_arns[1]
    }
    error_message = "Each by its own action, and no other."
  }
}

run "no_secret_is_readable_by_default" {
  command = plan

  assert {
    condition     = !anytrue([for each in data.aws_iam_policy_document.guest.statement : startswith(coalesce(each.sid, "-"), "ReadS") || startswith(coalesce(each.sid, "-"), "ReadP")])
    error_message = "Nothing that nobody named."
  }
}

run "what_is_no_secret_is_refused" {
  command = plan

  variables {
    secret_arns = ["arn:aws:s3:::team-envs/key"]
  }

  expect_failures = [var.secret_arns]
}

run "the_bucket_is_encrypted_with_a_key" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/abc"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this[0].rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    error_message = "The key is the bucket's."
  }

  assert {
    condition     = contains(flatten(data.aws_iam_policy_document.guest.statement[*].actions), "kms:GenerateDataKey")
    error_message = "Machines may use it."
  }
}

run "machines_only_read_and_report" {
  command = plan

  assert {
    condition = tomap({ for each in data.aws_iam_policy_document.guest.statement : each.sid => sort(each.resources) }) == tomap({
      Create        = tolist(["arn:aws-cn:s3:::team-envs/envboot/reports/*/&{ec2:SourceInstanceARN}/*"])
      Read          = tolist([for key in ["base/*", "environments/*", "launches/*/seats-*.json", "launches/*/wanted-*.json", "layers/*", "packages/*", "tools/*"] : "arn:aws-cn:s3:::team-envs/envboot/${key}"])
      ReadOwnSecret = tolist(["arn:aws-cn:s3:::team-envs/envboot/launches/*/secrets/&{ec2:SourceInstanceARN}.json"])
      TellMissing   = tolist(["arn:aws-cn:s3:::team-envs"])
    })
    error_message = "These and no others."
  }

  assert {
    condition     = toset(flatten(data.aws_iam_policy_document.guest.statement[*].actions)) == toset(["s3:GetObject", "s3:ListBucket", "s3:PutObject"])
    error_message = "These and no others."
  }
}

run "machines_may_publish_and_replace_nothing" {
  command = plan

  variables {
    allow_publish = true
  }

  assert {
    condition = toset([for each in data.aws_iam_policy_document.guest.statement : each.resources if each.sid == "Create"][0]) == toset([
      "arn:aws-cn:s3:::team-envs/envboot/base/*/env.tar.zst",
      "arn:aws-cn:s3:::team-envs/envboot/base/*/index.json",
      "arn:aws-cn:s3:::team-envs/envboot/reports/*/&{ec2:SourceInstanceARN}/*",
    ])
    error_message = "They create archives and their own reports: no names, no desired states, no reports of others."
  }

  # A copy of an object, onto itself or over another, has no such header.
  assert {
    condition     = alltrue([for each in data.aws_iam_policy_document.guest.statement : one(each.condition).variable == "s3:if-none-match" && one(each.condition).test == "Null" if contains(each.actions, "s3:PutObject")])
    error_message = "They create only what is not there."
  }
}

run "the_group_follows_the_newest_version" {
  command = plan

  variables {
    create_autoscaling_group = true
    max_size                 = 3
    warm_pool                = {}
  }

  assert {
    condition     = length(aws_autoscaling_group.this[0].instance_refresh) == 1 && length(aws_autoscaling_group.this[0].warm_pool) == 1
    error_message = "It is rolled, and has a warm pool."
  }

  assert {
    condition     = length(aws_autoscaling_group.this[0].mixed_instances_policy) == 0
    error_message = "One instance type needs no policy."
  }
}

run "the_digest_is_the_manifests" {
  command = plan

  variables {
    environment_digest = null
    # What JSON of Terraform escapes and canonical JSON does not.
    manifest = "{\"manifest_version\":1,\"base\":{\"prefix\":\"/a&b<c>d\u2028é\"}}"
  }

  assert {
    condition     = output.environment_digest == "sha256:799dde67428fc8f33f989def2126f5af7ac9580e4b55b4395c5bb0dca2763b5b"
    error_message = "It is what envboot says."
  }
}

run "another_manifest_is_refused" {
  command = plan

  variables {
    manifest = "{\"manifest_version\":1,\"base\":{\"prefix\":\"/env\"}}"
  }

  expect_failures = [aws_launch_template.this]
}

run "no_user_data_is_refused" {
  command = plan

  variables {
    user_data_base64 = null
  }

  expect_failures = [var.user_data_base64]
}

run "text_is_refused" {
  command = plan

  variables {
    user_data_base64 = "#cloud-config"
  }

  expect_failures = [var.user_data_base64]
}

run "base64_of_base64_is_refused" {
  command = plan

  variables {
    user_data_base64 = base64encode("H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IVzDkAgDVvDcJEQAAAA==")
  }

  expect_failures = [var.user_data_base64]
}

run "what_is_too_large_is_refused" {
  command = plan

  variables {
    user_data_base64 = base64encode(format("#%16384s", "x"))
  }

  expect_failures = [var.user_data_base64]
}

run "what_just_fits_is_taken" {
  command = plan

  variables {
    user_data_base64 = "${base64encode(format("#%16383s", "x"))}\n"
  }

  assert {
    condition     = !endswith(aws_launch_template.this[0].user_data, "\n")
    error_message = "A final line break is cut."
  }
}

run "no_digest_is_refused" {
  command = plan

  variables {
    environment_digest = null
  }

  expect_failures = [var.environment_digest]
}

run "a_group_without_subnets_is_refused" {
  command = plan

  variables {
    create_autoscaling_group = true
    subnet_ids               = []
  }

  expect_failures = [var.subnet_ids]
}

run "a_warm_pool_of_spot_is_refused" {
  command = plan

  variables {
    warm_pool = {}
    mixed_instances = {
      instance_types                           = [{ type = "m6i.large" }]
      on_demand_percentage_above_base_capacity = 0
    }
  }

  expect_failures = [var.warm_pool]
}

run "rolling_back_a_parameters_image_is_refused" {
  command = plan

  variables {
    instance_refresh = { auto_rollback = true }
  }

  expect_failures = [var.instance_refresh]
}

run "wrong_names_are_refused" {
  command = plan

  variables {
    name        = "Fleet"
    bucket_name = "s3://team-envs"
    key_prefix  = "/envboot/"
    image_id    = "ubuntu"
    kms_key_arn = "alias/key"
  }

  expect_failures = [var.name, var.bucket_name, var.key_prefix, var.image_id, var.kms_key_arn]
}
