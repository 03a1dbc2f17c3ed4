provider "aws" {
  region = var.region
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

module "fleet" {
  source = "../../modules/aws"

  name = var.name

  create_bucket = false
  bucket_name   = var.bucket_name
  key_prefix    = "envboot"
  allow_publish = true

  user_data_base64   = local.rendered.user_data_base64
  environment_digest = local.rendered.environment_digest

  vpc_id                   = data.aws_vpc.default.id
  create_autoscaling_group = true
  subnet_ids               = data.aws_subnets.default.ids
  min_size                 = 1
  max_size                 = 4

  warm_pool = {
    min_size = 1
  }
}
