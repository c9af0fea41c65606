"""The registry's schema, revision by revision; run by 'm13 registry init'."""
