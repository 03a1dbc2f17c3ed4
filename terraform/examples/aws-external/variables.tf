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
  description = "Name of the fleet."
  type        = string
  default     = "serving"

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

variable "manifest_file" {
  description = "What `envboot lock` wrote."
  type        = string

  validation {
    condition     = fileexists(var.manifest_file)
    error_message = "Expected a file that is there."
  }
}
