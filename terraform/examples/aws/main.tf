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
  tags = { team = "research" }

  bucket_name          = var.bucket_name
  base_expiration_days = 30
  allow_publish        = true

  # Bucket and role come first: rendering needs them.
  create_launch_template = var.user_data_file != null
  user_data_base64       = var.user_data_file == null ? null : file(var.user_data_file)
  manifest               = var.manifest_file == null ? null : file(var.manifest_file)

  vpc_id        = data.aws_vpc.default.id
  instance_type = "m6i.large"

  create_autoscaling_group = true
  subnet_ids               = data.aws_subnets.default.ids
  max_size                 = 8
  desired_capacity         = 2

  mixed_instances = {
    instance_types                           = [{ type = "m6i.large" }, { type = "m5.large" }, { type = "m7i.xlarge", weight = 2 }]
    on_demand_base_capacity                  = 1
    on_demand_percentage_above_base_capacity = 0
  }

  instance_refresh = {
    min_healthy_percentage = 50
  }
}
