"""OpenTelemetry traces of requests: docs/tracing.md. Imported where the operator asks for them, and nowhere else."""
