variable "name" {
  description = "Name of the role, instance profile, security group, launch template and autoscaling group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,61}[a-z0-9]$", var.name))
    error_message = "Expected 2 to 63 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "tags" {
  description = "Tags of everything, machines and their volumes included."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : length(key) >= 1 && length(key) <= 128 && length(value) <= 256 && !startswith(key, "aws:")])
    error_message = "Expected keys of 1 to 128 characters that do not begin with `aws:`, and values of at most 256."
  }
}

# --- the environment -------------------------------------------------------------------------

variable "user_data_base64" {
  description = "What `render-userdata --for terraform` writes, or `user_data_base64` of `envboot terraform-external`. Nothing in it ends. Needed for a launch template."
  type        = string
  default     = null

  validation {
    condition     = !var.create_launch_template || var.user_data_base64 != null
    error_message = "Expected user-data for the launch template. Without any yet, set `create_launch_template = false`: bucket and role come first."
  }

  validation {
    condition     = var.user_data_base64 == null || can(regex("^[A-Za-z0-9+/]+={0,2}$", trimspace(var.user_data_base64)))
    error_message = "Expected base64, found something else. `render-userdata --for terraform` writes base64; do not decode it."
  }

  # `H4sI` is gzip. Anything else that is no text of cloud-init would run nothing, silently.
  validation {
    condition = var.user_data_base64 == null ? true : (
      startswith(trimspace(var.user_data_base64), "H4sI") ||
      can(regex("^(#|Content-Type:|MIME-Version:)", base64decode(trimspace(var.user_data_base64))))
    )
    error_message = "Expected base64 of a cloud-init document or of gzip, found base64 of something else. Encoded twice, cloud-init ignores it: leave out `base64encode` and `filebase64`."
  }

  validation {
    condition     = var.user_data_base64 == null ? true : floor(length(trim(trimspace(var.user_data_base64), "=")) * 3 / 4) <= 16384
    error_message = "Expected at most 16384 bytes before base64, which is all that EC2 takes. `render-userdata --for terraform` keeps within it."
  }
}

variable "environment_digest" {
  description = "Digest of the environment in the user-data, as `sha256:…`; a tag of machines and launch template. Give this or `manifest`."
  type        = string
  default     = null

  validation {
    condition     = var.environment_digest == null || can(regex("^sha256:[0-9a-f]{64}$", var.environment_digest))
    error_message = "Expected `sha256:` and 64 hexadecimal digits."
  }

  validation {
    condition     = !var.create_launch_template || var.environment_digest != null || var.manifest != null
    error_message = "Expected `environment_digest` or `manifest`."
  }
}

variable "manifest" {
  description = "The manifest in the user-data, as `envboot lock` prints it, in place of `environment_digest` or as a check of it: `file(\"manifest.json\")`."
  type        = string
  default     = null

  validation {
    condition     = var.manifest == null || can(jsondecode(var.manifest).base.prefix)
    error_message = "Expected the JSON of a manifest, as `envboot lock` prints it."
  }
}

# --- the bucket ------------------------------------------------------------------------------

variable "bucket_name" {
  description = "Name of the bucket, to make or to use."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "Expected a bucket's name, without `s3://`: 3 to 63 lower-case letters, digits, hyphens and dots."
  }
}

variable "create_bucket" {
  description = "Make the bucket. Otherwise it is used as it is, as `envboot store init` or someone else made it."
  type        = bool
  default     = true
  nullable    = false
}

variable "key_prefix" {
  description = "What keys in the bucket begin with, without slashes at the ends: `s3://<bucket_name>/<key_prefix>` is the store. Empty for the whole bucket."
  type        = string
  default     = "envboot"
  nullable    = false

  validation {
    condition     = can(regex("^$|^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", var.key_prefix))
    error_message = "Expected names of letters, digits, `.`, `_` and `-`, with single slashes between them."
  }
}

variable "bucket_force_destroy" {
  description = "Let `terraform destroy` delete a bucket that is not empty."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that the bucket is encrypted with, which machines then may use. S3's own key otherwise."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "Expected the ARN of a key, not of an alias: `arn:aws:kms:<region>:<account>:key/<id>`."
  }
}

