"""An example service with a table of its own beside the tables of the registrations."""
