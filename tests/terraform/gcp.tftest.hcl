variables {
  name               = "forecast"
  bucket_name        = "team-envs"
  user_data          = "#!/bin/sh\n"
  environment_digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
}

run "a_plain_document_goes_as_it_is" {
  command = plan

  assert {
    condition     = output.metadata["user-data"] == var.user_data && !can(output.metadata["user-data-encoding"])
    error_message = "It is not touched."
  }

  assert {
    condition     = output.metadata["block-project-ssh-keys"] == "TRUE"
    error_message = "Keys of the project open no machine."
  }
}

run "base64_of_gzip_is_declared" {
  command = plan

  variables {
    user_data = "H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IVzDkAgDVvDcJEQAAAA==\n"
  }

  assert {
    condition     = output.metadata["user-data-encoding"] == "base64" && output.metadata["user-data"] == trimspace(var.user_data)
    error_message = "cloud-init decodes it."
  }
}

run "a_script_takes_the_other_key" {
  command = plan

  variables {
    user_data_key = "startup-script"
  }

  assert {
    condition     = output.metadata["startup-script"] == var.user_data && !can(output.metadata["user-data"])
    error_message = "It is a start-up script."
  }
}

run "bucket_and_service_account_come_first" {
  command = plan

  variables {
    create_instance_template = false
    user_data                = null
    environment_digest       = null
  }
}

run "a_document_of_parts_is_no_script" {
  command = plan

  variables {
    user_data     = "Content-Type: multipart/mixed"
    user_data_key = "startup-script"
  }

  expect_failures = [var.user_data_key]
}

run "base64_of_base64_is_refused" {
  command = plan

  variables {
    user_data = base64encode("H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IVzDkAgDVvDcJEQAAAA==")
  }

  expect_failures = [var.user_data]
}

run "what_is_too_large_is_refused" {
  command = plan

  variables {
    user_data = format("#%262144s", "x")
  }

  expect_failures = [var.user_data]
}

run "wrong_values_are_refused" {
  command = plan

  variables {
    name                  = "fleet"
    bucket_name           = "gs://team-envs"
    labels                = { Team = "research" }
    create_instance_group = true
    rolling_update        = { max_surge = 0 }
  }

  expect_failures = [var.name, var.bucket_name, var.labels, var.region, var.rolling_update]
}