variable "base_expiration_days" {
  description = "Days after which an unused base expires, null for never. Every rendering refreshes it, machines do not; a missing base is installed, and published again where machines may."
  type        = number
  default     = 90

  validation {
    condition     = var.base_expiration_days == null ? true : var.base_expiration_days >= 1 && floor(var.base_expiration_days) == var.base_expiration_days
    error_message = "Expected whole days, at least 1, or null."
  }
}

variable "layer_expiration_days" {
  description = "Days after which local layers of launches with signed URLs end. Layers that roles read are kept beside their environment."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.layer_expiration_days >= 1 && floor(var.layer_expiration_days) == var.layer_expiration_days
    error_message = "Expected whole days, at least 1."
  }
}

variable "report_expiration_days" {
  description = "Days after which what machines report, print and make expires."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.report_expiration_days >= 1 && floor(var.report_expiration_days) == var.report_expiration_days
    error_message = "Expected whole days, at least 1."
  }
}

variable "access_log_bucket" {
  description = "Name of a bucket for the bucket's access logs; without it there are none."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "Expected a bucket's name, without `s3://`."
  }
}

# --- the role --------------------------------------------------------------------------------

variable "allow_publish" {
  description = "Let machines that had to install publish what they made, for the next ones. They can create a base, never overwrite one."
  type        = bool
  default     = false
  nullable    = false
}

variable "secret_arns" {
  description = "Secrets of Secrets Manager and parameters of Systems Manager that machines may read: those that `secrets` of the user-data names. A key of your own needs `kms:Decrypt` in `additional_policy_arns`."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.secret_arns : can(regex("^arn:aws[a-z-]*:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:|ssm:[a-z0-9-]+:[0-9]{12}:parameter/).", arn))])
    error_message = "Expected ARNs of secrets (`arn:aws:secretsmanager:…:secret:NAME`) and parameters (`arn:aws:ssm:…:parameter/NAME`)."
  }
}

variable "additional_policy_arns" {
  description = "More policies for the machines' role: a name of your own, and the policy's ARN."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.additional_policy_arns) : can(regex("^arn:[a-z-]+:iam::", arn))])
    error_message = "Expected ARNs of IAM policies."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds the role."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::", var.permissions_boundary_arn))
    error_message = "Expected the ARN of an IAM policy."
  }
}

# --- the network -----------------------------------------------------------------------------

variable "create_security_group" {
  description = "Make a security group without inbound rules."
  type        = bool
  default     = true
  nullable    = false
}

variable "vpc_id" {
  description = "VPC of the security group; the default VPC otherwise."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "Expected the id of a VPC, as in `vpc-0123456789abcdef0`."
  }
}

variable "security_group_ids" {
  description = "More security groups of the machines, such as one that lets a cluster's members talk."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "Expected ids of security groups, as in `sg-0123456789abcdef0`."
  }
}

variable "egress_ports" {
  description = "TCP ports that machines may reach: 443 is enough for the bucket, PyPI and conda's channels."
  type        = set(number)
  default     = [443]
  nullable    = false

  validation {
    condition     = alltrue([for port in var.egress_ports : port >= 1 && port <= 65535])
    error_message = "Expected ports from 1 to 65535."
  }
}

variable "egress_cidr_blocks" {
  description = "IPv4 networks that machines may reach."
  type        = list(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = alltrue([for block in var.egress_cidr_blocks : can(cidrnetmask(block))])
    error_message = "Expected IPv4 networks, as in `10.0.0.0/8`."
  }
}

variable "egress_ipv6_cidr_blocks" {
  description = "IPv6 networks that machines may reach."
  type        = list(string)
  default     = ["::/0"]
  nullable    = false

  validation {
    condition     = alltrue([for block in var.egress_ipv6_cidr_blocks : can(cidrhost(block, 0)) && strcontains(block, ":")])
    error_message = "Expected IPv6 networks, as in `::/0`."
  }
}

variable "associate_public_ip_address" {
  description = "Give machines a public address or none; the subnet decides where this is null."
  type        = bool
  default     = null
}

# --- the launch template ---------------------------------------------------------------------

variable "create_launch_template" {
  description = "Make the launch template. Without it there are only bucket, role and security group: what rendering needs."
  type        = bool
  default     = true
  nullable    = false
}

