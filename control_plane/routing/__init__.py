"""Who answers next: member states, the waiting queue, transfers, silence, ratings."""
