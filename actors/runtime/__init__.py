"""The runtime below every actor: five ports, mailboxes, supervision, the journal."""