variable "image_id" {
  description = "The image: an AMI's id, or `resolve:ssm:<parameter>`, which is looked up at each launch and so never changes a plan. Debian, Ubuntu or Amazon Linux 2023, of the manifest's platform."
  type        = string
  default     = "resolve:ssm:/aws/service/debian/release/12/latest/amd64"
  nullable    = false

  validation {
    condition     = can(regex("^(ami-[0-9a-f]{8,17}|resolve:ssm:/?[A-Za-z0-9/_.:-]+)$", var.image_id))
    error_message = "Expected `ami-…` or `resolve:ssm:/path/of/a/parameter`."
  }
}

variable "instance_type" {
  description = "Instance type; `mixed_instances` names others beside it."
  type        = string
  default     = "m6i.large"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "Expected an instance type, as in `m6i.large`."
  }
}

variable "key_name" {
  description = "Name of an EC2 key pair; none is needed."
  type        = string
  default     = null

  validation {
    condition     = var.key_name == null ? true : length(var.key_name) >= 1 && length(var.key_name) <= 255
    error_message = "Expected a name of 1 to 255 characters."
  }
}

variable "root_device_name" {
  description = "The image's root device: `/dev/xvda` for Debian and Amazon Linux, `/dev/sda1` for Ubuntu. Another name adds a second disk and leaves the root as the image has it."
  type        = string
  default     = "/dev/xvda"
  nullable    = false

  validation {
    condition     = can(regex("^/dev/[a-z0-9]+$", var.root_device_name))
    error_message = "Expected a device, as in `/dev/xvda`."
  }
}

variable "root_volume_size" {
  description = "GiB of the root volume: about three times the environment, and the system's own 4."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.root_volume_size >= 8 && var.root_volume_size <= 16384
    error_message = "Expected 8 to 16384 GiB."
  }
}

variable "root_volume_iops" {
  description = "Operations a second of the root volume, 3000 where this is null."
  type        = number
  default     = null

  validation {
    condition     = var.root_volume_iops == null ? true : var.root_volume_iops >= 3000 && var.root_volume_iops <= 16000
    error_message = "Expected 3000 to 16000."
  }
}

variable "root_volume_throughput" {
  description = "MiB a second of the root volume, 125 where this is null. Unpacking a large environment is faster with more."
  type        = number
  default     = null

  validation {
    condition     = var.root_volume_throughput == null ? true : var.root_volume_throughput >= 125 && var.root_volume_throughput <= 1000
    error_message = "Expected 125 to 1000."
  }
}

variable "root_volume_kms_key_arn" {
  description = "ARN of the KMS key of the root volume; the account's default otherwise. It is encrypted in any case."
  type        = string
  default     = null

  validation {
    condition     = var.root_volume_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.root_volume_kms_key_arn))
    error_message = "Expected the ARN of a key, not of an alias: `arn:aws:kms:<region>:<account>:key/<id>`."
  }
}

variable "detailed_monitoring" {
  description = "Have EC2 measure every minute, which costs extra."
  type        = bool
  default     = false
  nullable    = false
}

# --- the autoscaling group -------------------------------------------------------------------

variable "create_autoscaling_group" {
  description = "Make an autoscaling group."
  type        = bool
  default     = false
  nullable    = false
}

variable "subnet_ids" {
  description = "Subnets of the group's machines."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Expected ids of subnets, as in `subnet-0123456789abcdef0`."
  }

  validation {
    condition     = !var.create_autoscaling_group || length(var.subnet_ids) > 0
    error_message = "Expected at least one subnet for the autoscaling group."
  }
}

variable "min_size" {
  description = "Fewest machines."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_size >= 0 && var.min_size <= var.max_size
    error_message = "Expected 0 to `max_size`."
  }
}

variable "max_size" {
  description = "Most machines."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.max_size >= 0
    error_message = "Expected 0 or more."
  }
}

variable "desired_capacity" {
  description = "Machines now; null leaves it to whoever scales the group."
  type        = number
  default     = null

  validation {
    condition     = var.desired_capacity == null ? true : var.desired_capacity >= var.min_size && var.desired_capacity <= var.max_size
    error_message = "Expected `min_size` to `max_size`."
  }
}

variable "target_group_arns" {
  description = "Load balancer target groups, whose health checks then count."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.target_group_arns : can(regex("^arn:[a-z-]+:elasticloadbalancing:", arn))])
    error_message = "Expected ARNs of target groups."
  }
}

