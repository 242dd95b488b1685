"""The subcommands of ``lpnode``, one module each."""
