# A network that others made may let things in, as the default one does; machines need nothing.
resource "google_compute_firewall" "this" {
  count = var.deny_ingress ? 1 : 0

  name                    = "${var.name}-deny-ingress"
  description             = "Nothing comes in to machines of ${var.name}"
  network                 = var.network
  direction               = "INGRESS"
  priority                = 900
  source_ranges           = ["0.0.0.0/0"]
  target_service_accounts = [google_service_account.this.email]

  deny {
    protocol = "all"
  }
}
