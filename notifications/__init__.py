"""What users are told about what happened to them and their orders."""
