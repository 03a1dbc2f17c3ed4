# Terraform runs this at each plan. It renders the same document for the same environment, so that
# a plan changes only with the environment, the command or envboot itself.
data "external" "envboot" {
  program = ["envboot", "terraform-external"]

  query = {
    store    = "s3://${var.bucket_name}/envboot"
    manifest = abspath(var.manifest_file)
    command  = jsonencode(["python", "-m", "trading.serve"])
    env      = jsonencode({ LOG_LEVEL = "info" })
  }
}

locals {
  rendered = data.external.envboot.result
}
