variable "name" {
  description = "Name of the service account, templates and group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "Expected 6 to 30 lower-case letters, digits and hyphens, beginning with a letter: a service account's name."
  }
}

variable "labels" {
  description = "Labels of everything that takes some."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Expected lower-case letters, digits, `_` and `-`, at most 63."
  }
}

# --- the environment -------------------------------------------------------------------------

variable "user_data" {
  description = "What `render-userdata --for gce` writes, or `--for gce-startup-script` with `user_data_key = \"startup-script\"`: `file(\"user-data\")`. Needed for an instance template."
  type        = string
  default     = null

  validation {
    condition     = !var.create_instance_template || var.user_data != null
    error_message = "Expected user-data for the instance template. Without any yet, set `create_instance_template = false`: bucket and service account come first."
  }

  # `H4sI` is base64 of gzip, which the module declares; base64 of anything else would run nothing.
  validation {
    condition     = var.user_data == null ? true : can(regex("^(#|Content-Type:|MIME-Version:|H4sI[A-Za-z0-9+/]+={0,2}\\s*$)", var.user_data))
    error_message = "Expected a cloud-init document, a script, or base64 of gzip, as `render-userdata --for gce` writes it. Leave out `base64encode` and `filebase64`."
  }

  validation {
    condition     = var.user_data == null ? true : length(var.user_data) <= 262144
    error_message = "Expected at most 262144 bytes, which is all that a metadata value takes."
  }
}

variable "user_data_key" {
  description = "Metadata key of the user-data: `user-data` for images with cloud-init, `startup-script` for those without, as Google's Debian."
  type        = string
  default     = "user-data"
  nullable    = false

  validation {
    condition     = contains(["user-data", "startup-script"], var.user_data_key)
    error_message = "Expected `user-data` or `startup-script`."
  }

  validation {
    condition     = var.user_data_key == "user-data" || var.user_data == null ? true : startswith(var.user_data, "#!")
    error_message = "Expected a script for `startup-script`: render with `--for gce-startup-script`."
  }
}

variable "environment_digest" {
  description = "Digest of the environment in the user-data, as `sha256:…`; metadata of the machines."
  type        = string
  default     = null

  validation {
    condition     = var.environment_digest == null ? !var.create_instance_template : can(regex("^sha256:[0-9a-f]{64}$", var.environment_digest))
    error_message = "Expected `sha256:` and 64 hexadecimal digits."
  }
}

# --- the bucket ------------------------------------------------------------------------------

variable "bucket_name" {
  description = "Name of the bucket, to make or to use."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.bucket_name))
    error_message = "Expected a bucket's name, without `gs://`."
  }
}

variable "create_bucket" {
  description = "Make the bucket. Otherwise it is used as it is."
  type        = bool
  default     = true
  nullable    = false
}

variable "bucket_location" {
  description = "Region, dual-region or multi-region of the bucket."
  type        = string
  default     = "EU"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+$", var.bucket_location))
    error_message = "Expected a location, as in `europe-west3`."
  }
}

variable "key_prefix" {
  description = "What keys in the bucket begin with, without slashes at the ends. Empty for the whole bucket."
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

variable "kms_key_name" {
  description = "Key that the bucket is encrypted with, which the storage service agent must be allowed to use; Google's own otherwise."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "Expected `projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>`."
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
  description = "Days after which local layers of launches with signed URLs end."
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
    condition     = var.access_log_bucket == null || can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.access_log_bucket))
    error_message = "Expected a bucket's name, without `gs://`."
  }
}

variable "allow_publish" {
  description = "Let machines that had to install publish what they made, for the next ones. They can create a base, never overwrite one."
  type        = bool
  default     = false
  nullable    = false
}

variable "secret_ids" {
  description = "Secrets of Secret Manager that machines may read, as `projects/PROJECT/secrets/NAME`: those that `--secret` of the user-data names."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.secret_ids : can(regex("^projects/[^/]+/secrets/[A-Za-z0-9_-]+$", id))])
    error_message = "Expected `projects/PROJECT/secrets/NAME`, without a version."
  }
}

# --- the network -----------------------------------------------------------------------------

variable "network" {
  description = "Network of the machines, unless `subnetwork` says, and of the firewall rule."
  type        = string
  default     = "default"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9:/._-]+$", var.network))
    error_message = "Expected the name or self link of a network."
  }
}

variable "subnetwork" {
  description = "Subnetwork of the machines. It needs Private Google Access or Cloud NAT where machines have no public address."
  type        = string
  default     = null

  validation {
    condition     = var.subnetwork == null || can(regex("^[A-Za-z0-9:/._-]+$", var.subnetwork))
    error_message = "Expected the name or self link of a subnetwork."
  }
}

