"""What a tenant may take with it, and what a contact may have removed."""
