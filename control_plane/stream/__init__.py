"""Each tenant's append-only event stream."""
