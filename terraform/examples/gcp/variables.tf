variable "project" {
  description = "Project of everything."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]+$", var.project))
    error_message = "Expected a project's id."
  }
}

variable "region" {
  description = "Region of the machines."
  type        = string
  default     = "europe-west3"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Expected a region, as in `europe-west3`."
  }
}

variable "name" {
  description = "Name of the fleet."
  type        = string
  default     = "forecast"

  validation {
    condition     = length(var.name) >= 6
    error_message = "Expected at least six characters."
  }
}

variable "bucket_name" {
  description = "Name of the bucket to make."
  type        = string

  validation {
    condition     = !startswith(var.bucket_name, "gs://")
    error_message = "Expected a name, without `gs://`."
  }
}

variable "user_data_file" {
  description = "What `render-userdata --for gce` wrote; null while there is none."
  type        = string
  default     = null

  validation {
    condition     = var.user_data_file == null ? true : fileexists(var.user_data_file)
    error_message = "Expected a file that is there."
  }
}

variable "environment_digest" {
  description = "Digest of the environment, as `sha256:…`."
  type        = string
  default     = null

  validation {
    condition     = var.environment_digest == null ? true : startswith(var.environment_digest, "sha256:")
    error_message = "Expected `sha256:…`."
  }
}
