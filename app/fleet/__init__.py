"""Decides: which models are resident, who is admitted, which worker answers; launches and ends workers."""
