"""The ways in. Each accepts clients, builds the access request, and obeys the verdict."""
