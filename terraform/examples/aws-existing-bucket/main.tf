provider "aws" {
  region = var.region
}

module "machine" {
  source = "../../modules/aws"

  name = var.name

  create_bucket = false
  bucket_name   = var.bucket_name
  key_prefix    = "envboot"

  user_data_base64   = file(var.user_data_file)
  environment_digest = var.environment_digest

  # Ubuntu's root device has another name than Debian's.
  image_id         = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
  root_device_name = "/dev/sda1"
}

# One machine, made anew when its environment changes.
resource "aws_instance" "this" {
  #checkov:skip=CKV_AWS_8:The launch template encrypts the root volume
  #checkov:skip=CKV_AWS_79:The launch template requires IMDSv2
  #checkov:skip=CKV_AWS_126:The launch template says whether EC2 measures every minute
  #checkov:skip=CKV_AWS_135:The launch template turns it on
  #checkov:skip=CKV2_AWS_41:The launch template has the instance profile
  launch_template {
    id      = module.machine.launch_template_id
    version = module.machine.launch_template_version
  }

  lifecycle {
    create_before_destroy = true
    replace_triggered_by  = [terraform_data.environment]
    # The launch template gives them.
    ignore_changes = [tags, tags_all, user_data]
  }
}

resource "terraform_data" "environment" {
  input = module.machine.environment_digest
}
