resource "google_compute_region_instance_group_manager" "this" {
  count = var.create_instance_template && var.create_instance_group ? 1 : 0

  name                      = var.name
  base_instance_name        = var.name
  region                    = var.region
  target_size               = var.target_size
  target_stopped_size       = var.standby == null ? null : var.standby.stopped
  target_suspended_size     = var.standby == null ? null : var.standby.suspended
  distribution_policy_zones = var.zones
  # Several machine types go with an even or any distribution only.
  distribution_policy_target_shape = length(var.machine_types) > 0 ? "ANY" : "EVEN"
  wait_for_instances               = var.wait_for_instances

  version {
    instance_template = google_compute_instance_template.this[0].self_link_unique
  }

  # A new template rolls the group.
  update_policy {
    type                         = var.rolling_update == null ? "OPPORTUNISTIC" : "PROACTIVE"
    minimal_action               = "REPLACE"
    replacement_method           = "SUBSTITUTE"
    max_surge_fixed              = var.rolling_update == null ? null : var.rolling_update.max_surge
    max_unavailable_fixed        = var.rolling_update == null ? null : var.rolling_update.max_unavailable
    instance_redistribution_type = length(var.machine_types) > 0 ? "NONE" : "PROACTIVE"
  }

  dynamic "instance_flexibility_policy" {
    for_each = length(var.machine_types) > 0 ? [var.machine_types] : []

    content {
      instance_selections {
        name          = "envboot"
        machine_types = instance_flexibility_policy.value
      }
    }
  }

  dynamic "standby_policy" {
    for_each = var.standby == null ? [] : [var.standby]

    content {
      mode              = "SCALE_OUT_POOL"
      initial_delay_sec = standby_policy.value.initial_delay_seconds
    }
  }
}
