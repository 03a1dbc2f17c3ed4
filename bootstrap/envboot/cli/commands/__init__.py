"""The subcommands of `envboot`, one module each, imported only when it is invoked."""
