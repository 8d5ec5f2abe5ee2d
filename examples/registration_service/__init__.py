"""An example of a service: its function, and the stack that deploys it."""
