"""The notifier's tables; every statement is in ``sql/``."""
