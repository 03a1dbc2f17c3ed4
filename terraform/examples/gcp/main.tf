provider "google" {
  project = var.project
  region  = var.region
}

module "fleet" {
  source = "../../modules/gcp"

  name        = var.name
  bucket_name = var.bucket_name
  labels      = { team = "research" }

  # Bucket and service account come first: rendering may need them.
  create_instance_template = var.user_data_file != null
  user_data                = var.user_data_file == null ? null : file(var.user_data_file)
  environment_digest       = var.environment_digest

  public_ip             = true
  create_instance_group = true
  region                = var.region
  target_size           = 2
}
