variable "region" {
  description = "Region of everything, the bucket's too."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z-]+-[0-9]$", var.region))
    error_message = "Expected a region, as in `eu-central-1`."
  }
}

variable "name" {
  description = "Name of the machine."
  type        = string
  default     = "notebook"

  validation {
    condition     = length(var.name) >= 2
    error_message = "Expected at least two characters."
  }
}

variable "bucket_name" {
  description = "Name of the bucket, which is there."
  type        = string

  validation {
    condition     = !startswith(var.bucket_name, "s3://")
    error_message = "Expected a name, without `s3://`."
  }
}

variable "user_data_file" {
  description = "What `render-userdata --for terraform` wrote."
  type        = string

  validation {
    condition     = fileexists(var.user_data_file)
    error_message = "Expected a file that is there."
  }
}

variable "environment_digest" {
  description = "Digest of the environment, as `sha256:…`."
  type        = string

  validation {
    condition     = startswith(var.environment_digest, "sha256:")
    error_message = "Expected `sha256:…`."
  }
}