variable "health_check_grace_period" {
  description = "Seconds that a new machine has before its health counts. An install on a miss takes minutes."
  type        = number
  default     = 600
  nullable    = false

  validation {
    condition     = var.health_check_grace_period >= 0
    error_message = "Expected 0 or more seconds."
  }
}

variable "wait_for_capacity_timeout" {
  description = "How long `apply` waits for the group's machines to run, as in `10m`; `0` for not at all."
  type        = string
  default     = "10m"
  nullable    = false

  validation {
    condition     = can(regex("^(0|([0-9]+[hms])+)$", var.wait_for_capacity_timeout))
    error_message = "Expected a duration, as in `10m`, or `0`."
  }
}

variable "mixed_instances" {
  description = "Several instance types, and Spot: weights count towards the group's sizes. All of one architecture."
  type = object({
    instance_types = list(object({
      type   = string
      weight = optional(number)
    }))
    on_demand_base_capacity                  = optional(number, 0)
    on_demand_percentage_above_base_capacity = optional(number, 100)
    spot_allocation_strategy                 = optional(string, "price-capacity-optimized")
  })
  default = null

  validation {
    condition     = var.mixed_instances == null ? true : length(var.mixed_instances.instance_types) >= 1
    error_message = "Expected at least one instance type."
  }

  validation {
    condition     = var.mixed_instances == null ? true : var.mixed_instances.on_demand_base_capacity >= 0 && var.mixed_instances.on_demand_percentage_above_base_capacity >= 0 && var.mixed_instances.on_demand_percentage_above_base_capacity <= 100
    error_message = "Expected a base of 0 or more, and 0 to 100 percent."
  }

  validation {
    condition     = var.mixed_instances == null ? true : contains(["price-capacity-optimized", "capacity-optimized", "capacity-optimized-prioritized", "lowest-price"], var.mixed_instances.spot_allocation_strategy)
    error_message = "Expected `price-capacity-optimized`, `capacity-optimized`, `capacity-optimized-prioritized` or `lowest-price`."
  }
}

variable "instance_refresh" {
  description = "How a changed launch template reaches the group's machines; null leaves the old ones alone."
  type = object({
    min_healthy_percentage = optional(number, 90)
    max_healthy_percentage = optional(number, 110)
    instance_warmup        = optional(number)
    auto_rollback          = optional(bool, false)
    skip_matching          = optional(bool, false)
  })
  default = {}

  validation {
    condition     = var.instance_refresh == null ? true : var.instance_refresh.min_healthy_percentage >= 0 && var.instance_refresh.min_healthy_percentage <= 100 && var.instance_refresh.max_healthy_percentage >= 100 && var.instance_refresh.max_healthy_percentage <= 200 && var.instance_refresh.max_healthy_percentage - var.instance_refresh.min_healthy_percentage <= 100
    error_message = "Expected 0 to 100 percent at least and 100 to 200 at most, and no more than 100 between them."
  }

  # https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html
  validation {
    condition     = var.instance_refresh == null ? true : !startswith(var.image_id, "resolve:") || !(var.instance_refresh.auto_rollback || var.instance_refresh.skip_matching)
    error_message = "Expected an AMI's id in `image_id`: AWS rolls back and skips matching machines only where the image is no parameter."
  }
}

variable "warm_pool" {
  description = "Machines that are kept ready beside the group. They boot, fetch and run the command when they enter the pool, and run it again when they leave it stopped."
  type = object({
    pool_state                  = optional(string, "Stopped")
    min_size                    = optional(number, 0)
    max_group_prepared_capacity = optional(number)
    reuse_on_scale_in           = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.warm_pool == null ? true : contains(["Stopped", "Running", "Hibernated"], var.warm_pool.pool_state)
    error_message = "Expected `Stopped`, `Running` or `Hibernated`."
  }

  validation {
    condition     = var.warm_pool == null ? true : var.warm_pool.min_size >= 0
    error_message = "Expected 0 or more machines."
  }

  validation {
    condition     = var.warm_pool == null || var.mixed_instances == null ? true : var.mixed_instances.on_demand_percentage_above_base_capacity == 100
    error_message = "Expected no Spot in `mixed_instances`: a warm pool keeps machines stopped, which AWS does not do with Spot."
  }
}