variable "network_tags" {
  description = "Network tags of the machines, for firewall rules of yours."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for tag in var.network_tags : can(regex("^[a-z][a-z0-9-]{0,62}$", tag))])
    error_message = "Expected lower-case letters, digits and hyphens, at most 63."
  }
}

variable "public_ip" {
  description = "Give machines a public address."
  type        = bool
  default     = false
  nullable    = false
}

variable "deny_ingress" {
  description = "Refuse whatever comes in, before any rule of the network with a priority above 900 allows it. A cluster whose members talk needs a rule of its own below that."
  type        = bool
  default     = true
  nullable    = false
}

# --- the instance template -------------------------------------------------------------------

variable "create_instance_template" {
  description = "Make the instance template. Without it there are only bucket, service account and firewall rule: what rendering needs."
  type        = bool
  default     = true
  nullable    = false
}

variable "machine_type" {
  description = "Machine type."
  type        = string
  default     = "n2-standard-2"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+$", var.machine_type))
    error_message = "Expected a machine type, as in `n2-standard-2`."
  }
}

variable "source_image" {
  description = "Image or image family, of the manifest's platform. Ubuntu's have cloud-init."
  type        = string
  default     = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9:/._-]+$", var.source_image))
    error_message = "Expected an image, as in `ubuntu-os-cloud/ubuntu-2404-lts-amd64`."
  }
}

variable "boot_disk_size_gb" {
  description = "GB of the boot disk: about three times the environment, and the system's own 4."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.boot_disk_size_gb >= 10 && var.boot_disk_size_gb <= 65536
    error_message = "Expected 10 to 65536 GB."
  }
}

variable "boot_disk_type" {
  description = "Type of the boot disk."
  type        = string
  default     = "pd-balanced"
  nullable    = false

  validation {
    condition     = contains(["pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced"], var.boot_disk_type)
    error_message = "Expected `pd-standard`, `pd-balanced`, `pd-ssd` or `hyperdisk-balanced`."
  }
}

variable "boot_disk_kms_key" {
  description = "Self link of the key of the boot disk; Google's own otherwise. It is encrypted in any case."
  type        = string
  default     = null

  validation {
    condition     = var.boot_disk_kms_key == null || can(regex("projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.boot_disk_kms_key))
    error_message = "Expected `projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>`."
  }
}

variable "spot" {
  description = "Ask for Spot machines, which Google may stop at any time."
  type        = bool
  default     = false
  nullable    = false
}

# --- the managed instance group --------------------------------------------------------------

variable "create_instance_group" {
  description = "Make a regional managed instance group."
  type        = bool
  default     = false
  nullable    = false
}

variable "region" {
  description = "Region of the group."
  type        = string
  default     = null

  validation {
    condition     = var.region == null ? !var.create_instance_group : can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Expected the group's region, as in `europe-west3`."
  }
}

variable "zones" {
  description = "Zones of the group; null leaves them to Google."
  type        = list(string)
  default     = null

  validation {
    condition     = var.zones == null ? true : alltrue([for zone in var.zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", zone))])
    error_message = "Expected zones, as in `europe-west3-a`."
  }
}

variable "target_size" {
  description = "Machines of the group; null leaves it to whoever scales it."
  type        = number
  default     = null

  validation {
    condition     = var.target_size == null ? true : var.target_size >= 0
    error_message = "Expected 0 or more."
  }
}

variable "machine_types" {
  description = "Machine types that the group may use beside each other, all of one architecture; the template's alone where this is empty."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for type in var.machine_types : can(regex("^[a-z0-9-]+$", type))])
    error_message = "Expected machine types, as in `n2-standard-2`."
  }
}

variable "rolling_update" {
  description = "How a new template reaches the group's machines; null leaves the old ones alone. Both numbers are 0 or at least the number of zones."
  type = object({
    max_surge       = optional(number, 3)
    max_unavailable = optional(number, 0)
  })
  default = {}

  validation {
    condition     = var.rolling_update == null ? true : var.rolling_update.max_surge >= 0 && var.rolling_update.max_unavailable >= 0 && var.rolling_update.max_surge + var.rolling_update.max_unavailable > 0
    error_message = "Expected 0 or more of each, and not 0 of both."
  }
}

variable "standby" {
  description = "Machines that are kept ready beside the group, stopped or suspended, from so many seconds after their start."
  type = object({
    stopped               = optional(number, 0)
    suspended             = optional(number, 0)
    initial_delay_seconds = optional(number, 300)
  })
  default = null

  validation {
    condition     = var.standby == null ? true : var.standby.stopped >= 0 && var.standby.suspended >= 0 && var.standby.initial_delay_seconds >= 0 && var.standby.initial_delay_seconds <= 3600
    error_message = "Expected 0 or more machines, and 0 to 3600 seconds."
  }
}

variable "wait_for_instances" {
  description = "Let `apply` wait until the group has all its machines."
  type        = bool
  default     = false
  nullable    = false
}
