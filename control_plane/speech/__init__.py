"""What voice messages say, where no platform tells: asked of a provider, behind ingest."""
