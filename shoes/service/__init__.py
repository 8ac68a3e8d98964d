"""`shoes up` as a service of the system: a launchd agent on macOS, a systemd user unit on Linux.

What is written is a pure function of the settings; what the system is asked to do with it goes through its own tools.
No secret is written: passwords and webhooks stay in the `.env` of the project's folder, which the service starts in.
"""
