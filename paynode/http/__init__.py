"""The ingress: what merchants, customers and PSPs reach over HTTP."""
