"""What models.yaml may say."""
