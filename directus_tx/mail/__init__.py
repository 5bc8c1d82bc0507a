"""Mail: composing messages, and sending them by SMTP."""
