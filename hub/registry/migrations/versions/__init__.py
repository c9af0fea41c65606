"""One module a revision; none changes after its release."""
