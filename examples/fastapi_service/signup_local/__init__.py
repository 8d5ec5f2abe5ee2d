"""The registration service on one machine, with a mailbox and an operator's view: `python -m signup_local`."""
