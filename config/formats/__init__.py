"""How the admin writes times and numbers, by language: Django's FORMAT_MODULE_PATH."""
