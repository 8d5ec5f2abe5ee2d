"""An example service: its Lambda function, and the stack that deploys it."""
