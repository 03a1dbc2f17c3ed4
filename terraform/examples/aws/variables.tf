variable "region" {
  description = "Region of everything."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z-]+-[0-9]$", var.region))
    error_message = "Expected a region, as in `eu-central-1`."
  }
}

variable "name" {
  description = "Name of the fleet."
  type        = string
  default     = "forecast"

  validation {
    condition     = length(var.name) >= 2
    error_message = "Expected at least two characters."
  }
}

variable "bucket_name" {
  description = "Name of the bucket to make."
  type        = string

  validation {
    condition     = !startswith(var.bucket_name, "s3://")
    error_message = "Expected a name, without `s3://`."
  }
}

variable "user_data_file" {
  description = "What `render-userdata --for terraform` wrote; null while there is none."
  type        = string
  default     = null

  validation {
    condition     = var.user_data_file == null ? true : fileexists(var.user_data_file)
    error_message = "Expected a file that is there."
  }
}

variable "manifest_file" {
  description = "What `envboot lock` wrote."
  type        = string
  default     = null

  validation {
    condition     = var.manifest_file == null ? var.user_data_file == null : fileexists(var.manifest_file)
    error_message = "Expected the manifest that the user-data was rendered from."
  }
}
